package proxy

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport/sallyport/internal/contain"
)

// lines is an observer of newline framing: a message ends with its newline.
type lines struct {
	seen []byte
	tail int
	hold bool // incomplete lines are held back
	end  byte // the direction ends behind a line that begins with it
	bomb byte // a run with it makes the observer panic
	err  error
	say  chan string
	last string
	bad  error // where the target's stream ends before the client's
}

func (l *lines) Observe(p []byte) (Verdict, error) {
	if len(l.seen) < 1000 {
		l.seen = append(l.seen, p...)
	}
	if l.err != nil {
		return 0, l.err
	}
	if l.bomb != 0 && bytes.IndexByte(p, l.bomb) >= 0 {
		_ = p[len(p)]
	}
	if l.end != 0 {
		for at := 0; at < len(p); {
			n := bytes.IndexByte(p[at:], '\n')
			if n < 0 {
				break
			}
			if p[at] == l.end {
				l.tail = len(p) - at - n - 1
				return EndAtBoundary, nil
			}
			at += n + 1
		}
	}
	if end := bytes.LastIndexByte(p, '\n'); end >= 0 {
		l.tail = len(p) - end - 1
	} else if l.hold {
		l.tail = len(p)
	} else {
		l.tail += len(p)
	}
	if l.hold && l.tail > 0 {
		return Hold, nil
	}
	return Pass, nil
}

func (l *lines) Tail() int                { return l.tail }
func (l *lines) Lines() <-chan string     { return l.say }
func (l *lines) Dress(line string) []byte { return []byte(line + "\n") }

func (l *lines) Ended() error { return l.bad }

func (l *lines) Last(why error) []byte {
	if l.last == "" {
		return nil
	}
	return []byte(l.last + why.Error() + "\n")
}

// rig is a relay between two ends that the test holds.
type rig struct {
	client, target net.Conn // the far ends
	near           net.Conn // the relay's side of the client
	up, down       *lines
	cut            context.CancelCauseFunc
	over           chan error
}

// mode is how a relay runs.
type mode struct{ secure, loop bool }

func (m mode) String() string {
	return map[bool]string{false: "tcp", true: "tls"}[m.secure] + map[bool]string{false: " by goroutines", true: " by the system's best"}[m.loop]
}

var modes = []mode{{false, false}, {true, false}, {false, true}, {true, true}}

func newRig(t testing.TB, up, down *lines, m mode) *rig {
	t.Helper()
	client, clientSide := pair(t)
	target, targetSide := pair(t)
	r := &rig{client: client, target: target, up: up, down: down, over: make(chan error, 1)}
	base := NewConn(clientSide)
	if m.loop {
		base.loops = &loops{}
		t.Cleanup(base.loops.stop)
	}
	var near, far net.Conn = base, NewConn(targetSide)
	if m.secure {
		config := selfSigned(t)
		near, r.client = tls.Server(near, config), tls.Client(client, config)
		far, r.target = tls.Client(far, config), tls.Server(target, config)
		done := make(chan error, 4)
		for _, c := range []net.Conn{near, r.client, far, r.target} {
			go func() { done <- c.(*tls.Conn).HandshakeContext(t.Context()) }() //nolint:forcetypeassert // see above
		}
		for range 4 {
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
	}
	r.near = near
	ctx, cancel := context.WithCancelCause(t.Context())
	r.cut = cancel
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		r.over <- Relay(ctx, near, far, up, down)
	}()
	t.Cleanup(func() {
		cancel(nil)
		_, _ = baseOf(near).Close(), baseOf(far).Close()
		<-gone
	})
	return r
}

func pair(t testing.TB) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if a, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if b, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = a.Close(), b.Close() })
	return a, b
}

func selfSigned(t testing.TB) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"x"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, RootCAs: roots, ServerName: "x", MinVersion: tls.VersionTLS13}
}

func write(t testing.TB, c net.Conn, s string) {
	t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		t.Fatal(err)
	}
}

func expect(t testing.TB, c net.Conn, want string) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Fatalf("%q came, not %q: %v", got, want, err)
	}
}

func (r *rig) ends(t testing.TB, within time.Duration) error {
	t.Helper()
	select {
	case err := <-r.over:
		return err
	case <-time.After(within):
		t.Fatal("the relay goes on")
		return nil
	}
}

