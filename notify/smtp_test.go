package notify

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
)

// smtpServer is a small mail server (RFC 5321, with STARTTLS and AUTH PLAIN), as far as
// these tests need one.
type smtpServer struct {
	cert     tls.Certificate
	noTLS    bool                     // it does not offer STARTTLS
	wrong    bool                     // it refuses the password, and repeats it
	refuse   func(rcpt string) string // an answer to RCPT, "" to take it
	listener net.Listener

	mu    sync.Mutex
	mails []mailed
	auth  []string // as they came: user and password
	plain bool     // AUTH or MAIL came without TLS
}

type mailed struct {
	from string
	to   []string
	text string
}

func (s *smtpServer) start(t *testing.T) (port int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.listener = l
	var wait sync.WaitGroup
	wait.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wait.Go(func() {
				defer conn.Close()
				s.serve(conn)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		wait.Wait()
	})
	return l.Addr().(*net.TCPAddr).Port
}

func (s *smtpServer) serve(conn net.Conn) {
	in := bufio.NewReader(conn)
	encrypted := false
	var m mailed
	say := func(line string) { fmt.Fprintf(conn, "%s\r\n", line) }
	say("220 test ESMTP")
	for {
		text, err := in.ReadString('\n')
		if err != nil {
			return
		}
		text = strings.TrimRight(text, "\r\n")
		verb, rest, _ := strings.Cut(text, " ")
		s.mu.Lock()
		s.plain = s.plain || !encrypted && (verb == "AUTH" || verb == "MAIL")
		s.mu.Unlock()
		switch strings.ToUpper(verb) {
		case "EHLO":
			if !encrypted && !s.noTLS {
				say("250-test\r\n250 STARTTLS")
			} else {
				say("250-test\r\n250-8BITMIME\r\n250 AUTH PLAIN")
			}
		case "STARTTLS":
			say("220 go on")
			upgraded := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{s.cert}})
			if upgraded.Handshake() != nil {
				return
			}
			conn, in, encrypted = upgraded, bufio.NewReader(upgraded), true
		case "AUTH":
			sent, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(rest, "PLAIN "))
			s.mu.Lock()
			s.auth = append(s.auth, string(sent))
			s.mu.Unlock()
			if s.wrong {
				say("535 no: " + strings.ReplaceAll(string(sent), "\x00", "/") + " " + rest)
				continue
			}
			say("235 welcome")
		case "MAIL":
			m = mailed{from: rest}
			say("250 ok")
		case "RCPT":
			if s.refuse != nil && s.refuse(rest) != "" {
				say(s.refuse(rest))
				continue
			}
			m.to = append(m.to, rest)
			say("250 ok")
		case "DATA":
			say("354 go on")
			var text strings.Builder
			for {
				line, err := in.ReadString('\n')
				if err != nil {
					return
				}
				if line == ".\r\n" {
					break
				}
				text.WriteString(strings.TrimPrefix(line, "."))
			}
			m.text = text.String()
			s.mu.Lock()
			s.mails = append(s.mails, m)
			s.mu.Unlock()
			say("250 taken")
		case "QUIT":
			say("221 bye")
			return
		default:
			say("250 ok")
		}
	}
}
