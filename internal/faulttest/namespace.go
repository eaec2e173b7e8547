package faulttest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// A Namespace is a network of its own, joined with the machine's by a pair of virtual
// Ethernet devices: what runs in it can vanish without a last packet.
type Namespace struct {
	Gate string // the machine's address as it is reached from there
	Own  string // its own address as it is reached from the machine
	name string
	peer string // the device in the namespace
}

var namespaces atomic.Uint32

// NewNamespace makes one until the test ends. Only root may.
func NewNamespace(t testing.TB) *Namespace {
	t.Helper()
	// 198.18.0.0/15 is for tests between networks (RFC 2544, section C.2.2).
	pid, n := os.Getpid(), namespaces.Add(1)
	prefix := fmt.Sprintf("198.18.%d.", (uint32(pid)+n*41)%256)
	here := fmt.Sprintf("sp%dh%d", pid%1_000_000, n)
	ns := &Namespace{Gate: prefix + "1", Own: prefix + "2", name: fmt.Sprintf("sallyport-%d-%d", pid, n), peer: fmt.Sprintf("sp%dp%d", pid%1_000_000, n)}
	if out, err := exec.Command("ip", "netns", "add", ns.name).CombinedOutput(); err != nil {
		t.Fatalf("this machine makes no network namespace (root and CAP_SYS_ADMIN do): %v: %s", err, out)
	}
	t.Cleanup(func() {
		_ = exec.Command("ip", "link", "del", here).Run() // it may never have been made
		ip(t, "netns", "del", ns.name)
	})
	ip(t, "link", "add", here, "type", "veth", "peer", "name", ns.peer, "netns", ns.name)
	ip(t, "addr", "add", ns.Gate+"/24", "dev", here)
	ip(t, "link", "set", here, "up")
	ip(t, "-n", ns.name, "addr", "add", prefix+"2/24", "dev", ns.peer)
	ip(t, "-n", ns.name, "link", "set", ns.peer, "up")
	return ns
}

// Inside is the command line that runs one in the namespace.
func (n *Namespace) Inside(line ...string) []string {
	return append([]string{"ip", "netns", "exec", n.name}, line...)
}

// Dial connects from inside.
func (n *Namespace) Dial(t testing.TB, address string) net.Conn {
	t.Helper()
	var conn net.Conn
	n.inside(t, func() (err error) {
		conn, err = net.Dial("tcp", address)
		return err
	})
	return conn
}

// Listen listens inside, for whoever connects to Own, until the test ends.
func (n *Namespace) Listen(t testing.TB) net.Listener {
	t.Helper()
	var l net.Listener
	n.inside(t, func() (err error) {
		l, err = net.Listen("tcp", n.Own+":0")
		return err
	})
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// inside calls f on a thread in the namespace: a socket stays where it was made.
func (n *Namespace) inside(t testing.TB, f func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for ever: the thread is in another network, and ends with this
		at, err := os.Open("/run/netns/" + n.name)
		if err != nil {
			done <- err
			return
		}
		defer at.Close() //nolint:errcheck // only read
		if err := unix.Setns(int(at.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// Vanish takes the network from whatever runs inside; nobody is told.
func (n *Namespace) Vanish(t testing.TB) {
	t.Helper()
	ip(t, "-n", n.name, "link", "set", n.peer, "down")
}

// Return gives the network back.
func (n *Namespace) Return(t testing.TB) {
	t.Helper()
	ip(t, "-n", n.name, "link", "set", n.peer, "up")
}

func ip(t testing.TB, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %v: %v: %s", args, err, out)
	}
}