func each(t *testing.T, run func(t *testing.T, m mode)) {
	for _, m := range modes {
		t.Run(m.String(), func(t *testing.T) { run(t, m) })
	}
}

func TestRelayForwardsAndHalfCloses(t *testing.T) {
	each(t, func(t *testing.T, m mode) {
		r := newRig(t, &lines{}, &lines{}, m)
		write(t, r.client, "ask\n")
		expect(t, r.target, "ask\n")
		write(t, r.target, "answer\n")
		expect(t, r.client, "answer\n")
		if err := closeWrite(r.client); err != nil {
			t.Fatal(err)
		}
		if _, err := r.target.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Fatalf("the end of the client's stream did not arrive: %v", err)
		}
		write(t, r.target, "late answer\n")
		expect(t, r.client, "late answer\n")
		_ = r.target.Close()
		if err := r.ends(t, 5*time.Second); err != nil {
			t.Fatal(err)
		}
		if string(r.up.seen) != "ask\n" || string(r.down.seen) != "answer\nlate answer\n" {
			t.Errorf("observed %q and %q", r.up.seen, r.down.seen)
		}
	})
}

func TestRelayMovesMuchBothWays(t *testing.T) {
	each(t, func(t *testing.T, m mode) {
		r := newRig(t, &lines{hold: true}, &lines{hold: true}, m)
		text := bytes.Repeat([]byte("a line of some length, so that runs end in the middle of it\n"), 100_000)
		done := make(chan error, 4)
		for _, c := range []net.Conn{r.client, r.target} {
			go func() { _, err := c.Write(text); done <- err }()
			go func() {
				got := make([]byte, len(text))
				_, err := io.ReadFull(c, got)
				if err == nil && !bytes.Equal(got, text) {
					err = errors.New("other bytes came")
				}
				done <- err
			}()
		}
		for range 4 {
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
	})
}

var errCause = errors.New("your access ended")

func TestTheLastWordsComeAtABoundary(t *testing.T) {
	each(t, func(t *testing.T, m mode) {
		r := newRig(t, &lines{}, &lines{last: "sorry, "}, m)
		write(t, r.target, "one\n")
		expect(t, r.client, "one\n")
		begun := time.Now()
		r.cut(errCause)
		if err := r.ends(t, 5*time.Second); !errors.Is(err, errCause) || errors.Is(err, ErrReset) {
			t.Fatal(err)
		}
		if took := time.Since(begun); took > CutWait/2 {
			t.Errorf("an idle relay took %v to end", took)
		}
		_ = r.client.SetReadDeadline(time.Now().Add(5 * time.Second))
		if got, err := io.ReadAll(r.client); err != nil || string(got) != "sorry, your access ended\n" {
			t.Fatalf("%q, %v", got, err)
		}
	})
}

var errEarly = errors.New("too early")

func TestATargetThatEndsTooEarlyBroke(t *testing.T) {
	each(t, func(t *testing.T, m mode) {
		r := newRig(t, &lines{end: 'X'}, &lines{last: "sorry, ", bad: errEarly}, m)
		write(t, r.target, "one\n")
		_ = r.target.Close()
		if err := r.ends(t, 5*time.Second); !errors.Is(err, ErrTarget) || !errors.Is(err, errEarly) {
			t.Fatal(err)
		}
		_ = r.client.SetReadDeadline(time.Now().Add(5 * time.Second))
		if got, err := io.ReadAll(r.client); err != nil || string(got) != "one\nsorry, the target's connection failed: too early\n" {
			t.Fatalf("%q, %v", got, err)
		}

		r = newRig(t, &lines{end: 'X'}, &lines{last: "sorry, ", bad: errEarly}, m)
		write(t, r.client, "X\n") // the client goes first
		expect(t, r.target, "X\n")
		_ = r.target.Close()
		if err := r.ends(t, 5*time.Second); err != nil {
			t.Fatal(err)
		}
	})
}

func TestCutCompletesTheMessageOfTheClient(t *testing.T) {
	each(t, func(t *testing.T, m mode) {
		r := newRig(t, &lines{}, &lines{last: "sorry, "}, m)
		write(t, r.target, "half of ")
		expect(t, r.client, "half of ")
		r.cut(errCause)
		write(t, r.target, "a message\nand the next\nand half")
		if err := r.ends(t, 5*time.Second); !errors.Is(err, errCause) || errors.Is(err, ErrReset) {
			t.Fatal(err)
		}
		_ = r.client.SetReadDeadline(time.Now().Add(5 * time.Second))
		got, err := io.ReadAll(r.client)
		if err != nil || !bytes.HasPrefix(got, []byte("a message\n")) || !bytes.HasSuffix(got, []byte("\nsorry, your access ended\n")) || bytes.Contains(got, []byte("half")) {
			t.Fatalf("%q, %v", got, err)
		}
	})
}

func TestCutInMidMessageResets(t *testing.T) {
	each(t, func(t *testing.T, m mode) {
		r := newRig(t, &lines{}, &lines{}, m)
		write(t, r.target, "half of ")
		expect(t, r.client, "half of ")
		begun := time.Now()
		r.cut(errCause)
		if err := r.ends(t, 5*time.Second); !errors.Is(err, errCause) || !errors.Is(err, ErrReset) {
			t.Fatal(err)
		}
		if took := time.Since(begun); took < CutWait || took > 5*CutWait {
			t.Errorf("reset after %v", took)
		}
		if _, err := r.client.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the client sees %v", err)
		}
	})
}

