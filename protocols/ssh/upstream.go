package ssh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/proxy"
	"github.com/sallyport/sallyport/session"
)

// loginWait bounds the target's part of a login.
const loginWait = 15 * time.Second

// Ways to log in at a target (RoleOptions.Login).
const (
	loginCertificate = "certificate"
	loginKey         = "key"
	loginPassword    = "password"
)

// login connects to the target, verifies its host key, and logs in as the role's
// account. It needs the Upstream of a running session, so nothing is dialled and
// nothing certified before there is one.
func (c *conn) login(ctx context.Context, up *session.Upstream) (link, error) {
	target, err := up.Target()
	if err != nil {
		return link{}, err
	}
	role, err := up.Role()
	if err != nil {
		return link{}, err
	}
	known, err := knownHost(target)
	if err != nil {
		return link{}, &session.Failed{Say: "the target " + target.Name + " is not set up for SSH in the policy; ask its authors", Err: err}
	}
	auth, err := c.auth(ctx, up, role)
	if err != nil {
		return link{}, err
	}
	conn, err := up.Dial(ctx)
	if err != nil {
		return link{}, err
	}
	proxy.TargetConn(ctx, conn)
	_ = conn.SetDeadline(time.Now().Add(loginWait)) // fails only on a closed connection
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	socket := &socket{Conn: conn}
	client, channels, requests, err := ssh.NewClientConn(socket, target.Address, &ssh.ClientConfig{
		Config: c.h.algorithms, User: role.Account, Auth: auth, ClientVersion: version,
		HostKeyCallback: known.check, HostKeyAlgorithms: known.algorithms(),
		// Its banner is not passed on: the client is signed in already, and the bytes
		// would be the target's before the record has begun.
		BannerCallback: func(string) error { return nil },
	})
	var unknown *unknownHost
	switch {
	case context.Cause(ctx) != nil:
		return link{}, context.Cause(ctx)
	case errors.As(err, &unknown):
		up.Alarm(ctx, fmt.Sprintf("the host key of target %s is not the one in the policy: %s", target.Name, unknown.seen))
		return link{}, &session.Failed{Say: "the target " + target.Name + " does not prove itself by the host key in the policy, so nothing was opened; ask the platform team", Err: err}
	case err != nil:
		return link{}, &session.Failed{Say: "the target " + target.Name + " " + notIn(role.Name, err) + "; ask the platform team", Err: err}
	}
	_ = conn.SetDeadline(time.Time{}) // as above
	return link{client, channels, requests, socket}, nil
}

// notIn says what a target did that the gate could not log in to.
func notIn(role string, err error) string {
	var none *ssh.AlgorithmNegotiationError
	switch {
	case errors.As(err, &none):
		return "and the gate have no algorithm in common"
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "did not finish the login within " + loginWait.String()
	}
	return "does not let the gate log in as " + role
}

// auth is how the gate proves itself to the target.
func (c *conn) auth(ctx context.Context, up *session.Upstream, role policy.Role) ([]ssh.AuthMethod, error) {
	var o RoleOptions
	if role.Options != nil {
		if err := role.Options(&o); err != nil {
			return nil, notSetUp(role, err)
		}
	}
	if o.Login == "" {
		o.Login = loginCertificate
		if role.Credential != "" {
			o.Login = loginKey
		}
	}
	if o.Login == loginCertificate {
		key, err := c.h.keys.sessionKey(c.sess, up, role)
		if err != nil {
			return nil, err
		}
		return []ssh.AuthMethod{ssh.PublicKeys(key)}, nil
	}
	secret, err := up.Secret(ctx)
	if err != nil {
		return nil, err
	}
	switch {
	case secret.IsZero():
		return nil, notSetUp(role, errors.New("the role names no credential"))
	case o.Login == loginKey:
		key, err := ssh.ParsePrivateKey(secret.Reveal())
		if err != nil {
			return nil, notSetUp(role, errors.New("its credential is no private key without a passphrase")) // err may quote it
		}
		return []ssh.AuthMethod{ssh.PublicKeys(key)}, nil
	case o.Login == loginPassword:
		password := string(secret.Reveal())
		return []ssh.AuthMethod{ssh.Password(password), ssh.KeyboardInteractive(answer(password))}, nil
	}
	return nil, notSetUp(role, fmt.Errorf("login = %q is not one of certificate, key, password", o.Login))
}

