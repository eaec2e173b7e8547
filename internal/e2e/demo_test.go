package e2e

import (
	"bufio"
	"bytes"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/pgtest"
)

// patience bounds every wait of these tests: nothing takes so long unless it hangs.
const patience = 30 * time.Second

// binary is the program under test, built once.
var binary string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "sallyport-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
	binary = filepath.Join(dir, "sallyport")
	args := []string{"build", "-o", binary}
	args = append(args, strings.Fields(os.Getenv("SALLYPORT_TEST_BUILDFLAGS"))...)
	out, err := exec.Command("go", append(args, "github.com/sallyport/sallyport/cmd/sallyport")...).CombinedOutput()
	if err != nil {
		fmt.Fprintf(os.Stderr, "build the program under test: %v\n%s", err, out)
		return 1
	}
	defer endShared()
	return pgtest.Main(m)
}

// ready is the first line of `sallyport demo --json`.
type ready struct {
	Ready    bool   `json:"ready"`
	Web      string `json:"web"`
	Postgres string `json:"postgres"`
	App      string `json:"app"`
	SSH      string `json:"ssh"`
	Issuer   string `json:"issuer"`
	CA       string `json:"ca"`
	Dir      string `json:"dir"`
	Users    []user `json:"users"`
	Targets  []struct {
		Name     string   `json:"name"`
		Protocol string   `json:"protocol"`
		Roles    []string `json:"roles"`
	} `json:"targets"`
}

// A user is one of the invented people.
type user struct {
	Email    string   `json:"email"`
	Password string   `json:"password"`
	Groups   []string `json:"groups"`
}

// A demo is one running `sallyport demo`.
type demo struct {
	ready
	roots *x509.CertPool
	cmd   *exec.Cmd
	ended chan struct{} // closed once the program has ended
	err   error         // read after ended
	log   *output

	detours    map[string]string // by port: where its browsers connect instead
	knownHosts string            // empty: the demo's own
}

// output keeps what a program says.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// startDemo starts the program and waits for its first line.
func startDemo(dir string, args ...string) (*demo, error) {
	return launchDemo((*exec.Cmd).Start, dir, args...)
}

func launchDemo(launch func(*exec.Cmd) error, dir string, args ...string) (*demo, error) {
	d := &demo{log: &output{}, ended: make(chan struct{})}
	d.cmd = exec.Command(binary, append([]string{"demo", "--json", "--ports", "random", "--dir", dir}, args...)...)
	d.cmd.Stderr = d.log
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := launch(d.cmd); err != nil {
		return nil, err
	}
	first := make(chan []byte, 1)
	var reading sync.WaitGroup
	reading.Go(func() {
		r := bufio.NewReader(out)
		line, _ := r.ReadBytes('\n') // an end of file is an empty line
		first <- line
		_, _ = io.Copy(d.log, r) // ends with the program
	})
	go func() {
		reading.Wait()
		d.err = d.cmd.Wait()
		close(d.ended)
	}()
	select {
	case line := <-first:
		if err := json.Unmarshal(line, &d.ready); err != nil || !d.Ready {
			_ = d.cmd.Process.Kill()
			<-d.ended
			return nil, fmt.Errorf("the demo's first line is %q; it said: %s", line, d.log)
		}
	case <-time.After(2 * time.Minute):
		_ = d.cmd.Process.Kill()
		<-d.ended
		return nil, fmt.Errorf("the demo is not ready after two minutes; it said: %s", d.log)
	}
	if err := d.trust(); err != nil {
		return nil, errors.Join(err, d.stop())
	}
	return d, nil
}

// trust has browsers believe the demo's CA.
func (d *demo) trust() error {
	pem, err := os.ReadFile(d.CA)
	if err != nil {
		return err
	}
	d.roots = x509.NewCertPool()
	d.roots.AppendCertsFromPEM(pem)
	return nil
}

// stop is Ctrl-C.
func (d *demo) stop() error {
	_ = d.cmd.Process.Signal(os.Interrupt) // it may have ended
	select {
	case <-d.ended:
		return d.err
	case <-time.After(patience):
		_ = d.cmd.Process.Kill()
		<-d.ended
		return fmt.Errorf("the demo did not stop; it said: %s", d.log)
	}
}

// freshDir is a folder that PostgreSQL's own user can enter, which t.TempDir is not.
func freshDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sallyport-e2e-demo-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	return dir
}

// ownDemo is a demo for a test that stops or kills it, or wants another one.
func ownDemo(t *testing.T, args ...string) *demo {
	t.Helper()
	return demoIn(t, freshDir(t), args...)
}

func demoIn(t *testing.T, dir string, args ...string) *demo {
	t.Helper()
	return demoBy(t, (*exec.Cmd).Start, dir, args...)
}

// demoBy is a demo whose process something starts that has a hand in its system calls.
func demoBy(t *testing.T, launch func(*exec.Cmd) error, dir string, args ...string) *demo {
	t.Helper()
	d, err := launchDemo(launch, dir, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		select {
		case <-d.ended:
		default:
			if err := d.stop(); err != nil {
				t.Errorf("stop the demo: %v", err)
			}
		}
		if t.Failed() {
			t.Logf("the demo said:\n%s", tail(d.log.String(), 60))
		}
	})
	return d
}

var shared struct {
	once sync.Once
	dir  string
	demo *demo
	err  error
}

// sharedDemo is one demo for all tests that leave it as they found it. Grants of
// earlier tests are ended first.
func sharedDemo(t *testing.T) *demo {
	t.Helper()
	shared.once.Do(func() {
		if shared.dir, shared.err = os.MkdirTemp("", "sallyport-e2e-shared-"); shared.err != nil {
			return
		}
		if shared.err = os.Chmod(shared.dir, 0o711); shared.err != nil {
			return
		}
		shared.demo, shared.err = startDemo(shared.dir)
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	from := len(shared.demo.log.String())
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the demo said:\n%s", tail(shared.demo.log.String()[from:], 60))
		}
	})
	shared.demo.endGrants(t)
	return shared.demo
}

func endShared() {
	if shared.demo != nil {
		if err := shared.demo.stop(); err != nil {
			fmt.Fprintln(os.Stderr, "stop the demo:", err)
		}
	}
	if shared.dir != "" {
		_ = os.RemoveAll(shared.dir)
	}
}

func tail(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// password is a demo user's.
func (d *demo) password(t *testing.T, email string) string {
	t.Helper()
	for _, u := range d.Users {
		if u.Email == email {
			return u.Password
		}
	}
	t.Fatalf("the demo has no user %s", email)
	return ""
}

// sallyport runs the program as a person whose folder is home.
func (d *demo) sallyport(t *testing.T, home string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command(binary, args...)
	cmd.Env = append(os.Environ(), "SALLYPORT_HOME="+home)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, said.String())
	}
	return out.String(), nil
}

// verify asks for the record to be clean.
func (d *demo) verify(t *testing.T) string {
	t.Helper()
	out, err := d.sallyport(t, t.TempDir(), "audit", "verify", "--config", filepath.Join(d.Dir, "proxy.hcl"))
	if err != nil {
		t.Errorf("verify: %v\n%s", err, out)
	}
	return out
}
