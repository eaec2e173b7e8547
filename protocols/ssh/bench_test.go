package ssh_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	xssh "golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/internal/gatetest"
	"github.com/sallyport/sallyport/internal/sshdtest"
)

// OpenSSH's client on its way to the same sshd: straight, through another stock sshd
// (ssh -J), and through the gate. All take turns within one run, because ratios of
// different runs say nothing on a shared machine:
//
//	go test -run - -bench . -benchtime 5x ./protocols/ssh
const (
	direct = "direct"
	jump   = "jump"
	gate   = "gate"   // with the output on the record
	digest = "digest" // with its digest there
)

// ways are the words before a command, for each way.
func ways(b *testing.B) map[string][]string {
	b.Helper()
	w := newWorld(b, setup{})
	hop := sshdtest.Start(b, nil)
	path := filepath.Join(b.TempDir(), "id")
	line := sshdtest.Line(sshdtest.Key(b, path).PublicKey())
	for _, s := range []*sshdtest.Server{w.sshd, hop} {
		must(b, os.WriteFile(filepath.Join(s.Dir, "authorized_keys"), []byte(line), 0o644))
	}
	stock := filepath.Join(b.TempDir(), "ssh_config")
	must(b, os.WriteFile(stock, fmt.Appendf(nil, `
Host *
  IdentityFile %s
  IdentitiesOnly yes
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
  LogLevel ERROR
  Ciphers aes128-gcm@openssh.com
Host target
  HostName 127.0.0.1
  Port %s
  User %s
Host hop
  HostName 127.0.0.1
  Port %s
  User %s
`, path, w.sshd.Port(), w.sshd.Account, hop.Port(), hop.Account), 0o600))
	gated := append([]string{"-F", w.config, "-c", "aes128-gcm@openssh.com", "-o", "LogLevel=ERROR"}, w.certificate(b, gatetest.Alice)...)
	return map[string][]string{
		direct: {"-F", stock, "target"},
		jump:   {"-F", stock, "-J", "hop", "target"},
		gate:   append(gated[:len(gated):len(gated)], "ops@web-1@gate"),
		digest: append(gated[:len(gated):len(gated)], "ops@bulk@gate"),
	}
}

func run(b *testing.B, args []string, command string) time.Duration {
	b.Helper()
	cmd := exec.Command("ssh", append(args[:len(args):len(args)], command)...)
	cmd.Stderr = os.Stderr
	since := time.Now()
	must(b, cmd.Run())
	return time.Since(since)
}

// compare runs a command by each way in turn, and reports medians and their ratios to
// the direct way: more is better. units is how much one run is.
func compare(b *testing.B, command string, units float64, unit string, names ...string) {
	b.Helper()
	all := ways(b)
	rates := map[string][]float64{}
	for b.Loop() {
		for _, name := range names {
			rates[name] = append(rates[name], units/run(b, all[name], command).Seconds())
		}
	}
	b.ReportMetric(0, "ns/op") // of all ways together, which says nothing
	b.ReportMetric(median(rates[direct]), direct+"-"+unit)
	for _, name := range names[1:] {
		ratios := make([]float64, len(rates[name]))
		for i := range ratios {
			ratios[i] = rates[name][i] / rates[direct][i]
		}
		b.ReportMetric(median(ratios), name+"-ratio")
	}
}

func median(list []float64) float64 {
	sorted := slices.Sorted(slices.Values(list))
	return sorted[len(sorted)/2]
}

// BenchmarkBulk moves 1 GiB of a command's output.
func BenchmarkBulk(b *testing.B) {
	before := cpu()
	compare(b, "yes a line of text that is neither long nor short | head -c 1G", 1<<30/1e6, "MB/s", direct, jump, gate, digest)
	b.ReportMetric((cpu()-before).Seconds()/float64(2*b.N), "gate-cpu-s/GiB") // of both ways through it
}

// BenchmarkHandshake is a whole ssh with a command that does nothing.
func BenchmarkHandshake(b *testing.B) {
	compare(b, "true", 1, "ssh/s", direct, jump, gate)
}

