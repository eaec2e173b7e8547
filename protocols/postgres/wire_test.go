package postgres

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/sallyport/sallyport/internal/gatetest"
	"github.com/sallyport/sallyport/proxy"
	"github.com/sallyport/sallyport/session"
)

// startupMessage is a whole startup message.
func startupMessage(version uint32, words ...string) []byte {
	body := startupBody(version, words...)
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body)+4)), body...)
}

func request(code uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{0, 0, 0, 8}, code)
}

// dial opens a connection that ends with the test.
func (r *rig) dial(t testing.TB) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(15 * time.Second))
	return conn
}

// say sends bytes to the listener and returns all that comes back until it closes.
func (r *rig) say(t testing.TB, p []byte) []byte {
	t.Helper()
	conn, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write(p); err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	got, err := io.ReadAll(conn)
	if err != nil {
		t.Fatalf("after %q: %v", got, err)
	}
	return got
}

// upgrade asks for TLS as libpq does, and puts it on.
func (r *rig) upgrade(t testing.TB, conn net.Conn, who *person) *tls.Conn {
	t.Helper()
	write(t, conn, request(codeTLS))
	expect(t, conn, "S")
	config := &tls.Config{RootCAs: r.roots, ServerName: "localhost", MinVersion: tls.VersionTLS12}
	if who != nil {
		config.Certificates = []tls.Certificate{who.pair}
	}
	secure := tls.Client(conn, config)
	if err := secure.Handshake(); err != nil {
		t.Fatal(err)
	}
	return secure
}

func write(t testing.TB, w io.Writer, p []byte) {
	t.Helper()
	if _, err := w.Write(p); err != nil {
		t.Fatal(err)
	}
}

func expect(t testing.TB, r io.Reader, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(r, got); err != nil || string(got) != want {
		t.Fatalf("%q came instead of %q: %v", got, want, err)
	}
}

// messages reads messages until one of the kind, and returns all.
func messages(t testing.TB, r io.Reader, until byte) (kinds string, bodies [][]byte) {
	t.Helper()
	for {
		var head [5]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			t.Fatalf("after %q: %v", kinds, err)
		}
		body := make([]byte, binary.BigEndian.Uint32(head[1:])-4)
		if _, err := io.ReadFull(r, body); err != nil {
			t.Fatal(err)
		}
		kinds, bodies = kinds+string(head[0]), append(bodies, body)
		if head[0] == until {
			return kinds, bodies
		}
	}
}

func TestBytesBeforeTheUpgradeAreNotTaken(t *testing.T) {
	r := newRig(t, rigOptions{})
	conn := r.dial(t)
	// What a meddler puts behind the request must not be taken for the client's
	// (CVE-2021-23222): it is read as the beginning of TLS, and fails.
	write(t, conn, append(request(codeTLS), startupMessage(version30, "user", "writer", "database", "orders")...))
	got, _ := io.ReadAll(conn)
	if len(got) == 0 || got[0] != 'S' || bytes.Contains(got, []byte("sallyport")) || bytes.IndexByte(got, 'R') == 1 {
		t.Fatalf("answered with %q", got)
	}
	see(t, r.log.String, "tls handshake")
}

func TestEncryptionIsAskedForOnce(t *testing.T) {
	r := newRig(t, rigOptions{})
	conn := r.dial(t)
	write(t, conn, request(codeGSS))
	expect(t, conn, "N")
	secure := r.upgrade(t, conn, nil)
	write(t, secure, request(codeTLS))
	if _, bodies := messages(t, secure, 'E'); !bytes.Contains(bodies[0], []byte("asks for encryption twice")) {
		t.Fatalf("%q", bodies)
	}
	conn = r.dial(t)
	write(t, conn, request(codeGSS))
	expect(t, conn, "N")
	write(t, conn, request(codeGSS))
	if _, bodies := messages(t, conn, 'E'); !bytes.Contains(bodies[0], []byte("asks for encryption twice")) {
		t.Fatalf("%q", bodies)
	}
}

func TestListenerWithoutTLSSaysNo(t *testing.T) {
	r := newRig(t, rigOptions{noTLS: true})
	conn := r.dial(t)
	write(t, conn, request(codeTLS))
	expect(t, conn, "N")
}

