//go:build bench

package http

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/sallyport/sallyport/internal/freeport"
)

// A way is one path to the same files: the process in the middle, and where it listens.
type way struct {
	name    string
	process *exec.Cmd
	address string // host:port, TLS
	head    []string

	rates, tails, cpu map[string][]float64 // by size
}

const child = "SALLYPORT_WAY"

// TestWays compares ways to one nginx by wrk, one after the other and round by round, each
// with TLS towards the client: make bench-http.
func TestWays(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o755))
	must(t, os.Mkdir(filepath.Join(dir, "www"), 0o755))
	sizes := []struct {
		name        string
		bytes       int
		connections string
	}{{"1k", 1 << 10, "-c64"}, {"1m", 1 << 20, "-c16"}}
	for _, size := range sizes {
		must(t, os.WriteFile(filepath.Join(dir, "www", size.name), make([]byte, size.bytes), 0o644))
	}
	w := &world{}
	w.certificates(t)
	must(t, os.WriteFile(filepath.Join(dir, "pair.pem"), w.pair, 0o600))
	files := portFor(t)
	user := ""
	if os.Geteuid() == 0 {
		user = "user root;" // else its workers do not get into this test's folder
	}
	nginx := func(name, body string) *exec.Cmd {
		conf := filepath.Join(dir, name+".conf")
		must(t, os.WriteFile(conf, []byte(fmt.Sprintf(`daemon off; %[4]s worker_processes 2; pid %[1]s/%[2]s.pid; error_log /dev/null crit;
events { worker_connections 4096; }
http { access_log off; sendfile on; keepalive_requests 100000000; client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
%[3]s }`, dir, name, body, user)), 0o600))
		return started(t, exec.Command("/usr/sbin/nginx", "-c", conf, "-e", "/dev/null"))
	}
	ssl := fmt.Sprintf("ssl_certificate %[1]s/pair.pem; ssl_certificate_key %[1]s/pair.pem; ", dir)
	nginx("files", fmt.Sprintf("server { listen %s; root %s/www; }", files, dir))
	direct, before := portFor(t), portFor(t)
	ways := []*way{
		{name: "direct TLS (nginx)", address: direct, process: nginx("direct", fmt.Sprintf("server { listen %s ssl; %s root %s/www; }", direct, ssl, dir))},
		{name: "nginx", address: before, process: nginx("before", fmt.Sprintf(`upstream files { server %s; keepalive 128; } server { listen %s ssl; %s location / { proxy_pass http://files; proxy_http_version 1.1; proxy_set_header Connection ""; } }`, files, before, ssl))},
	}
	for _, role := range []string{"ReverseProxy", "gate", "gate, identity kept"} {
		cmd, said := offspring(t, role, files)
		ways = append(ways, &way{name: role, process: cmd, address: said[0], head: said[1:]})
	}
	if _, err := exec.LookPath("caddy"); err == nil {
		address := portFor(t)
		conf := filepath.Join(dir, "Caddyfile")
		must(t, os.WriteFile(conf, []byte(fmt.Sprintf("{\n admin off\n auto_https off\n}\nhttps://%[1]s {\n tls %[2]s/pair.pem %[2]s/pair.pem\n reverse_proxy %[3]s\n}\n", address, dir, files)), 0o600))
		cmd := exec.Command("caddy", "run", "--config", conf, "--adapter", "caddyfile")
		cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir)
		ways = append(ways, &way{name: "caddy", process: started(t, cmd), address: address})
	}
	if _, err := exec.LookPath("oauth2-proxy"); err == nil { // signed in or not, it does the same work then
		address, pair := portFor(t), filepath.Join(dir, "pair.pem")
		cmd := exec.Command("oauth2-proxy", "--https-address="+address, "--http-address=-", "--tls-cert-file="+pair, "--tls-key-file="+pair, "--upstream=http://"+files+"/",
			"--provider=github", "--client-id=x", "--client-secret=x", "--cookie-secret=0123456789abcdef0123456789abcdef", "--email-domain=*", "--skip-auth-route=.*",
			"--request-logging=false", "--auth-logging=false", "--standard-logging=false")
		ways = append(ways, &way{name: "oauth2-proxy", process: started(t, cmd), address: address})
	}
	for _, way := range ways {
		way.rates, way.tails, way.cpu = map[string][]float64{}, map[string][]float64{}, map[string][]float64{}
		eventually(t, way.name+" does not answer", func() bool {
			c, err := tls.Dial("tcp", way.address, &tls.Config{InsecureSkipVerify: true, ServerName: "localhost"}) //nolint:gosec // only whether it listens
			if err == nil {
				_ = c.Close()
			}
			return err == nil
		})
	}
	for round := range 4 { // the first one warms up
		for _, size := range sizes {
			for _, way := range ways {
				way.drive(t, size.name, size.connections, round > 0)
			}
		}
	}
	for _, size := range sizes {
		base := median(ways[0].rates[size.name])
		for _, way := range ways {
			rate := median(way.rates[size.name])
			fmt.Printf("| %s | %s | %.0f | %.2f | %.1f | %.0f |\n", size.name, way.name, rate, rate/base, median(way.tails[size.name]), median(way.cpu[size.name]))
		}
	}
}