func TestCutResetsAClientThatDoesNotDrain(t *testing.T) {
	each(t, func(t *testing.T, m mode) {
		r := newRig(t, &lines{}, &lines{}, m)
		filled := make(chan struct{})
		go func() {
			defer close(filled)
			line := bytes.Repeat([]byte("x"), 1<<20)
			line[len(line)-1] = '\n'
			for {
				_ = r.target.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
				if _, err := r.target.Write(line); err != nil {
					return
				}
			}
		}()
		<-filled      // nothing moves any more
		if m.secure { // the cut comes while the client is given what a target said that has gone
			_ = r.target.Close()
		}
		begun := time.Now()
		r.cut(errCause)
		if err := r.ends(t, 5*time.Second); !errors.Is(err, errCause) || !errors.Is(err, ErrReset) {
			t.Fatal(err)
		}
		if took := time.Since(begun); took > 5*CutWait {
			t.Errorf("reset after %v", took)
		}
	})
}

func TestObserverEndsTheRelayBeforeTheBytes(t *testing.T) {
	each(t, func(t *testing.T, m mode) {
		for name, c := range map[string]struct{ up, down *lines }{
			"up":   {&lines{err: errCause}, &lines{}},
			"down": {&lines{}, &lines{err: errCause}},
		} {
			r := newRig(t, c.up, c.down, m)
			write(t, r.client, "ask\n")
			write(t, r.target, "answer\n")
			if err := r.ends(t, 5*time.Second); !errors.Is(err, errCause) {
				t.Errorf("%s: %v", name, err)
			}
			_ = r.near.Close()
			if name == "down" {
				_ = r.client.SetReadDeadline(time.Now().Add(5 * time.Second))
				if got, _ := io.ReadAll(r.client); len(got) > 0 {
					t.Errorf("%q passed the observer that refused it", got)
				}
			}
		}
	})
}

func TestEndAtBoundaryEndsTheDirection(t *testing.T) {
	each(t, func(t *testing.T, m mode) {
		r := newRig(t, &lines{end: 'X'}, &lines{}, m)
		write(t, r.client, "ask\nX\nbehind\n")
		expect(t, r.target, "ask\nX\n")
		if n, err := r.target.Read(make([]byte, 9)); !errors.Is(err, io.EOF) {
			t.Fatalf("%d bytes behind the end, %v", n, err)
		}
	})
}

func TestWordsComeBetweenMessages(t *testing.T) {
	each(t, func(t *testing.T, m mode) {
		r := newRig(t, &lines{}, &lines{say: make(chan string)}, m)
		r.down.say <- "idle"
		expect(t, r.client, "idle\n")
		write(t, r.target, "half of ")
		expect(t, r.client, "half of ")
		r.down.say <- "words"
		write(t, r.target, "a message\n")
		expect(t, r.client, "a message\nwords\n")
	})
}

