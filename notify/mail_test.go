package notify

import (
	"context"
	"errors"
	"io"
	"mime"
	"mime/quotedprintable"
	"net"
	netmail "net/mail"
	"strings"
	"testing"
	"time"

	"github.com/wneessen/go-mail"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/leak"
	"github.com/sallyport/sallyport/session"
)

// post starts s and makes a mailer for it.
func post(t *testing.T, s *smtpServer) *mailer {
	t.Helper()
	cert, ca := certificate(t)
	s.cert = cert
	m, err := newMailer(MailConfig{Host: "127.0.0.1", Port: s.start(t), From: "Gate <gate@example.com>", User: "gate", Password: "mail", CA: ca}, secrets)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// parse reads a mail as its reader's program does.
func parse(t *testing.T, text string) (*netmail.Message, string) {
	t.Helper()
	m, err := netmail.ReadMessage(strings.NewReader(text))
	if err != nil {
		t.Fatalf("%v in %q", err, text)
	}
	body, err := io.ReadAll(quotedprintable.NewReader(m.Body))
	if err != nil || m.Header.Get("Content-Transfer-Encoding") != "quoted-printable" {
		t.Fatalf("body: %v, %v", err, m.Header)
	}
	return m, strings.ReplaceAll(string(body), "\r\n", "\n")
}

func decoded(t *testing.T, header string) string {
	t.Helper()
	text, err := new(mime.WordDecoder).DecodeHeader(header)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestMailGoesToEachByTLS(t *testing.T) {
	leak.Check(t)
	s := &smtpServer{}
	m := post(t, s)
	var undelivered reports
	f := start([]sink{m}, time.Millisecond, undelivered.add, quiet)
	f.Notify(t.Context(), notice("bob@example.com", "carol@example.com"))
	f.Close()
	if len(undelivered.all()) != 0 || len(s.mails) != 2 || s.plain {
		t.Fatalf("reported %+v, mails %+v, in plaintext %v", undelivered.all(), s.mails, s.plain)
	}
	if len(s.auth) != 1 || s.auth[0] != "\x00gate\x00"+password {
		t.Errorf("signed in with %q", s.auth)
	}
	for i, to := range []string{"bob@example.com", "carol@example.com"} {
		got := s.mails[i]
		if !strings.HasPrefix(got.from, "FROM:<gate@example.com>") || len(got.to) != 1 || got.to[0] != "TO:<"+to+">" {
			t.Errorf("envelope %+v", got)
		}
		msg, body := parse(t, got.text)
		for key, want := range map[string]string{
			"To": "<" + to + ">", "From": `"Gate" <gate@example.com>`, "Subject": "Approval asked: alice@example.com, orders as reader",
			"Auto-Submitted": "auto-generated", "Content-Type": "text/plain; charset=UTF-8",
		} {
			if msg.Header.Get(key) != want {
				t.Errorf("%s is %q, want %q", key, msg.Header.Get(key), want)
			}
		}
		const want = `alice@example.com asks for orders as reader for 30m0s: INC-42 stuck order.

Who         alice@example.com
What        orders as reader
How long    30m0s
Reason      INC-42 stuck order
Ticket      INC-42
Waits until 2026-11-25 00:30 UTC

See it at https://gate.example.com/r/7
Opening the page decides nothing.
`
		if strings.TrimSpace(body) != strings.TrimSpace(want) {
			t.Errorf("body is %q", body)
		}
	}
}

// A server between gate and mail server that hides STARTTLS must not get the password.
func TestStrippedSTARTTLSIsRefused(t *testing.T) {
	s := &smtpServer{noTLS: true}
	m := post(t, s)
	if _, err := once(t, m, notice("bob@example.com")); err == nil || !strings.HasPrefix(err.Error(), "reach the mail server: ") || !strings.Contains(err.Error(), "STARTTLS") {
		t.Errorf("err is %v", err)
	}
	if len(s.auth) != 0 || len(s.mails) != 0 {
		t.Errorf("it got %q and %+v", s.auth, s.mails)
	}
}

func TestMailServerWithAnotherCertificate(t *testing.T) {
	s := &smtpServer{}
	m := post(t, s)
	s.cert, _ = certificate(t)
	if _, err := once(t, m, notice("bob@example.com")); err == nil || !strings.HasPrefix(err.Error(), "reach the mail server: ") || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("err is %v", err)
	}
	if len(s.auth) != 0 || len(s.mails) != 0 {
		t.Errorf("it got %q and %+v", s.auth, s.mails)
	}
}

func TestOnlyThisMachineMayDoWithoutTLS(t *testing.T) {
	for _, c := range []struct {
		config MailConfig
		want   mail.TLSPolicy
	}{
		{MailConfig{Host: "smtp.example.com"}, mail.TLSMandatory},
		{MailConfig{Host: "10.0.0.1"}, mail.TLSMandatory},
		{MailConfig{Host: "127.0.0.1.example.com"}, mail.TLSMandatory},
		{MailConfig{Host: "localhost", User: "gate"}, mail.TLSMandatory},
		{MailConfig{Host: "localhost", CA: "ca.pem"}, mail.TLSMandatory},
		{MailConfig{Host: "localhost"}, mail.NoTLS},
		{MailConfig{Host: "::1"}, mail.NoTLS},
	} {
		if got := (&mailer{config: c.config}).startTLS(); got != c.want {
			t.Errorf("%+v: %v, want %v", c.config, got, c.want)
		}
	}
	s := &smtpServer{noTLS: true}
	m, err := newMailer(MailConfig{Host: "127.0.0.1", Port: s.start(t), From: "gate@example.com"}, secrets)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := once(t, m, notice("bob@example.com")); err != nil || len(s.mails) != 1 {
		t.Errorf("a server on this machine: %v, %+v", err, s.mails)
	}
}

func TestRefusedPasswordIsInNoError(t *testing.T) {
	s := &smtpServer{wrong: true}
	m := post(t, s)
	_, err := once(t, m, notice("bob@example.com"))
	if err == nil || !strings.HasPrefix(err.Error(), "reach the mail server: ") || len(s.auth) != 1 {
		t.Fatalf("err is %v", err)
	}
	for _, no := range []string{password, "AGdhdGU", "\n"} {
		if strings.Contains(err.Error(), no) {
			t.Errorf("%q is in %q", no, err)
		}
	}
}

// A server that takes the connection and says nothing must not hold up the gate's end.
func TestSilentMailServerIsLeftWhenTheGateStops(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	m, err := newMailer(MailConfig{Host: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port, From: "gate@example.com"}, secrets)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	begin := time.Now()
	go func() { ended <- m.send(ctx, &delivery{id: "msg_1", at: begin, notice: notice("bob@example.com")}) }()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	cancel()
	if err := <-ended; err == nil || !strings.HasPrefix(err.Error(), "reach the mail server: ") {
		t.Errorf("err is %v", err)
	}
	if took := time.Since(begin); took >= smtpTimeout {
		t.Errorf("it took %v", took)
	}
}

func TestOneBadAddressKeepsNobodyElsesMail(t *testing.T) {
	s := &smtpServer{refuse: func(rcpt string) string {
		switch {
		case strings.Contains(rcpt, "gone"):
			return "550 no such mailbox"
		case strings.Contains(rcpt, "busy"):
			return "451 later"
		}
		return ""
	}}
	m := post(t, s)
	d, err := once(t, m, notice("gone@example.com", "busy@example.com", "", "bob@example.com"))
	if len(s.mails) != 1 || s.mails[0].to[0] != "TO:<bob@example.com>" {
		t.Errorf("mails %+v", s.mails)
	}
	if err == nil || errors.As(err, &final{}) || len(d.notice.To) != 3 {
		t.Errorf("left are %v, err %v", d.notice.To, err)
	}
	d.notice.To = []identity.User{person("gone@example.com"), person("")}
	if _, err := once(t, m, d.notice); !errors.As(err, &final{}) || !strings.Contains(err.Error(), "has no e-mail address that can be used") {
		t.Errorf("tried again although hopeless: %v", err)
	}
}

func TestWhatPeopleWriteStaysText(t *testing.T) {
	s := &smtpServer{}
	m := post(t, s)
	n := notice("bob@example.com\r\nBcc: eve@example.com", "bob@example.com, eve@example.com", "Eve <eve@example.com>", "bob@example.com> <eve@example.com", "bob@example.com")
	n.Request.User.Email = "alice@example.com\r\nBcc: eve@example.com"
	n.Request.Input.Target = "orders\r\nX-Evil: 1\r\n\r\nbody"
	n.Request.Input.Reason = "one\r\n.\r\nMAIL FROM:<eve@example.com>\r\n\u202eright to left\u2028line"
	n.Say = "say\nTicket      INC-1"
	n.URL = "https://gate.example.com/r/7\nSee it at https://evil.example.com"
	_, err := once(t, m, n)
	if err == nil || strings.ContainsAny(err.Error(), "\r\n") || len(s.mails) != 1 || len(s.mails[0].to) != 1 || s.mails[0].to[0] != "TO:<bob@example.com>" {
		t.Fatalf("err %v, mails %+v", err, s.mails)
	}
	msg, body := parse(t, s.mails[0].text)
	if msg.Header.Get("Bcc") != "" || msg.Header.Get("X-Evil") != "" || msg.Header.Get("To") != "<bob@example.com>" {
		t.Errorf("headers are %v", msg.Header)
	}
	if got := decoded(t, msg.Header.Get("Subject")); strings.ContainsAny(got, "\r\n") || !strings.HasPrefix(got, "Approval asked: alice@example.com  Bcc: eve") {
		t.Errorf("subject is %q", got)
	}
	if got := strings.Count(strings.TrimSpace(body), "\n"); got != 10 || strings.ContainsAny(body, "\r\u202e\u2028") {
		t.Errorf("%d lines: %q", got, body)
	}
}

func TestSubjects(t *testing.T) {
	n := notice("alice@example.com")
	for kind, want := range map[string]string{
		session.NoticeApproved: "Approved: orders as reader", session.NoticeDenied: "Denied: orders as reader",
		session.NoticeTimedOut: "Timed out: orders as reader", session.NoticeWithdrawn: "Withdrawn: orders as reader",
	} {
		if n.Kind = kind; subject(n) != want {
			t.Errorf("%s: %q", kind, subject(n))
		}
	}
	n.Request.Input.Target = strings.Repeat("ö", 400)
	if got := []rune(subject(n)); len(got) != maxSubject {
		t.Errorf("a subject of %d characters", len(got))
	}
}

func FuzzMail(f *testing.F) {
	f.Add("alice@example.com", "orders", "a reason\r\nBcc: eve@example.com")
	f.Add("bob@example.com\n", "=?utf-8?q?=0d=0aBcc:_eve@example.com?=", "\x00\xff")
	m, err := newMailer(MailConfig{Host: "localhost", From: "gate@example.com"}, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, email, target, reason string) {
		n := notice()
		n.Request.User.Email, n.Request.Input.Target, n.Request.Input.Reason = email, target, reason
		msg, err := m.compose(&delivery{id: "msg_1", at: time.Unix(0, 0), notice: n}, person(email))
		if err != nil {
			return
		}
		var out strings.Builder
		if _, err := msg.WriteTo(&out); err != nil {
			t.Fatal(err)
		}
		got, err := netmail.ReadMessage(strings.NewReader(out.String()))
		if err != nil {
			t.Fatal(err)
		}
		known := map[string]bool{"To": true, "From": true, "Subject": true, "Date": true, "Message-Id": true, "Mime-Version": true, "Auto-Submitted": true, "Content-Type": true, "Content-Transfer-Encoding": true}
		for key := range got.Header {
			if !known[key] {
				t.Errorf("header %q came in by %q", key, email+target+reason)
			}
		}
		if to, err := got.Header.AddressList("To"); err != nil || len(to) != 1 || to[0].Address != email {
			t.Errorf("To is %q, %v, for %q", got.Header.Get("To"), err, email)
		}
	})
}