// cpu is this process's time, which is the gate's but for little.
func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // cannot fail for this process
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// status is a number of /proc/self/status, in KiB.
func status(t testing.TB, key string) int64 {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	must(t, err)
	_, rest, _ := strings.Cut(string(text), key+":")
	n, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	must(t, err)
	return n
}

// inUse is what is alive on the heap, and the stacks, in KiB.
func inUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc+m.StackInuse) >> 10 //nolint:gosec // of this machine
}

// crowd is where TestMain opens many sessions, so that their clients' memory is not the gate's.
const crowd = "SSH_TEST_CROWD"

// BenchmarkIdle weighs 500 sessions whose command waits, as growth of this process; and by
// the heap and stacks that they keep, which says what they need whatever the collector does.
func BenchmarkIdle(b *testing.B) {
	const sessions = 500
	w := newWorld(b, setup{})
	path, _ := w.certificateFor(b, w.SignIn(b, gatetest.Alice).ID)
	for b.Loop() {
		before, kept := status(b, "VmRSS"), inUse()
		cmd := exec.Command(os.Args[0], "-test.run=-")
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %d", crowd, w.addr, path, sessions))
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		must(b, err)
		in, err := cmd.StdinPipe()
		must(b, err)
		must(b, cmd.Start())
		line, err := bufio.NewReader(out).ReadString('\n')
		if err != nil {
			b.Fatalf("no crowd: %q, %v", line, err)
		}
		b.ReportMetric(float64(status(b, "VmRSS")-before)/sessions, "KiB/session")
		debug.FreeOSMemory() // as the collector does by itself within minutes of idling
		b.ReportMetric(float64(status(b, "VmRSS")-before)/sessions, "settled-KiB/session")
		b.ReportMetric(float64(inUse()-kept)/sessions, "kept-KiB/session")
		must(b, in.Close())
		must(b, cmd.Wait())
	}
}

// crowded opens sessions until its input ends.
func crowded(addr, path string, n int) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	key, err := xssh.ParsePrivateKey(text)
	if err != nil {
		return err
	}
	if text, err = os.ReadFile(path + "-cert.pub"); err != nil {
		return err
	}
	public, _, _, _, err := xssh.ParseAuthorizedKey(text)
	if err != nil {
		return err
	}
	signer, err := xssh.NewCertSigner(public.(*xssh.Certificate), key)
	if err != nil {
		return err
	}
	for range n {
		conn, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", addr)
		if err != nil {
			return err
		}
		c, channels, requests, err := xssh.NewClientConn(conn, addr, &xssh.ClientConfig{
			User: "ops@web-1", Auth: []xssh.AuthMethod{xssh.PublicKeys(signer)}, HostKeyCallback: xssh.InsecureIgnoreHostKey(), //nolint:gosec // other tests verify it
		})
		if err != nil {
			return err
		}
		s, err := xssh.NewClient(c, channels, requests).NewSession()
		if err != nil {
			return err
		}
		if err := s.Start("exec sleep 1000"); err != nil {
			return err
		}
	}
	fmt.Println("open")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

func TestMain(m *testing.M) {
	if what := strings.Fields(os.Getenv(crowd)); len(what) == 3 {
		n, err := strconv.Atoi(what[2])
		if err == nil {
			err = crowded(what[0], what[1], n)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "crowd:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// However much a command prints, and however it is recorded, the gate's memory stays as
// it is.
func TestMemoryStaysFlat(t *testing.T) {
	w := newWorld(t, setup{})
	for _, target := range []string{"web-1", "bulk"} {
		must(t, os.WriteFile("/proc/self/clear_refs", []byte("5"), 0)) // VmHWM starts anew
		before := status(t, "VmRSS")
		cmd := exec.Command("ssh", append(append([]string{"-F", w.config}, w.certificate(t, gatetest.Alice)...), "ops@"+target+"@gate", fmt.Sprintf("yes a line of text that is neither long nor short | head -c %dM", flatSize))...)
		cmd.Stderr = os.Stderr
		must(t, cmd.Run())
		if grown := (status(t, "VmHWM") - before) >> 10; grown > 32 {
			t.Errorf("%s: %d MiB more for %d MiB of output", target, grown, flatSize)
		} else {
			t.Logf("%s: %d MiB more at its most", target, grown)
		}
	}
}