// A word that comes while another is being written is not left behind.
func TestWordWhileAnotherIsWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, near := net.Pipe()
		target, far := net.Pipe()
		down := &lines{say: make(chan string)}
		over := make(chan error, 1)
		go func() {
			over <- Relay(context.Background(), NewConn(near), NewConn(far), &lines{}, down)
		}()
		write(t, target, "half")
		expect(t, client, "half")
		down.say <- "5 minutes left"
		synctest.Wait() // it waits for the message's end
		write(t, target, " a line\n")
		expect(t, client, " a line\n")
		synctest.Wait() // the first word is being written, to a client that does not read
		down.say <- "1 minute left"
		synctest.Wait()
		expect(t, client, "5 minutes left\n1 minute left\n")
		_ = target.Close()
		if err := <-over; err != nil {
			t.Error(err)
		}
	})
}

func TestAnIdleRelayKeepsNoBuffer(t *testing.T) {
	each(t, func(t *testing.T, m mode) {
		client, near := pair(t)
		base := net.Conn(NewConn(near))
		if m.secure {
			config := selfSigned(t)
			server := tls.Server(base, config)
			c := tls.Client(client, config)
			done := make(chan error, 1)
			go func() { done <- c.HandshakeContext(t.Context()) }()
			if err := server.HandshakeContext(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			client, base = c, server
		}
		r := newReader(base)
		waits := make(chan bool, 100)
		try := r.try
		r.try = func(fd uintptr) bool {
			ready := try(fd)
			if !ready {
				waits <- r.buf == nil
			}
			return ready
		}
		go func() {
			if <-waits {
				_, _ = io.WriteString(client, "x")
			}
		}()
		_ = base.SetReadDeadline(time.Now().Add(10 * time.Second))
		p, err := r.read()
		if err != nil || string(p) != "x" {
			t.Fatalf("%q, %v: a buffer was kept while it waited", p, err)
		}
		r.release()
	})
}

func TestHoldingTooMuchEndsTheRelay(t *testing.T) {
	each(t, func(t *testing.T, m mode) {
		r := newRig(t, &lines{hold: true}, &lines{}, m)
		write(t, r.client, string(bytes.Repeat([]byte("x"), 4*MaxHold)))
		if err := r.ends(t, 5*time.Second); err == nil || !bytes.Contains([]byte(err.Error()), []byte("an observer holds")) {
			t.Fatal(err)
		}
	})
}

func BenchmarkRelayRoundTrip(b *testing.B) {
	for _, m := range modes {
		b.Run(m.String(), func(b *testing.B) {
			r := newRig(b, &lines{}, &lines{}, m)
			p := make([]byte, 100)
			p[99] = '\n'
			b.ReportAllocs()
			for b.Loop() {
				for _, c := range [][2]net.Conn{{r.client, r.target}, {r.target, r.client}} {
					if _, err := c[0].Write(p); err != nil {
						b.Fatal(err)
					}
					if _, err := io.ReadFull(c[1], p); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

func BenchmarkRelayBulk(b *testing.B) {
	for _, m := range modes {
		b.Run(m.String(), func(b *testing.B) {
			r := newRig(b, &lines{}, &lines{}, m)
			chunk := bytes.Repeat([]byte("0123456789abcde\n"), 4096)
			b.SetBytes(int64(len(chunk)))
			got := make([]byte, len(chunk))
			for b.Loop() {
				go func() { _, _ = r.target.Write(chunk) }()
				if _, err := io.ReadFull(r.client, got); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// Class: one client ends everybody's sessions. One thread relays many.
func TestPanicOfAnObserverEndsItsRelay(t *testing.T) {
	each(t, func(t *testing.T, m mode) {
		for _, down := range []bool{false, true} {
			r := newRig(t, &lines{bomb: '!'}, &lines{bomb: '!'}, m)
			write(t, r.client, "ask\n")
			expect(t, r.target, "ask\n")
			from, to := r.client, r.target
			if down {
				from, to = to, from
			}
			write(t, from, "!\n")
			var panicked *contain.Error
			if err := r.ends(t, 5*time.Second); !errors.As(err, &panicked) {
				t.Errorf("the relay ends by %v", err)
			}
			_ = to.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
			if n, _ := to.Read(make([]byte, 1)); n > 0 {
				t.Error("what the observer panicked over went on")
			}
		}
	})
}