func TestDirectTLSNamesItsProtocol(t *testing.T) {
	r := newRig(t, rigOptions{})
	alice := r.person(t, gatetest.Alice)
	config := &tls.Config{RootCAs: r.roots, ServerName: "localhost", NextProtos: []string{alpn}, Certificates: []tls.Certificate{alice.pair}, MinVersion: tls.VersionTLS12}
	secure := tls.Client(r.dial(t), config)
	write(t, secure, startupMessage(version30, "user", "writer", "database", "orders"))
	if kinds, _ := messages(t, secure, 'Z'); !strings.HasPrefix(kinds, "R") {
		t.Fatalf("%q", kinds)
	}
	config.NextProtos = nil
	secure = tls.Client(r.dial(t), config)
	_, _ = secure.Write(startupMessage(version30, "user", "writer", "database", "orders"))
	if got, _ := io.ReadAll(secure); len(got) > 0 {
		t.Fatalf("direct TLS without ALPN was answered with %q", got)
	}
	see(t, r.log.String, "direct tls without ALPN")
}

func TestProtocol32HasALongerKey(t *testing.T) {
	r := newRig(t, rigOptions{})
	alice := r.person(t, gatetest.Alice)
	for asked, size := range map[uint32]int{version30: 8, version32: 36, 3<<16 | 9999: 36} {
		secure := r.upgrade(t, r.dial(t), &alice)
		write(t, secure, startupMessage(asked, "user", "writer", "database", "orders"))
		kinds, bodies := messages(t, secure, 'Z')
		if strings.HasPrefix(kinds, "v") != (asked > version32) {
			t.Errorf("%x: %q", asked, kinds)
		}
		for i, kind := range kinds {
			if kind == 'K' && len(bodies[i]) != size {
				t.Errorf("%x: a key of %d bytes", asked, len(bodies[i]))
			}
		}
	}
}

func TestStartupPacketsAreBounded(t *testing.T) {
	r := newRig(t, rigOptions{})
	for _, p := range []string{"\x00\x00\x27\x11\x00\x03\x00\x00", "\x00\x00\x00\x07\x00\x03\x00\x00", "\xff\xff\xff\xff\x00\x03\x00\x00"} {
		if got := r.say(t, []byte(p)); !bytes.Contains(got, []byte("the startup packet has no valid length")) {
			t.Errorf("%q: %q", p, got)
		}
	}
}

func TestPasswordMessagesAreBounded(t *testing.T) {
	r := newRig(t, rigOptions{})
	for _, p := range []string{"p\x00\x01\x00\x00", "Q\x00\x00\x00\x06x\x00", "p\x00\x00\x00\x07abc"} {
		secure := r.upgrade(t, r.dial(t), nil)
		write(t, secure, startupMessage(version30, "user", "writer+token", "database", "orders"))
		expect(t, secure, "R\x00\x00\x00\x08\x00\x00\x00\x03")
		write(t, secure, []byte(p))
		kinds, bodies := messages(t, secure, 'E')
		if kinds != "E" || !bytes.Contains(bodies[0], []byte(stateBadToken)) {
			t.Errorf("%q: %q %q", p, kinds, bodies)
		}
	}
}

func TestEarlyBytesEndTheHold(t *testing.T) {
	r := newRig(t, rigOptions{})
	secure := r.upgrade(t, r.dial(t), nil)
	write(t, secure, startupMessage(version30, "user", "reader", "database", "orders"))
	if kinds, _ := messages(t, secure, 'N'); kinds != "RN" {
		t.Fatalf("%q", kinds)
	}
	write(t, secure, frontend(t, &pgproto3.Query{String: "select 1"}))
	if _, bodies := messages(t, secure, 'E'); !bytes.Contains(bodies[len(bodies)-1], []byte("your client sends before it is let in")) {
		t.Fatalf("%q", bodies)
	}
}