func median(list []float64) float64 {
	sorted := slices.Sorted(slices.Values(list))
	return sorted[len(sorted)/2]
}

var (
	wrkRate  = regexp.MustCompile(`Requests/sec:\s+([0-9.]+)`)
	wrkTail  = regexp.MustCompile(`99%\s+([0-9.]+)(us|ms|s)`)
	wrkCount = regexp.MustCompile(`(\d+) requests in`)
	wrkBad   = regexp.MustCompile(`Non-2xx|Socket errors`)
)

func (y *way) drive(t *testing.T, file, connections string, counts bool) {
	t.Helper()
	args := []string{"-t2", connections, "-d4s", "--latency"}
	for _, line := range y.head {
		args = append(args, "-H", line)
	}
	before := busy(y.process.Process.Pid)
	out, err := exec.Command("wrk", append(args, "https://"+y.address+"/"+file)...).CombinedOutput()
	must(t, err)
	used := busy(y.process.Process.Pid) - before
	if wrkBad.Match(out) {
		t.Fatalf("%s: %s", y.name, out)
	}
	if !counts {
		return
	}
	number := func(r *regexp.Regexp) float64 {
		m := r.FindSubmatch(out)
		if m == nil {
			t.Fatalf("wrk said %s", out)
		}
		n, err := strconv.ParseFloat(string(m[1]), 64)
		must(t, err)
		if len(m) > 2 {
			n *= map[string]float64{"us": 0.001, "ms": 1, "s": 1000}[string(m[2])]
		}
		return n
	}
	y.rates[file] = append(y.rates[file], number(wrkRate))
	y.tails[file] = append(y.tails[file], number(wrkTail))
	y.cpu[file] = append(y.cpu[file], float64(used.Microseconds())/number(wrkCount))
}

func portFor(t *testing.T) string {
	t.Helper()
	port, err := freeport.Pick()
	must(t, err)
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}

// busy is what a process and its children have used so far (proc_pid_stat(5)).
func busy(pid int) time.Duration {
	children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	var sum int
	for _, id := range append(strings.Fields(string(children)), strconv.Itoa(pid)) {
		text, err := os.ReadFile("/proc/" + id + "/stat")
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(text), ") ")
		fields := strings.Fields(rest)
		user, _ := strconv.Atoi(fields[11])
		system, _ := strconv.Atoi(fields[12])
		sum += user + system
	}
	return time.Duration(sum) * 10 * time.Millisecond // USER_HZ is 100
}

func started(t *testing.T, cmd *exec.Cmd) *exec.Cmd {
	t.Helper()
	must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Signal(os.Interrupt); _ = cmd.Wait() })
	return cmd
}