// answer gives the password to one hidden question, which is how PAM asks for it,
// and to no other.
func answer(password string) ssh.KeyboardInteractiveChallenge {
	asked := false
	return func(_, _ string, questions []string, echos []bool) ([]string, error) {
		switch {
		case len(questions) == 0:
			return nil, nil
		case len(questions) > 1 || echos[0] || asked:
			return nil, errors.New("the target asks for more than a password")
		}
		asked = true
		return []string{password}, nil
	}
}

func notSetUp(role policy.Role, err error) error {
	return &session.Failed{Say: "the role " + role.Name + " is not set up for SSH in the policy; ask its authors", Err: fmt.Errorf("role %q: %w", role.Name, err)}
}

// A hostIdentity is how a target is known: by keys, or by CAs for one name.
type hostIdentity struct {
	keys, cas []ssh.PublicKey
	name      string
}

// unknownHost says that a target showed another key than the policy has.
type unknownHost struct{ seen string }

func (u *unknownHost) Error() string {
	return "the target's host key is not in the policy: it showed " + u.seen
}

func knownHost(t policy.Target) (*hostIdentity, error) {
	o, err := optionsOf(t)
	if err != nil {
		return nil, err
	}
	h := &hostIdentity{name: o.HostName}
	for _, part := range []struct {
		lines []string
		into  *[]ssh.PublicKey
	}{{o.HostKeys, &h.keys}, {o.HostCA, &h.cas}} {
		for _, line := range part.lines {
			key, _, options, _, err := ssh.ParseAuthorizedKey([]byte(line))
			if err != nil || len(options) > 0 {
				return nil, fmt.Errorf("target %q: %q is no public key; write \"ssh-ed25519 AAAA...\"", t.Name, line)
			}
			*part.into = append(*part.into, key)
		}
	}
	if len(h.keys)+len(h.cas) == 0 {
		return nil, fmt.Errorf("target %q: options have neither host_keys nor host_ca", t.Name)
	}
	if h.name == "" {
		h.name, _, _ = strings.Cut(t.Address, ":")
		if host, _, err := net.SplitHostPort(t.Address); err == nil {
			h.name = host
		}
	}
	return h, nil
}

func optionsOf(t policy.Target) (TargetOptions, error) {
	var o TargetOptions
	if t.Options != nil {
		if err := t.Options(&o); err != nil {
			return o, err
		}
	}
	if o.Output != "" && o.Output != "full" && o.Output != "digest" {
		return o, fmt.Errorf("target %q: record_output = %q is not one of full, digest", t.Name, o.Output)
	}
	if o.Files != "" && o.Files != "digest" && o.Files != "content" {
		return o, fmt.Errorf("target %q: record_files = %q is not one of digest, content", t.Name, o.Files)
	}
	return o, nil
}

// check is an ssh.HostKeyCallback. There is no first sight: a key is in the signed
// policy, or certified for this name by a CA that is.
func (h *hostIdentity) check(_ string, _ net.Addr, key ssh.PublicKey) error {
	cert, certified := key.(*ssh.Certificate)
	if !certified {
		if contains(h.keys, key) {
			return nil
		}
		return &unknownHost{key.Type() + " " + ssh.FingerprintSHA256(key)}
	}
	seen := fmt.Sprintf("a certificate for %q by %s", cert.ValidPrincipals, ssh.FingerprintSHA256(cert.SignatureKey))
	if cert.CertType != ssh.HostCert || !contains(h.cas, cert.SignatureKey) {
		return &unknownHost{seen}
	}
	if err := (&ssh.CertChecker{}).CheckCert(h.name, cert); err != nil {
		return &unknownHost{seen + ": " + err.Error()}
	}
	return nil
}

// algorithms asks the target for a key of a kind that can be checked.
func (h *hostIdentity) algorithms() []string {
	var list []string
	if len(h.cas) > 0 {
		list = append(list, ssh.CertAlgoED25519v01, ssh.CertAlgoECDSA256v01, ssh.CertAlgoECDSA384v01, ssh.CertAlgoECDSA521v01, ssh.CertAlgoRSASHA512v01, ssh.CertAlgoRSASHA256v01)
	}
	for _, key := range h.keys {
		kinds := []string{key.Type()}
		if key.Type() == ssh.KeyAlgoRSA {
			kinds = []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
		}
		for _, kind := range kinds {
			if !slices.Contains(list, kind) {
				list = append(list, kind)
			}
		}
	}
	return list
}

func contains(keys []ssh.PublicKey, key ssh.PublicKey) bool {
	return slices.ContainsFunc(keys, func(k ssh.PublicKey) bool { return bytes.Equal(k.Marshal(), key.Marshal()) })
}