func TestTerminateWhileHeldIsHangingUp(t *testing.T) {
	r := newRig(t, rigOptions{})
	secure := r.upgrade(t, r.dial(t), nil)
	write(t, secure, startupMessage(version30, "user", "reader", "database", "orders"))
	messages(t, secure, 'N')
	write(t, secure, frontend(t, &pgproto3.Terminate{}))
	rest, err := io.ReadAll(secure)
	if err != nil || bytes.Contains(rest, []byte("FATAL")) {
		t.Fatalf("%q, %v", rest, err)
	}
}

func TestHandshakeHasADeadline(t *testing.T) {
	r := newRig(t, rigOptions{server: func(s *proxy.Server) { s.Handshake = 200 * time.Millisecond }})
	for name, p := range map[string][]byte{"nothing": nil, "half a packet": {0, 0, 0, 50, 0, 3}, "tls": request(codeTLS)} {
		conn := r.dial(t)
		write(t, conn, p)
		begun := time.Now()
		if _, err := io.ReadAll(conn); err != nil && !errors.Is(err, net.ErrClosed) && time.Since(begun) > 10*time.Second {
			t.Errorf("%s: %v", name, err)
		}
		if took := time.Since(begun); took > 5*time.Second {
			t.Errorf("%s: closed after %v", name, took)
		}
	}
}

// serveLogin runs authenticate and ready against a target that says p.
func serveLogin(t *testing.T, p []byte) error {
	t.Helper()
	ours, theirs := net.Pipe()
	go func() {
		go func() { _, _ = io.Copy(io.Discard, theirs) }()
		_, _ = theirs.Write(p)
		_ = theirs.Close()
	}()
	defer ours.Close()
	s := &server{conn: ours}
	err := s.authenticate(account{name: "writer"}, keyring{password: []byte("secret")})
	if err == nil {
		err = s.ready()
	}
	return err
}

func TestTargetsThatMisbehaveAtLogin(t *testing.T) {
	ok := backend(t, &pgproto3.AuthenticationOk{})
	key := backend(t, &pgproto3.BackendKeyData{ProcessID: 1, SecretKey: []byte{1, 2, 3, 4}})
	status := backend(t, &pgproto3.ParameterStatus{Name: "x", Value: strings.Repeat("y", 10_000)})
	for name, c := range map[string]struct {
		p    []byte
		want string
	}{
		"two keys":           {bytes.Join([][]byte{ok, key, key}, nil), "a second or a bad BackendKeyData"},
		"a huge key":         {bytes.Join([][]byte{ok, backend(t, &pgproto3.BackendKeyData{SecretKey: make([]byte, 300)})}, nil), "a second or a bad BackendKeyData"},
		"endless parameters": {append(bytes.Clone(ok), bytes.Repeat(status, 10)...), "parameters without end"},
		"endless notices":    {append(bytes.Clone(ok), bytes.Repeat(backend(t, &pgproto3.NoticeResponse{Message: "n"}), maxLoginMany+1)...), "without end before it is ready"},
		"a huge message":     {append(bytes.Clone(ok), "S\x7f\xff\xff\xff"...), "before it was ready"},
		"a query's answer":   {append(bytes.Clone(ok), backend(t, row("x"))...), "before it was ready"},
		"no authentication":  {key, "instead of an authentication request"},
		"kerberos":           {[]byte("R\x00\x00\x00\x08\x00\x00\x00\x07"), "which the gate does not know"},
		"cleartext":          {backend(t, &pgproto3.AuthenticationCleartextPassword{}), "in cleartext on a connection without tls"},
		"weak scram only":    {backend(t, &pgproto3.AuthenticationSASL{AuthMechanisms: []string{"PLAIN"}}), "the gate speaks SCRAM-SHA-256"},
		"scram broken off":   {append(backend(t, &pgproto3.AuthenticationSASL{AuthMechanisms: []string{scramPlain}}), ok...), "breaks off SCRAM"},
	} {
		if err := serveLogin(t, c.p); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What a target says of a refusal goes to the user's terminal.
func TestRefusalOfATargetIsPrintable(t *testing.T) {
	err := serveLogin(t, backend(t, &pgproto3.ErrorResponse{Severity: "FATAL", Code: "\x1b[2J1", Message: "\x1b[31mno"}))
	say, _ := session.Message(whyNot(t.Context(), "orders", err))
	if say != "the target orders refuses the connection:  [31mno" {
		t.Errorf("it says %q", say)
	}
	say, _ = session.Message(whyNot(t.Context(), "orders", serveLogin(t, backend(t, &pgproto3.ErrorResponse{Message: "no"}))))
	if say != "the target orders refuses the connection: no" {
		t.Errorf("without a code it says %q", say)
	}
}

// What a target says of itself is shown to somebody at a terminal, and logged.
func TestTargetsWordsAreBounded(t *testing.T) {
	for want, e := range map[string]targetError{
		"too many (SQLSTATE 53300)": {"53300", "too many"},
		"not today":                 {"", "not today"},
		"red":                       {"\x1b[31m", "red"},
		"5330":                      {"5330x", "5330"},
		"it does not say why":       {"", ""},
		strings.Repeat("y", 1_000):  {"", strings.Repeat("y", 60_000)},
	} {
		if got := e.Error(); got != want {
			t.Errorf("%.40q is shown as %.40q", e, got)
		}
	}
}

// A session that ends while its target is asked who the gate is does not wait for it.
func TestJudgingIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer theirs.Close()
		defer ours.Close()
		go func() { _, _ = io.Copy(io.Discard, theirs) }()
		ctx, cancel := context.WithCancelCause(t.Context())
		begun := time.Now()
		time.AfterFunc(time.Second, func() { cancel(&session.Ended{Cause: "revoked"}) })
		err := (&server{conn: ours}).judge(ctx, account{target: "orders"})
		var ended *session.Ended
		if !errors.As(err, &ended) || time.Since(begun) > time.Second {
			t.Errorf("after %v: %v", time.Since(begun), err)
		}
	})
}

