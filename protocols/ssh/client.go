package ssh

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/proxy"
	"github.com/sallyport/sallyport/session"
)

// maxTries bounds failed tries to sign in on one connection. An agent with many keys
// has as many offers beside them.
const maxTries = 10

// version is what the gate calls itself to both sides (RFC 4253, section 4.2).
const version = "SSH-2.0-Sallyport"

// hello shakes hands and has the client sign in. The gate is asked inside, so a
// client is held before it is told that it is in, and cannot open anything meanwhile.
// Without an error either c.sess is set, or the client named no target (jump).
func (c *conn) hello(ctx context.Context, cancel context.CancelCauseFunc) (link, error) {
	config, err := c.server(ctx)
	if err != nil {
		return link{}, err
	}
	if c.outer != nil {
		_ = c.net.SetDeadline(time.Now().Add(proxy.Handshake(ctx))) // of ours, and never fails
	}
	stop := context.AfterFunc(ctx, func() { c.farewell(context.Cause(ctx)) })
	defer stop()
	var in atomic.Bool
	defer in.Store(true) // from then on the relay sees by itself that the client has gone, and loses nothing it sent
	gone := func() {
		if !in.Load() {
			cancel(errHungUp)
		}
	}
	conn, channels, requests, err := ssh.NewServerConn(&watched{Conn: c.net, gone: gone}, config)
	switch {
	case c.why != nil:
		return link{}, c.why
	case err != nil:
		return link{}, fmt.Errorf("sign in: %w", err)
	}
	return link{conn, channels, requests, nil}, nil
}

// farewell ends a connection that is still shaking hands, when the gate stops or the
// client went. What Open answers by then is said by notice before.
func (c *conn) farewell(cause error) {
	if errors.Is(cause, errHungUp) {
		_ = c.net.Close() // already gone
		return
	}
	// Open ends by the same context and says why; this is for who was not asked yet.
	time.AfterFunc(lastWords, func() { _ = c.net.Close() })
}

// server is what x/crypto/ssh calls back; its calls carry no context, so each is
// given hello's.
func (c *conn) server(ctx context.Context) (*ssh.ServerConfig, error) {
	config := &ssh.ServerConfig{
		Config: c.h.algorithms, PublicKeyAuthAlgorithms: signatures(), MaxAuthTries: maxTries, ServerVersion: version,
		PreAuthConnCallback: func(pre ssh.ServerPreAuthConn) { c.pre = pre },
		NoClientAuth:        true,
		NoClientAuthCallback: func(meta ssh.ConnMetadata) (*ssh.Permissions, error) {
			return nil, c.none(ctx, meta)
		},
		PublicKeyCallback: func(meta ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			return nil, c.offered(ctx, meta, key)
		},
		VerifiedPublicKeyCallback: func(meta ssh.ConnMetadata, key ssh.PublicKey, _ *ssh.Permissions, _ string) (*ssh.Permissions, error) {
			return nil, c.verified(ctx, meta, key)
		},
		KeyboardInteractiveCallback: func(meta ssh.ConnMetadata, round ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
			return nil, c.interactive(ctx, meta, round)
		},
		PasswordCallback: func(meta ssh.ConnMetadata, password []byte) (*ssh.Permissions, error) {
			return nil, c.password(ctx, meta, password)
		},
	}
	names := c.h.names
	if c.host != "" {
		names = []string{c.host}
	}
	signers, err := c.h.keys.hostKeys(names, time.Now())
	if err != nil {
		return nil, err
	}
	for _, key := range signers {
		config.AddHostKey(key)
	}
	return config, nil
}

// errElse sends a client on to the next way to sign in.
var errElse = errors.New("this way to sign in proves nothing here")

// none is what clients try first.
func (c *conn) none(ctx context.Context, meta ssh.ConnMetadata) error {
	n, err := c.names(meta)
	switch {
	case err != nil:
		return c.no(err)
	case n.token:
		// Offered alone, because OpenSSH would try others first and then ask for a
		// password as if it were an account's.
		return &ssh.PartialSuccessError{Next: ssh.ServerAuthCallbacks{PasswordCallback: func(meta ssh.ConnMetadata, password []byte) (*ssh.Permissions, error) {
			return nil, c.password(ctx, meta, password)
		}}}
	case c.outer != nil && c.outer.proof.SSH != nil:
		return c.askOrQuestion(ctx, meta, n, c.outer.proof)
	}
	return errElse
}

// offered says whether it is worth signing with a key. A certificate of the login CA
// is; whether the client holds its key is shown by the signature, and verified is
// called with it.
func (c *conn) offered(ctx context.Context, meta ssh.ConnMetadata, key ssh.PublicKey) error {
	n, err := c.names(meta)
	if err != nil {
		return c.no(err)
	}
	if n.token {
		return errElse
	}
	cert, ok := key.(*ssh.Certificate)
	if !ok {
		return c.hint(errElse, "this key signs nobody in. Without a browser (BatchMode, ansible) a certificate is needed; run: sallyport login")
	}
	if _, err := c.gate.Known(ctx, identity.Proof{Kind: identity.ByCertificate, SSH: cert}); err != nil {
		return c.hint(err, c.gate.Message(err))
	}
	return nil
}

