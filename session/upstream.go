package session

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/credential"
	"github.com/sallyport/sallyport/policy"
)

// dialWait bounds a dial of a target.
const dialWait = 10 * time.Second

// Upstream is the capability to reach the target: it exists only while a session
// runs. Address and secret come from it and from nowhere else.
type Upstream struct {
	s        *Session
	recorder *audit.Recorder
}

// Recorder is where the session is recorded, before its bytes go on.
func (u *Upstream) Recorder() *audit.Recorder { return u.recorder }

// Warnings are lines to show the user when the protocol can: minutes left, a stop.
func (u *Upstream) Warnings() <-chan string { return u.s.warnings }

// Scope is what the session may do.
func (u *Upstream) Scope() policy.Scope { return u.s.grant.Scope }

// Object is what inside the target was asked for; empty for the target's own.
func (u *Upstream) Object() string { return u.s.grant.Key.Object }

// Target is the target as the policy of now describes it.
func (u *Upstream) Target() (policy.Target, error) {
	t, ok := u.s.g.Policy().Target(u.s.grant.Key.Target)
	if !ok {
		return policy.Target{}, &Ended{Cause: ErrPolicy.Cause, Say: "the policy no longer has the target " + u.s.grant.Key.Target, At: time.Now()}
	}
	return t, nil
}

// Role is the account to log in as.
func (u *Upstream) Role() (policy.Role, error) {
	t, err := u.Target()
	if err != nil {
		return policy.Role{}, err
	}
	r, ok := t.Roles[u.s.grant.Key.Role]
	if !ok {
		return policy.Role{}, &Ended{Cause: ErrPolicy.Cause, Say: "the target " + t.Name + " no longer has the role " + u.s.grant.Key.Role, At: time.Now()}
	}
	return r, nil
}

// Dial connects to the target, in plaintext; TLS is the protocol's (TLSConfig). The
// user is told that the target cannot be reached, never where it is.
func (u *Upstream) Dial(ctx context.Context) (net.Conn, error) {
	t, err := u.Target()
	if err != nil {
		return nil, err
	}
	network := "tcp"
	if strings.HasPrefix(t.Address, "/") {
		network = "unix"
	}
	d := net.Dialer{Timeout: dialWait, KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}}
	conn, err := d.DialContext(ctx, network, t.Address)
	if err != nil {
		return nil, &Failed{Say: "the target " + t.Name + " cannot be reached now; ask the platform team", Err: err}
	}
	return conn, nil
}

// TLSConfig is how the target must prove itself; nil where the signed policy says
// that it is spoken to in plaintext.
func (u *Upstream) TLSConfig() (*tls.Config, error) {
	t, err := u.Target()
	if err != nil {
		return nil, err
	}
	if t.TLS.Mode == "off" {
		return nil, nil //nolint:nilnil // plaintext is the signed policy's word
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.TLS.ServerName, RootCAs: t.TLS.Roots}
	if c.ServerName == "" {
		host, _, err := net.SplitHostPort(t.Address)
		if err != nil {
			return nil, &Failed{Say: "the target " + t.Name + " has no name to verify; ask the policy's authors", Err: err}
		}
		c.ServerName = host
	}
	if len(t.TLS.Pins) > 0 {
		c.VerifyConnection = func(state tls.ConnectionState) error { return pinned(t.TLS.Pins, state) }
	}
	return c, nil
}

// pinned accepts a target whose key is one of the pinned ones.
func pinned(pins []string, state tls.ConnectionState) error {
	sum := sha256.Sum256(state.PeerCertificates[0].RawSubjectPublicKeyInfo)
	have := "sha256:" + hex.EncodeToString(sum[:])
	for _, pin := range pins {
		if subtle.ConstantTimeCompare([]byte(strings.ToLower(pin)), []byte(have)) == 1 {
			return nil
		}
	}
	return fmt.Errorf("the target's key %s is not pinned", have)
}

// Secret is the role's credential; zero where the policy names none.
func (u *Upstream) Secret(ctx context.Context) (credential.Secret, error) {
	role, err := u.Role()
	if err != nil || role.Credential == "" {
		return credential.Secret{}, err
	}
	secret, err := u.s.g.c.Credentials.Read(ctx, role.Credential)
	if err != nil {
		return credential.Secret{}, &Failed{Say: "the credential for " + u.s.grant.Key.Target + " cannot be read; ask the platform team", Err: fmt.Errorf("credential %q: %w", role.Credential, err)}
	}
	return secret, nil
}

// Alarm writes down something about this session that somebody must look at.
func (u *Upstream) Alarm(ctx context.Context, what string) {
	s := u.s
	s.g.c.Logger.Error("session alarm", "session", s.id, "what", what)
	//nolint:errcheck // restrict stops the gate by itself where it cannot write
	s.g.restrict(ctx, func(t Tx) error {
		return t.Log(audit.Event{
			Type: audit.SessionAlarm, Actor: "gate", Session: s.id, Grant: s.grant.ID, Request: s.grant.Request,
			Body: map[string]any{"what": what, "user": s.who.user.String(), "key": s.grant.Key},
		})
	})
}
