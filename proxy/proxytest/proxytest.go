// Package proxytest tries a protocol: the same trials for every one, against a real
// gate with a real store and log, a real listener and a real target. A protocol
// passes Conformance or it is not let into protocols.All.
package proxytest

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/credential"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/durable"
	"github.com/sallyport/sallyport/internal/gatetest"
	"github.com/sallyport/sallyport/proxy"
	"github.com/sallyport/sallyport/session"
)

// A Harness is what a protocol gives to be tried.
type Harness struct {
	Protocol proxy.Protocol
	// Target is the address, host:port, where a real target answers.
	Target string
	// Targets is the signed policy's targets.hcl for a target "orders" at the given
	// address, with the roles "reader" (one dba must agree) and "writer" (by rule).
	Targets func(address string) string
	Files   map[string][]byte // more files of the bundle
	Secrets credential.Set
	// Configure changes the listener's configuration; may be nil.
	Configure func(*proxy.Config)
	// Connect begins a connection, and returns before it is let in. With a zero
	// certificate the client shows no proof, and is told where to sign in.
	Connect func(t testing.TB, d Door) Client
}

// A Door is where and as whom a client connects.
type Door struct {
	Addr        string // host:port of the listener
	Roots       *x509.CertPool
	Certificate tls.Certificate // of a sign-in; zero: none
	SSH         ssh.Signer      // of the same sign-in, with an SSH certificate; nil: none
	Role        string          // at the target "orders"
}

// A Client is one connection of the protocol's own kind of client. Its methods are
// called by one goroutine, but HangUp at any time.
type Client interface {
	// Notices is everything that the gate has shown so far.
	Notices() string
	// Ready waits until the client is let in. The error's text has what the gate said.
	Ready(ctx context.Context) error
	// Ask does one exchange with the target.
	Ask(ctx context.Context) error
	// Pour has the target send without end, and returns what the client was told at the
	// end. It calls flowing once, when bytes flow.
	Pour(ctx context.Context, flowing func()) error
	// Early sends something that belongs behind the wait; an error is fine.
	Early()
	// HangUp goes without a word.
	HangUp()
}

// Alice asks; Bob and Carol may agree; Eve could do both; Sam cuts. %s is how long the
// rule holds.
const rules = `
rule "read" {
  target  = { name = "orders" }
  role    = ["reader"]
  who     = { groups = ["engineering"] }
  longest = "1h"
  reason  = "required"
  hold    = "%s"
  approve {
    count = 1
    from  = { groups = ["dba"] }
  }
}
rule "write" {
  target  = { name = "orders" }
  role    = ["writer"]
  who     = { groups = ["engineering"] }
  longest = "1h"
}
right "cut" { who = { groups = ["security"] } }
`

var loopback = netip.MustParseAddr("127.0.0.1")

// bench is one gate with a listener, in front of a tap on the target.
type bench struct {
	*gatetest.Fixture
	h      Harness
	server *proxy.Server
	roots  *x509.CertPool
	tap    *tap
	broken atomic.Bool // recordings cannot be written
}

// options of a bench.
type options struct {
	handshake time.Duration
	hold      string // of the rule that asks people; default: an hour
	config    func(*session.Config)
}

func newBench(t testing.TB, h Harness, o options) *bench {
	t.Helper()
	b := &bench{h: h, tap: newTap(t, h.Target)}
	o.hold = cmp.Or(o.hold, "1h")
	b.Fixture = gatetest.New(t, gatetest.Options{
		Targets: h.Targets(b.tap.l.Addr().String()), Rules: fmt.Sprintf(rules, o.hold), Files: h.Files, Secrets: h.Secrets, Config: o.config,
		Scopes: map[string][]string{h.Protocol.Name(): h.Protocol.Scopes()},
		Faults: &durable.Faults{Write: func(name string, n int) (int, error) {
			if b.broken.Load() && strings.Contains(name, "chunks") {
				return 0, errors.New("no space left on device")
			}
			return n, nil
		}},
	})
	config := proxy.Config{Gate: b.Gate, URL: "https://gate.test", Targets: b.Policy().Targets}
	config.TLS, b.roots = listenerTLS(t)
	if h.Configure != nil {
		h.Configure(&config)
	}
	handler, err := h.Protocol.Configure(config)
	must(t, err)
	b.server = &proxy.Server{Handshake: o.handshake}
	must(t, b.server.Listen(t.Context(), proxy.Listener{Name: h.Protocol.Name(), Address: "127.0.0.1:0", Handler: handler}))
	served := make(chan error, 1)
	go func() { served <- b.server.Serve(context.Background()) }()
	t.Cleanup(func() {
		must(t, b.server.Close())
		if err := <-served; !errors.Is(err, proxy.ErrServerClosed) {
			t.Error(err)
		}
	})
	return b
}

func listenerTLS(t testing.TB) (*tls.Config, *x509.CertPool) {
	t.Helper()
	caPEM, caKey, err := identity.NewServerCA("test CA of the gate", time.Hour)
	must(t, err)
	ca, err := identity.LoadServerCA(caPEM, caKey)
	must(t, err)
	certPEM, keyPEM, err := ca.IssueServer([]string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1)}, time.Hour)
	must(t, err)
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	must(t, err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(caPEM)
	return &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS12}, roots
}

