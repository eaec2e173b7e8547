package ssh

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/credential"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/session"
)

// keys are the gate's own. The login CA's is not among them: who knocks is the
// session's word.
type keys struct {
	host    []ssh.Signer
	hostCA  ssh.Signer
	session ssh.Signer
}

// hostCertificate is how long a host certificate is good: one is made for every
// connection, so that none has to be renewed.
const (
	hostCertificate = 12 * time.Hour
	skew            = 5 * time.Minute // of a client's or target's clock behind the gate's
)

// PublicKeys are the public halves of a listener's CAs.
type PublicKeys struct {
	HostCA    ssh.PublicKey // clients trust it, for named hosts
	SessionCA ssh.PublicKey // targets trust it
}

// PublicKeys reads the files and gives what others may know of them.
func (o Options) PublicKeys() (PublicKeys, error) {
	var k keys
	if err := k.load(o); err != nil {
		return PublicKeys{}, err
	}
	return PublicKeys{HostCA: k.hostCA.PublicKey(), SessionCA: k.session.PublicKey()}, nil
}

func (k *keys) load(o Options) (err error) {
	if len(o.HostKeys) == 0 {
		return errors.New("ssh: host_keys names no file")
	}
	for _, path := range o.HostKeys {
		key, err := readKey(path)
		if err != nil {
			return fmt.Errorf("ssh: host_keys: %w", err)
		}
		k.host = append(k.host, key)
	}
	if k.hostCA, err = readKey(o.HostCA); err != nil {
		return fmt.Errorf("ssh: host_ca: %w", err)
	}
	if k.session, err = readKey(o.SessionCA); err != nil {
		return fmt.Errorf("ssh: session_ca: %w", err)
	}
	return k.distinct()
}

// distinct refuses one key in two places: a client that trusts the host CA would
// else trust what a session certificate's key signs, and a target the reverse.
func (k *keys) distinct() error {
	seen := map[string]bool{}
	for _, key := range append(slices.Clone(k.host), k.hostCA, k.session) {
		mark := ssh.FingerprintSHA256(key.PublicKey())
		if seen[mark] {
			return errors.New("ssh: host_keys, host_ca and session_ca must be different keys, and one file is two of them")
		}
		seen[mark] = true
	}
	return nil
}

func readKey(path string) (ssh.Signer, error) {
	if path == "" {
		return nil, errors.New("no file is named")
	}
	text, err := credential.ReadFile(path)
	if err != nil {
		return nil, err
	}
	key, err := ssh.ParsePrivateKey(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if key.PublicKey().Type() == ssh.KeyAlgoRSA {
		return nil, fmt.Errorf("%s is an RSA key; make one with: ssh-keygen -t ed25519 -N '' -f FILE", path)
	}
	return key, nil
}

// hostKeys are the keys to show a client that calls the gate by one of names: a
// certificate by the host CA and the bare key, for each.
func (k *keys) hostKeys(names []string, now time.Time) ([]ssh.Signer, error) {
	var signers []ssh.Signer
	for _, key := range k.host {
		cert := &ssh.Certificate{
			Key: key.PublicKey(), CertType: ssh.HostCert, KeyId: "sallyport host " + names[0], ValidPrincipals: names, Serial: serial(),
			ValidAfter: uint64(now.Add(-skew).Unix()), ValidBefore: uint64(now.Add(hostCertificate).Unix()), //nolint:gosec // after 1970
		}
		if err := cert.SignCert(rand.Reader, k.hostCA); err != nil {
			return nil, fmt.Errorf("certify host key: %w", err)
		}
		certified, err := ssh.NewCertSigner(cert, key)
		if err != nil {
			return nil, fmt.Errorf("certify host key: %w", err)
		}
		signers = append(signers, certified, key)
	}
	return signers, nil
}

// sessionKey makes the key that logs in for one running session: it is made here,
// never stored, good for one account, and ends with the grant. What the grant's scope
// leaves out the target refuses too.
func (k *keys) sessionKey(sess *session.Session, up *session.Upstream, role policy.Role) (ssh.Signer, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make session key: %w", err)
	}
	key, err := ssh.NewSignerFromKey(private)
	if err != nil {
		return nil, fmt.Errorf("make session key: %w", err)
	}
	cert := &ssh.Certificate{
		Key: key.PublicKey(), CertType: ssh.UserCert, Serial: serial(),
		KeyId:           fmt.Sprintf("sallyport session %s request %s", sess.ID(), sess.Grant().Request),
		ValidPrincipals: []string{role.Account},
		ValidAfter:      uint64(time.Now().Add(-skew).Unix()), ValidBefore: uint64(sess.Ends().Unix()) + 1, //nolint:gosec // after 1970
		Permissions: ssh.Permissions{Extensions: extensions(up.Scope())},
	}
	if err := cert.SignCert(rand.Reader, k.session); err != nil {
		return nil, fmt.Errorf("certify session key: %w", err)
	}
	return ssh.NewCertSigner(cert, key)
}

func extensions(scope policy.Scope) map[string]string {
	r := rules{scope}
	e := map[string]string{"permit-user-rc": ""}
	for _, one := range []struct{ channel, extension string }{
		{channelShell, "permit-pty"},
		{channelExec, "permit-pty"},
		{channelForward, "permit-port-forwarding"},
		{channelListen, "permit-port-forwarding"},
		{channelAgent, "permit-agent-forwarding"},
		{channelX11, "permit-X11-forwarding"},
	} {
		if r.allows(one.channel) {
			e[one.extension] = ""
		}
	}
	return e
}

func serial() uint64 {
	b := make([]byte, 8)
	_, _ = rand.Read(b) // never fails: crypto/rand.Read ends the program instead
	return binary.BigEndian.Uint64(b)
}

func hostOf(address string) (string, error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", err
	}
	if u.Hostname() == "" {
		return "", errors.New("the gate's URL names no host")
	}
	return u.Hostname(), nil
}
