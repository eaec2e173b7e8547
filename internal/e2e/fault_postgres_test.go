package e2e

import (
	"crypto/tls"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/sallyport/sallyport/session"
)

// greets answers what a client of PostgreSQL asks first, a request for TLS, and then says
// this; it reads on until the other side has gone.
func greets(say string) func(net.Conn) {
	return func(conn net.Conn) {
		if _, err := io.ReadFull(conn, make([]byte, 8)); err == nil {
			_, _ = io.WriteString(conn, say)
		}
		silence(conn)
	}
}

// secured is a PostgreSQL up to its TLS, in which it speaks instead.
func secured(config *tls.Config, speak func(net.Conn)) func(net.Conn) {
	return func(conn net.Conn) {
		if _, err := io.ReadFull(conn, make([]byte, 8)); err != nil {
			return
		}
		if _, err := io.WriteString(conn, "S"); err != nil {
			return
		}
		inside := tls.Server(conn, config)
		startup := make([]byte, 8)
		if _, err := io.ReadFull(inside, startup); err == nil {
			speak(inside)
		}
	}
}

// says is a target that says this once somebody has begun, and closes.
func says(what string) func(net.Conn) {
	return func(conn net.Conn) {
		_, _ = io.WriteString(conn, what)
		_ = conn.(*tls.Conn).CloseWrite()
		silence(conn)
	}
}

// message is one of PostgreSQL's, with the length that goes before it.
func message(kind byte, body string) string {
	n := len(body) + 4
	return string([]byte{kind, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}) + body
}

const loggedIn = "R\x00\x00\x00\x08\x00\x00\x00\x00" // AuthenticationOk

func failed(target string) string {
	return "the connection to the target " + target + " failed; ask the platform team"
}

// Targets of PostgreSQL that refuse, say nothing, say what is no PostgreSQL or without an
// end, or lie about a length, before they let the gate in: psql is told in a sentence, and
// the gate's memory stays.
func TestDatabasesThatMisbehave(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	config := &tls.Config{Certificates: []tls.Certificate{m.issuer.certificate}, MinVersion: tls.VersionTLS12}
	inside := func(say string) string { return listening(t, nil, secured(config, says(say))) }
	flood := func(first string) string { return listening(t, nil, secured(config, floods(first))) }
	cases := []struct{ name, address, want string }{
		{"slams", listening(t, nil, slams), failed("slams")},
		{"silent", listening(t, nil, silence), "the target silent did not answer in time; try again, or ask the platform team"},
		{"pages", listening(t, nil, greets("HTTP/1.1 400 Bad Request\r\n\r\n")), failed("pages")},
		{"shells", listening(t, nil, greets("SSH-2.0-OpenSSH_10.0\r\n")), failed("shells")},
		{"old", listening(t, nil, greets(message('E', "SFATAL\x00C53300\x00Mtoo many clients of 10.1.2.3\x00\x00"))), failed("old")},
		{"garbage", listening(t, nil, floods("")), failed("garbage")},
		{"full", inside(message('E', "SFATAL\x00C53300\x00Msorry, too many clients already\x00\x00")), "the target full refuses the connection: sorry, too many clients already (SQLSTATE 53300)"},
		{"paints", inside(message('E', "SFATAL\x00C\x1b[2J1\x00M\x1b[31mno\x00\x00")), "the target paints refuses the connection:  [31mno\n"},
		{"bare", inside(message('E', "Mno\x00\x00")), "the target bare refuses the connection: no\n"},
		{"odd", inside(message('R', "\x00\x00\x00\x07")), failed("odd")},
		{"long", inside("R\x7f\xff\xff\xff\x00\x00\x00\x00"), failed("long")},
		{"zero", inside("R\x00\x00\x00\x00\x00\x00\x00\x00"), failed("zero")},
		{"short", inside("R\x00\x00\x00\x03"), failed("short")},
		{"breaks", inside(loggedIn + "S\x00\x00"), failed("breaks")},
		{"complains", flood("E\x40\x00\x00\x00SFATAL\x00M"), failed("complains")},
		{"chatters", listening(t, nil, secured(config, func(conn net.Conn) {
			_, _ = io.WriteString(conn, loggedIn)
			for notice := message('N', "SNOTICE\x00Mhello\x00\x00"); ; {
				if _, err := io.WriteString(conn, strings.Repeat(notice, 1000)); err != nil {
					return
				}
			}
		})), failed("chatters")},
	}
	targets, names := "", []string{}
	for _, c := range cases {
		targets += target(c.name, strings.Replace(c.address, "127.0.0.1", "localhost", 1), "id-ca.crt", "orders-reader")
		names = append(names, c.name)
	}
	m.broken(t, "reader", targets, names...)
	m.serve(t)
	alice := m.signedIn(t, "alice@example.com")
	home := m.login(t, "alice@example.com")
	before := m.memory(t)
	var all sync.WaitGroup
	for _, c := range cases {
		all.Go(func() {
			shown, err := m.as(t, home, c.name, "-c", "SELECT 1").ends(t)
			if err == nil || !strings.Contains(shown, "FATAL:  sallyport: ") || !strings.Contains(shown, c.want) || strings.Contains(shown, c.address) || strings.Contains(shown, "10.1.2.3") {
				t.Errorf("%s (%v), want %s:\n%s", c.name, err, c.want, tail(shown, 5))
			}
		})
	}
	all.Wait()
	for _, s := range list[session.Record](t, alice, "sessions", "?state=live") {
		t.Errorf("a session lives on: %+v", s)
	}
	if grown := m.memory(t) - before; grown > 64 {
		t.Errorf("a gigabyte took %d MiB", grown)
	}
	m.over(t)
}
