package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// agentPatience bounds one exchange with an ssh-agent; some ask a person first.
const agentPatience = 10 * time.Second

// An sshKey is the key pair of one login, for SSH. Its private half never leaves this
// machine.
type sshKey struct {
	private ed25519.PrivateKey
	public  ssh.PublicKey
	pem     []byte
}

func newSSHKey() (*sshKey, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key for SSH: %w", err)
	}
	block, err := ssh.MarshalPrivateKey(private, "sallyport login")
	if err != nil {
		return nil, fmt.Errorf("write the key for SSH: %w", err)
	}
	k := &sshKey{private: private, pem: pem.EncodeToMemory(block)}
	k.public, err = ssh.NewPublicKey(public)
	return k, err
}

// certificate reads what the gate made, and takes no other than a person's for our key;
// nil where the gate makes none.
func (k *sshKey) certificate(line string) (*ssh.Certificate, error) {
	if line == "" {
		return nil, nil //nolint:nilnil // a gate without an SSH login CA is no error
	}
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
	cert, ok := key.(*ssh.Certificate)
	if err != nil || !ok || cert.CertType != ssh.UserCert || !bytes.Equal(cert.Key.Marshal(), k.public.Marshal()) {
		return nil, errors.New("the gate gave an SSH certificate for another key; nothing was saved")
	}
	return cert, nil
}

// keepSSH saves key and certificate so that ssh finds the one by the other's name.
// Without a certificate what an earlier login left goes.
func keepSSH(home home, k *sshKey, cert *ssh.Certificate) error {
	if cert == nil {
		return home.remove(sshKeyFile, sshCertFile)
	}
	return errors.Join(home.save(sshKeyFile, k.pem), home.save(sshCertFile, ssh.MarshalAuthorizedKey(cert)))
}

// sshCertificate is what the last login left; nil where it left none that can be read.
func (h home) sshCertificate() *ssh.Certificate {
	text, err := os.ReadFile(h.path(sshCertFile))
	if err != nil {
		return nil
	}
	key, _, _, _, err := ssh.ParseAuthorizedKey(text)
	if err != nil {
		return nil
	}
	cert, _ := key.(*ssh.Certificate)
	return cert
}

// withAgent runs use with the person's ssh-agent, and reports whether there is one.
func withAgent(ctx context.Context, use func(agent.Agent) error) (found bool, err error) {
	path := os.Getenv("SSH_AUTH_SOCK")
	if path == "" {
		return false, nil
	}
	conn, err := (&net.Dialer{Timeout: agentPatience}).DialContext(ctx, "unix", path)
	if err != nil {
		return true, err
	}
	defer conn.Close() //nolint:errcheck // nothing is written that is not answered
	if err := conn.SetDeadline(time.Now().Add(agentPatience)); err != nil {
		return true, err
	}
	return true, use(agent.NewClient(conn))
}

// intoAgent has the ssh-agent hold the certificate until it ends, instead of the one of
// the login before.
func intoAgent(ctx context.Context, k *sshKey, cert, before *ssh.Certificate, comment string) (found bool, err error) {
	return withAgent(ctx, func(a agent.Agent) error {
		if err := forgetIn(a, before); err != nil {
			return err
		}
		left := time.Until(time.Unix(int64(cert.ValidBefore), 0)) //nolint:gosec // at most MaxCertificate from now, else the agent refuses
		return a.Add(agent.AddedKey{
			PrivateKey: k.private, Certificate: cert, Comment: "sallyport " + comment,
			LifetimeSecs: uint32(max(1, min(left, 48*time.Hour).Seconds())),
		})
	})
}

// outOfAgent has the ssh-agent forget a certificate.
func outOfAgent(ctx context.Context, cert *ssh.Certificate) error {
	_, err := withAgent(ctx, func(a agent.Agent) error { return forgetIn(a, cert) })
	if errors.Is(err, fs.ErrNotExist) {
		return nil // an agent that has gone holds nothing
	}
	return err
}

func forgetIn(a agent.Agent, cert *ssh.Certificate) error {
	if cert == nil {
		return nil
	}
	held, err := a.List()
	if err != nil {
		return err
	}
	// It may have ended there by itself.
	if !slices.ContainsFunc(held, func(k *agent.Key) bool { return bytes.Equal(k.Blob, cert.Marshal()) }) {
		return nil
	}
	return a.Remove(cert)
}
