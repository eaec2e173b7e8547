package notify

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	netmail "net/mail"
	"strings"
	"time"

	"github.com/wneessen/go-mail"

	"github.com/sallyport/sallyport/credential"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/session"
)

const (
	// smtpTimeout bounds sign-in at the server, and each message.
	smtpTimeout = 10 * time.Second
	// mailTimeout bounds one try for all people of a notice.
	mailTimeout = time.Minute
)

type mailer struct {
	config MailConfig
	from   *netmail.Address
	set    credential.Set
	tls    *tls.Config
}

func newMailer(c MailConfig, set credential.Set) (*mailer, error) {
	roots, err := pool(c.CA)
	if err != nil {
		return nil, fmt.Errorf("mail: %w", err)
	}
	from, err := netmail.ParseAddress(c.From)
	if err != nil {
		return nil, fmt.Errorf("mail: read the sender: %w", err)
	}
	if c.Port == 0 {
		c.Port = DefaultPort
	}
	return &mailer{config: c, from: from, set: set, tls: &tls.Config{ServerName: c.Host, RootCAs: roots, MinVersion: tls.VersionTLS12}}, nil
}

func (m *mailer) name() string { return "mail" }

func (m *mailer) wants(n session.Notice) bool { return len(n.To) > 0 }

// send writes to each person alone, so that one bad address keeps nobody else's mail
// back. Who has got it is taken out of d.notice.To.
func (m *mailer) send(ctx context.Context, d *delivery) error {
	var letters []letterTo
	var left []identity.User
	var failures []error
	for _, u := range d.notice.To {
		msg, err := m.compose(d, u)
		if err != nil {
			left, failures = append(left, u), append(failures, final{err})
			continue
		}
		letters = append(letters, letterTo{u, msg})
	}
	if len(letters) > 0 {
		missed, errs := m.post(ctx, letters)
		left, failures = append(left, missed...), append(failures, errs...)
	}
	d.notice.To = left
	var texts []string
	hopeless := true
	for _, err := range failures {
		texts = append(texts, err.Error())
		hopeless = hopeless && errors.As(err, &final{})
	}
	switch err := errors.New(line(strings.Join(texts, "; "), maxError)); {
	case len(failures) == 0:
		return nil
	case hopeless:
		return final{err}
	default:
		return err
	}
}

type letterTo struct {
	user identity.User
	msg  *mail.Msg
}

// compose writes one person's message. The address is taken only where it is exactly
// one and nothing else: it comes from a token.
func (m *mailer) compose(d *delivery, u identity.User) (*mail.Msg, error) {
	to, err := netmail.ParseAddress(u.Email)
	if err != nil || to.Address != u.Email || to.Name != "" {
		return nil, fmt.Errorf("%s has no e-mail address that can be used", line(u.String(), 100))
	}
	msg := mail.NewMsg(mail.WithNoDefaultUserAgent())
	msg.FromMailAddress(m.from)
	msg.ToMailAddress(to)
	msg.Subject(subject(d.notice))
	msg.SetDateWithValue(d.at)
	_, domain, _ := strings.Cut(m.from.Address, "@")
	msg.SetMessageIDWithValue(d.id + "@" + domain)
	// No holiday reply answers this (RFC 3834, section 5).
	msg.SetGenHeader("Auto-Submitted", "auto-generated")
	msg.SetBodyString(mail.TypeTextPlain, letter(d.notice))
	return msg, nil
}

// post carries letters over one connection, and returns who was missed and why.
func (m *mailer) post(ctx context.Context, letters []letterTo) (missed []identity.User, failures []error) {
	ctx, cancel := context.WithTimeout(ctx, mailTimeout)
	defer cancel()
	all := func(err error) ([]identity.User, []error) {
		for _, l := range letters {
			missed = append(missed, l.user)
		}
		return missed, []error{err}
	}
	password, err := m.password(ctx)
	if err != nil {
		return all(plain("read the mail password", err))
	}
	// As AUTH PLAIN sends it (RFC 4616), and by itself.
	secrets := [][]byte{[]byte("\x00" + m.config.User + "\x00" + string(password.Reveal())), password.Reveal()}
	// The library heeds the context only while it dials, so its connection is closed with it.
	var conn net.Conn
	stop := func() bool { return true }
	dial := func(ctxDial context.Context, network, address string) (_ net.Conn, err error) {
		if conn, err = new(net.Dialer).DialContext(ctxDial, network, address); err != nil {
			return nil, err
		}
		stop = context.AfterFunc(ctx, func() { _ = conn.Close() })
		return conn, nil
	}
	defer func() {
		if stop(); conn != nil {
			_ = conn.Close()
		}
	}()
	client, err := mail.NewClient(m.config.Host, append(m.options(password), mail.WithDialContextFunc(dial))...)
	if err != nil {
		return all(plain("set up mail", err, secrets...))
	}
	smtp, err := client.DialToSMTPClientWithContext(ctx)
	if err != nil {
		return all(plain("reach the mail server", err, secrets...))
	}
	for _, l := range letters {
		err := client.SendWithSMTPClient(smtp, l.msg)
		if l.msg.IsDelivered() {
			continue
		}
		missed = append(missed, l.user)
		failure := plain("send mail", err, secrets...)
		var sendErr *mail.SendError
		if errors.As(err, &sendErr) && sendErr.ErrorCode() >= 500 {
			failure = final{failure}
		}
		failures = append(failures, failure)
	}
	_ = client.CloseWithSMTPClient(smtp) // says QUIT; every message has its answer already
	return missed, failures
}

func (m *mailer) password(ctx context.Context) (credential.Secret, error) {
	if m.config.User == "" {
		return credential.Secret{}, nil
	}
	return m.set.Read(ctx, m.config.Password)
}

// startTLS says whether mail may go out encrypted only. A server on this machine may do
// without, unless a password goes to it or it is to be verified.
func (m *mailer) startTLS() mail.TLSPolicy {
	if loopback(m.config.Host) && m.config.User == "" && m.config.CA == "" {
		return mail.NoTLS
	}
	return mail.TLSMandatory
}

func (m *mailer) options(password credential.Secret) []mail.Option {
	_, domain, _ := strings.Cut(m.from.Address, "@")
	options := []mail.Option{
		mail.WithPort(m.config.Port), mail.WithTimeout(smtpTimeout), mail.WithHELO(domain),
		mail.WithTLSPolicy(m.startTLS()), mail.WithTLSConfig(m.tls),
	}
	if m.config.User != "" {
		options = append(options, mail.WithSMTPAuth(mail.SMTPAuthAutoDiscover),
			mail.WithUsername(m.config.User), mail.WithPassword(string(password.Reveal())))
	}
	return options
}