// The gate keeps no more of an answer than its own statements need.
func TestAnswersToTheGateAreBounded(t *testing.T) {
	ours, theirs := net.Pipe()
	defer ours.Close()
	go func() {
		defer theirs.Close()
		go func() { _, _ = io.Copy(io.Discard, theirs) }()
		for range 3 {
			_, _ = theirs.Write(backend(t, row(strings.Repeat("x", 30_000))))
		}
		_, _ = theirs.Write(backend(t, &pgproto3.ReadyForQuery{TxStatus: 'I'}))
	}()
	if _, err := (&server{conn: ours}).query("select 1"); err == nil || !strings.Contains(err.Error(), "answers without end") {
		t.Error(err)
	}
}

func TestTargetWithoutTLSIsNotSpokenTo(t *testing.T) {
	ours, theirs := net.Pipe()
	defer ours.Close()
	go func() {
		_, _ = io.ReadFull(theirs, make([]byte, 8))
		_, _ = theirs.Write([]byte("N"))
	}()
	_, err := secure(context.Background(), proxy.NewConn(ours), &tls.Config{MinVersion: tls.VersionTLS12}, nil)
	if err == nil || !strings.Contains(err.Error(), "does not speak tls, and the policy does not allow plaintext") {
		t.Fatal(err)
	}
}

func TestWarningsComeBetweenMessages(t *testing.T) {
	client, gateSide := tcpPair(t)
	target, targetSide := tcpPair(t)
	lines := make(chan string, 1)
	tr := &traffic{rec: discard{}}
	over := make(chan error, 1)
	go func() {
		over <- proxy.Relay(context.Background(), proxy.NewConn(gateSide), proxy.NewConn(targetSide), &up{t: tr}, &down{t: tr, lines: lines, bye: true})
	}()
	half := backend(t, row(strings.Repeat("x", 10_000))) // it passes in pieces
	write(t, target, half[:500])
	expect(t, client, string(half[:500]))
	lines <- "5 minutes left"
	write(t, target, half[500:])
	expect(t, client, string(half[500:]))
	want := appendNotice(nil, "5 minutes left")
	expect(t, client, string(want))
	lines <- "1 minute left" // idle: at once
	expect(t, client, string(appendNotice(nil, "1 minute left")))
	_ = target.Close()
	if err := <-over; err != nil {
		t.Fatal(err)
	}
}

func tcpPair(t testing.TB) (a, b net.Conn) {
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
	_ = a.SetDeadline(time.Now().Add(15 * time.Second))
	return a, b
}