// offspring starts this program again as one of the ways; it says where it is.
func offspring(t *testing.T, role, upstream string) (*exec.Cmd, []string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestWaysChild$", "-test.timeout=30m")
	cmd.Env = append(os.Environ(), child+"="+role, child+"_TO="+upstream)
	out, err := cmd.StdoutPipe()
	must(t, err)
	in, err := cmd.StdinPipe()
	must(t, err)
	cmd.Stderr = os.Stderr
	must(t, cmd.Start())
	t.Cleanup(func() { _ = in.Close(); _ = cmd.Wait() })
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if text, ok := strings.CutPrefix(lines.Text(), "READY "); ok {
			go func() { _, _ = io.Copy(io.Discard, out) }()
			return cmd, strings.Split(text, "\t")
		}
	}
	t.Fatal(role, " does not come up")
	return nil, nil
}

// TestWaysChild is a gate, a plain ReverseProxy or a target for websockets.
func TestWaysChild(t *testing.T) {
	upstream := os.Getenv(child + "_TO")
	switch os.Getenv(child) {
	case "gate", "gate, identity kept":
		extra := "websocket = true"
		if os.Getenv(child) != "gate" {
			extra += "\nidentity_for = \"30s\""
		}
		w := newWorld(t, http.NotFoundHandler(), options{address: upstream, host: "127.0.0.1", extra: extra, perUser: 100_000})
		fmt.Printf("READY %s\tAuthorization: Bearer %s\n", w.addr, w.token(t)) // wrk sends the address as the name in TLS
		_, _ = io.Copy(io.Discard, os.Stdin)
	case "ReverseProxy":
		w := &world{}
		w.certificates(t)
		to := &url.URL{Scheme: "http", Host: upstream}
		proxy := &httputil.ReverseProxy{
			Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }, BufferPool: buffers,
			Transport: &http.Transport{MaxIdleConns: 256, MaxIdleConnsPerHost: 256, DisableCompression: true},
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		fmt.Printf("READY %s\n", l.Addr())
		srv := &http.Server{Handler: proxy, TLSConfig: &tls.Config{Certificates: []tls.Certificate{w.cert}}}
		go func() { _ = srv.ServeTLS(l, "", "") }()
		_, _ = io.Copy(io.Discard, os.Stdin)
		_ = srv.Close()
	case "target":
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		fmt.Printf("READY %s\n", l.Addr())
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if socket, err := (&websocket.Upgrader{}).Upgrade(w, r, nil); err == nil {
				_, _, _ = socket.ReadMessage()
				_ = socket.Close()
			}
		})}
		go func() { _ = srv.Serve(l) }()
		_, _ = io.Copy(io.Discard, os.Stdin)
		_ = srv.Close()
	}
}

// TestIdleWebsockets opens websockets that say nothing and sees by how much the gate grows.
func TestIdleWebsockets(t *testing.T) {
	_, at := offspring(t, "target", "")
	gate, said := offspring(t, "gate", at[0])
	head := http.Header{}
	for _, line := range said[1:] {
		name, value, _ := strings.Cut(line, ": ")
		head.Set(name, value)
	}
	d := websocket.Dialer{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, HandshakeTimeout: 20 * time.Second} //nolint:gosec // its certificate is the child's own
	open := func() {
		socket, res, err := d.DialContext(t.Context(), "wss://"+said[0]+"/", head)
		must(t, err)
		_ = res.Body.Close()
		t.Cleanup(func() { _ = socket.Close() })
	}
	resident := func() float64 {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", gate.Process.Pid))
		must(t, err)
		pages, err := strconv.Atoi(strings.Fields(string(text))[1])
		must(t, err)
		return float64(pages*os.Getpagesize()) / 1024
	}
	for range 50 {
		open()
	}
	before := resident()
	const n = 1000
	for range n {
		open()
	}
	<-time.After(3 * time.Second) // buffers go back, the collector runs
	fmt.Printf("idle websocket: %.1f KiB (RSS growth over %d)\n", (resident()-before)/n, n)
}
