package main

import (
	"bytes"
	"fmt"
	"time"

	gossh "golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/config"
	"github.com/sallyport/sallyport/credential"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/protocols/ssh"
)

// sshLogin reads the login CA for SSH; nil where none is configured.
func (p *program) sshLogin() (*identity.SSHCA, error) {
	if p.config.LoginCA.SSHKey == "" {
		return nil, nil //nolint:nilnil // none are taken, and that is no error
	}
	key, err := credential.ReadFile(p.config.LoginCA.SSHKey)
	if err != nil {
		return nil, err
	}
	return identity.LoadSSHCA(key)
}

// sshVerifier is what the gate asks about people's SSH certificates; nil: none prove anybody.
func sshVerifier(ca *identity.SSHCA) func(*gossh.Certificate) (string, error) {
	if ca == nil {
		return nil
	}
	return func(cert *gossh.Certificate) (string, error) { return ca.Verify(cert, time.Now()) }
}

// sshHostCA is the CA by which clients know the SSH listener; nil where there is none.
// A login CA that is also one of the listener's keys is refused: targets trust the
// session CA, so everybody with a login certificate could enter them past the gate.
func sshHostCA(c *config.Config, login *identity.SSHCA) (gossh.PublicKey, error) {
	for _, l := range c.Listeners {
		if l.Protocol != ssh.Name {
			continue
		}
		var o ssh.Options
		if err := l.Options(&o); err != nil {
			return nil, err
		}
		public, err := o.PublicKeys()
		if err != nil {
			return nil, err
		}
		for name, key := range map[string]gossh.PublicKey{"host_ca": public.HostCA, "session_ca": public.SessionCA} {
			if login != nil && bytes.Equal(key.Marshal(), login.PublicKey().Marshal()) {
				return nil, fmt.Errorf("%s: login_ca.ssh_key is the listener's %s too; make another with: ssh-keygen -t ed25519 -N '' -f FILE", c.Path, name)
			}
		}
		return public.HostCA, nil
	}
	return nil, nil //nolint:nilnil // no listener is no error
}