// verified is called with a key whose signature over this very connection is good:
// only here somebody is proved.
func (c *conn) verified(ctx context.Context, meta ssh.ConnMetadata, key ssh.PublicKey) error {
	n, err := c.names(meta)
	if err != nil {
		return c.no(err)
	}
	cert, ok := key.(*ssh.Certificate)
	if !ok {
		return errElse
	}
	proof := identity.Proof{Kind: identity.ByCertificate, SSH: cert}
	if n.target == "" {
		c.proof = proof
		return nil
	}
	return c.askOrQuestion(ctx, meta, n, proof)
}

// interactive is the browser proof. Nothing is asked: what there is to say comes by
// banners, which clients show at once.
func (c *conn) interactive(ctx context.Context, meta ssh.ConnMetadata, challenge ssh.KeyboardInteractiveChallenge) error {
	n, err := c.names(meta)
	if err != nil {
		return c.no(err)
	}
	if n.token {
		return errElse
	}
	if n.target == "" {
		// Nobody is proved: what an inner connection opens it has to prove itself.
		return nil
	}
	if keepsBanners(string(meta.ClientVersion())) {
		c.round = challenge
		defer func() { c.round = nil }()
	}
	return c.ask(ctx, meta, n, identity.Proof{Kind: identity.ByBrowser})
}

// password takes a grant token or a pipeline's JWT, and nothing for names without +token: clients come to
// it last, but some (paramiko) try nothing else.
func (c *conn) password(ctx context.Context, meta ssh.ConnMetadata, password []byte) error {
	n, err := c.names(meta)
	switch {
	case err != nil:
		return c.no(err)
	case !n.token:
		return c.no(&session.Invalid{Field: "password", Hint: "a password opens nothing here; a grant token does, as that of ROLE+token@TARGET"})
	}
	return c.ask(ctx, meta, n, identity.Proof{Kind: identity.ByToken, Token: identity.Token(password)})
}

// ask asks the gate, once; it may hold. What the client reads comes by notice.
func (c *conn) ask(ctx context.Context, meta ssh.ConnMetadata, n name, proof identity.Proof) error {
	if c.why != nil {
		return c.why
	}
	c.unhurried()
	sess, err := c.gate.Open(ctx, c.asks(meta, n, proof), c.notice)
	if err != nil {
		return c.no(err)
	}
	c.sess = sess
	return nil
}

func (c *conn) asks(meta ssh.ConnMetadata, n name, proof identity.Proof) session.Ask {
	return session.Ask{
		Target: n.target, Role: n.role, NoWait: n.nowait, Proof: proof, Reason: c.said.reason, Ticket: c.said.ticket, Duration: c.said.duration,
		Client: session.Client{Protocol: Name, Address: proxy.AddrPort(c.net), Program: program(meta.ClientVersion())},
	}
}

// notice shows the client one line while it is held: as a banner, or to PuTTY as the
// instruction of a round without a question. Nobody has to type anything.
func (c *conn) notice(line string) error {
	if c.round == nil {
		if err := c.pre.SendAuthBanner(prefix + line + "\r\n"); err != nil {
			return fmt.Errorf("send banner: %w", err)
		}
		return nil
	}
	timer := time.AfterFunc(answerWait, func() { _ = c.net.Close() }) // an error says that it is closed
	defer timer.Stop()
	if _, err := c.round("", prefix+line+"\r\n", nil, nil); err != nil {
		return fmt.Errorf("say during keyboard-interactive: %w", err)
	}
	return nil
}

// keepsBanners reports PuTTY and what is made of it, which show banners only when a
// sign-in is over. Others write instructions each in its own way (dropbear without a
// line break, OpenSSH with one of its own), but banners alike.
func keepsBanners(version string) bool {
	return strings.Contains(version, "PuTTY") || strings.Contains(version, "WinSCP") || strings.Contains(version, "FileZilla")
}

// answerWait bounds a client's part of a round without a question, which no person
// answers.
const answerWait = 10 * time.Second

// A name is what a client says by its user name: ROLE[+token][+nowait]@TARGET. Who
// the user is it never says.
type name struct {
	role, target  string
	token, nowait bool
}

// names reads the user name. An inner connection's target is the host that the
// outer one was asked for. Without a target nothing can be opened but `ssh -J`.
func (c *conn) names(meta ssh.ConnMetadata) (name, error) {
	user := meta.User()
	n := name{role: user, target: c.host}
	if at := strings.LastIndexByte(user, '@'); at >= 0 {
		n.role, n.target = user[:at], user[at+1:]
		if c.host != "" && n.target != c.host {
			return n, &session.Invalid{Field: "target", Hint: fmt.Sprintf("the user name names another target than %s; type: ssh -J GATE ROLE@%s", c.host, c.host)}
		}
	} else if c.host == "" {
		return name{}, nil
	}
	parts := strings.Split(n.role, "+")
	n.role = parts[0]
	for _, flag := range parts[1:] {
		switch flag {
		case "token":
			n.token = true
		case "nowait":
			n.nowait = true
		default:
			return n, &session.Invalid{Field: "role", Hint: "behind a role there may be +token or +nowait; type: ssh ROLE+token@TARGET@GATE"}
		}
	}
	if c.name == (name{}) {
		c.name = n
	}
	// RFC 4252, section 5, lets the name change between tries; what was said of one
	// must not serve another.
	if c.name != n {
		return n, &session.Invalid{Field: "user", Hint: "the user name changed during the sign-in; connect again"}
	}
	return n, nil
}

// program is what a client calls itself, for people to read.
func program(version []byte) string {
	text := strings.TrimPrefix(string(version), "SSH-2.0-")
	text = strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7e {
			return -1
		}
		return r
	}, text)
	return text[:min(len(text), 60)]
}
