// Package faulttest makes the faults that the end-to-end tests put a gate under: a
// network that is slow, broken or gone, by Shopify's toxiproxy, which runs as a program
// of its own, so that what it needs is no requirement of the product.
package faulttest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/freeport"
)

// A Network is a running toxiproxy; the test ends it.
type Network struct{ api string }

// Start builds and starts the program.
func Start(t testing.TB) *Network {
	t.Helper()
	root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		t.Fatalf("find the module: %v", err)
	}
	binary := filepath.Join(t.TempDir(), "toxiproxy")
	build := exec.Command("go", "build", "-modfile=tools/go.mod", "-o", binary, "github.com/Shopify/toxiproxy/v2/cmd/server")
	build.Dir = strings.TrimSpace(string(root))
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build toxiproxy: %v\n%s", err, out)
	}
	port, err := freeport.Pick()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "-host", "127.0.0.1", "-port", fmt.Sprint(port))
	cmd.Env = append(os.Environ(), "LOG_LEVEL=error")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	})
	n := &Network{api: fmt.Sprintf("http://127.0.0.1:%d", port)}
	deadline := time.Now().Add(20 * time.Second)
	for tick := time.NewTicker(20 * time.Millisecond); ; <-tick.C {
		if _, err := n.call(http.MethodGet, "/version", nil); err == nil {
			tick.Stop()
			return n
		} else if time.Now().After(deadline) {
			t.Fatalf("toxiproxy does not answer: %v", err)
		}
	}
}

func (n *Network) call(method, path string, body any) ([]byte, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequest(method, n.api+path, bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	out, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode/100 != 2 {
		err = fmt.Errorf("%s %s: %s: %s", method, path, answer.Status, out)
	}
	return out, err
}

// A Path is a way to a server through the network.
type Path struct {
	Address string // host:port to connect to
	network *Network
	name    string
}

// Path makes a way to a TCP address; it has no fault yet.
func (n *Network) Path(t testing.TB, to string) *Path {
	t.Helper()
	name := strings.NewReplacer(":", "-", ".", "-").Replace(to)
	out, err := n.call(http.MethodPost, "/proxies", map[string]any{"name": name, "listen": "127.0.0.1:0", "upstream": to, "enabled": true})
	if err != nil {
		t.Fatal(err)
	}
	var made struct{ Listen string }
	if err := json.Unmarshal(out, &made); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = n.call(http.MethodDelete, "/proxies/"+name, nil) })
	return &Path{Address: made.Listen, network: n, name: name}
}

// A Fault is one of toxiproxy's toxics.
type Fault string

// Faults of a network, on both directions.
const (
	Slow   Fault = "latency"    // 300 ms each way, give or take 100
	Narrow Fault = "bandwidth"  // 1 Mbit/s
	Sliced Fault = "slicer"     // bytes come one by one
	Silent Fault = "timeout"    // nothing passes, and nothing is closed
	Broken Fault = "reset_peer" // a connection is reset when something passes
)

func (f Fault) attributes() map[string]int {
	switch f {
	case Slow:
		return map[string]int{"latency": 300, "jitter": 100} // ms
	case Narrow:
		return map[string]int{"rate": 125} // KB/s
	case Sliced:
		return map[string]int{"average_size": 1, "size_variation": 0}
	default:
		return map[string]int{"timeout": 0}
	}
}

// Add puts faults on the way, for the connections that stand as well.
func (p *Path) Add(t testing.TB, faults ...Fault) {
	t.Helper()
	for _, f := range faults {
		p.add(t, f, "upstream")
		p.add(t, f, "downstream")
	}
}

// AddBack puts a fault on the way back alone.
func (p *Path) AddBack(t testing.TB, f Fault) {
	t.Helper()
	p.add(t, f, "downstream")
}

func (p *Path) add(t testing.TB, f Fault, stream string) {
	t.Helper()
	body := map[string]any{"name": string(f) + "-" + stream, "stream": stream, "type": f, "attributes": f.attributes()}
	if _, err := p.network.call(http.MethodPost, "/proxies/"+p.name+"/toxics", body); err != nil {
		t.Fatal(err)
	}
}

// Close ends every connection and refuses new ones; Open admits them again.
func (p *Path) Close(t testing.TB) { p.enable(t, false) }

// Open ends what Close began.
func (p *Path) Open(t testing.TB) { p.enable(t, true) }

func (p *Path) enable(t testing.TB, yes bool) {
	t.Helper()
	if _, err := p.network.call(http.MethodPost, "/proxies/"+p.name, map[string]any{"enabled": yes}); err != nil {
		t.Fatal(err)
	}
}

// Remove takes a fault away that Add put there.
func (p *Path) Remove(t testing.TB, f Fault) {
	t.Helper()
	p.remove(t, f, "upstream")
	p.remove(t, f, "downstream")
}

// RemoveBack takes a fault away that AddBack put there.
func (p *Path) RemoveBack(t testing.TB, f Fault) {
	t.Helper()
	p.remove(t, f, "downstream")
}

func (p *Path) remove(t testing.TB, f Fault, stream string) {
	t.Helper()
	if _, err := p.network.call(http.MethodDelete, "/proxies/"+p.name+"/toxics/"+string(f)+"-"+stream, nil); err != nil {
		t.Fatal(err)
	}
}