// certificate is a client certificate of a sign-in.
func (b *bench) certificate(t testing.TB, s identity.SignIn) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	der, _, err := b.CA.Issue(key.Public(), s.User, s.ID, time.Now().Add(time.Hour))
	must(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// sshCertificate is the same for SSH.
func (b *bench) sshCertificate(t testing.TB, s identity.SignIn) ssh.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	signer, err := ssh.NewSignerFromKey(key)
	must(t, err)
	cert, err := b.SSHCA.Issue(signer.PublicKey(), s.ID, time.Now().Add(time.Hour))
	must(t, err)
	certified, err := ssh.NewCertSigner(cert, signer)
	must(t, err)
	return certified
}

// connect begins a connection; a zero sign-in shows no proof.
func (b *bench) connect(t testing.TB, role string, by identity.SignIn) Client {
	t.Helper()
	d := Door{Addr: b.server.Addrs()[0].String(), Roots: b.roots, Role: role}
	if by.ID != "" {
		d.Certificate = b.certificate(t, by)
		d.SSH = b.sshCertificate(t, by)
	}
	c := b.h.Connect(t, d)
	t.Cleanup(c.HangUp)
	return c
}

// open is a connection that a rule lets in.
func (b *bench) open(t testing.TB) (Client, identity.SignIn, session.Record) {
	t.Helper()
	alice := b.SignIn(t, gatetest.Alice)
	c := b.connect(t, "writer", alice)
	must(t, c.Ready(t.Context()))
	must(t, c.Ask(t.Context()))
	return c, alice, b.live(t, alice)
}

// confirm says on the held connection's page that it is somebody's own.
func (b *bench) confirm(t testing.TB, c Client, by identity.SignIn) {
	t.Helper()
	id, phrase := shown(t, c)
	_, err := b.Confirm(t.Context(), id, by, loopback, session.Confirmation{Phrase: phrase, Reason: "trial"})
	must(t, err)
}

var (
	linkOf   = regexp.MustCompile(`https://gate\.test/h/(\S+)`)
	phraseOf = regexp.MustCompile(`your phrase is\s+(\S+ \S+)`)
)

// shown waits for the link and the phrase that a held client shows.
func shown(t testing.TB, c Client) (id, phrase string) {
	t.Helper()
	eventually(t, "no link and phrase are shown", func() bool {
		link, words := linkOf.FindStringSubmatch(c.Notices()), phraseOf.FindStringSubmatch(c.Notices())
		if link == nil || words == nil {
			return false
		}
		id, phrase = link[1], words[1]
		return true
	})
	return id, phrase
}

// inbox waits for a request that somebody may decide.
func (b *bench) inbox(t testing.TB, by identity.SignIn) session.Request {
	t.Helper()
	var list []session.Request
	eventually(t, "no request came", func() bool {
		var err error
		list, err = b.Inbox(t.Context(), by)
		must(t, err)
		return len(list) > 0
	})
	return list[0]
}

func (b *bench) state(t testing.TB, by identity.SignIn, id string, want session.RequestState) {
	t.Helper()
	eventually(t, "the request is not "+string(want), func() bool {
		r, err := b.Request(t.Context(), by, id)
		must(t, err)
		return r.State == want
	})
}

func (b *bench) live(t testing.TB, by identity.SignIn) session.Record {
	t.Helper()
	list, err := b.Sessions(t.Context(), by, session.Filter{State: "live"})
	must(t, err)
	if len(list) != 1 {
		t.Fatalf("%d sessions live", len(list))
	}
	return list[0]
}

// ended waits for a session's end and returns its record.
func (b *bench) ended(t testing.TB, by identity.SignIn, id string) session.Record {
	t.Helper()
	var found session.Record
	eventually(t, "the session does not end", func() bool {
		list, err := b.Sessions(t.Context(), by, session.Filter{State: "ended"})
		must(t, err)
		for _, s := range list {
			if s.ID == id {
				found = s
				return true
			}
		}
		return false
	})
	return found
}

// tap counts the connections to the target, and passes them on.
type tap struct {
	l     net.Listener
	conns atomic.Int64
}

func newTap(t testing.TB, target string) *tap {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	tp := &tap{l: l}
	var busy sync.WaitGroup
	busy.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			tp.conns.Add(1)
			busy.Go(func() { pass(conn, target) })
		}
	})
	t.Cleanup(func() {
		must(t, l.Close())
		busy.Wait()
	})
	return tp
}

func pass(conn net.Conn, target string) {
	defer conn.Close()
	up, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer up.Close()
	var both sync.WaitGroup
	copyTo := func(dst, src net.Conn) {
		_, _ = io.Copy(dst, src)
		_ = dst.(*net.TCPConn).CloseWrite() //nolint:forcetypeassert // both are
	}
	both.Go(func() { copyTo(up, conn) })
	both.Go(func() { copyTo(conn, up) })
	both.Wait()
}

// untouched fails where anything has reached the target.
func (b *bench) untouched(t testing.TB) {
	t.Helper()
	if n := b.tap.conns.Load(); n > 0 {
		t.Fatalf("%d connections reached the target", n)
	}
}

// eventually polls: what is waited for happens in other goroutines and processes.
func eventually(t testing.TB, otherwise string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	timeout := time.After(15 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatal(otherwise)
		}
	}
}

// refused checks that err tells the client the words.
func refused(t testing.TB, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("the client was let in")
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Fatalf("the client was told %q, without %q", err, word)
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(fmt.Errorf("%w", err))
	}
}
