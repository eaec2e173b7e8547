package identity

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// SSHPrincipal is the only principal of a login certificate. It is no account's
// name, so that a target that trusted the login CA by mistake would still let nobody
// in: the certificate proves somebody to the gate, and to nothing else.
const SSHPrincipal = "sallyport-login"

// An SSHCA is the login CA for SSH: the same sign-in's certificate in the form that
// ssh and ssh-agent know (OpenSSH PROTOCOL.certkeys).
type SSHCA struct{ signer ssh.Signer }

// NewSSHCA makes the key of a login CA for SSH, Ed25519, as an OpenSSH private key
// in PEM; it belongs in a file of mode 0600.
func NewSSHCA() (keyPEM []byte, err error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make SSH login CA: %w", err)
	}
	block, err := ssh.MarshalPrivateKey(key, "sallyport login CA")
	if err != nil {
		return nil, fmt.Errorf("make SSH login CA: %w", err)
	}
	return pem.EncodeToMemory(block), nil
}

// LoadSSHCA reads what NewSSHCA or `ssh-keygen -t ed25519` made.
func LoadSSHCA(keyPEM []byte) (*SSHCA, error) {
	signer, err := ssh.ParsePrivateKey(keyPEM)
	if err != nil {
		return nil, fmt.Errorf("SSH login CA: %w", err)
	}
	if !SSHKeyType(signer.PublicKey()) {
		return nil, fmt.Errorf("SSH login CA: a key of type %s does not sign here; use ed25519", signer.PublicKey().Type())
	}
	return &SSHCA{signer}, nil
}

// PublicKey is the CA's own public key.
func (c *SSHCA) PublicKey() ssh.PublicKey { return c.signer.PublicKey() }

// Issue certifies a key that the person's own machine made, for the sign-in that it
// stands for, until ends, at most MaxCertificate from now. It carries no extension:
// what a session may do is the grant's word.
func (c *SSHCA) Issue(pub ssh.PublicKey, signIn string, ends time.Time) (*ssh.Certificate, error) {
	if !SSHKeyType(pub) {
		return nil, errors.New("issue SSH certificate: the key must be Ed25519 or ECDSA, in hardware or not")
	}
	if !ValidID(signIn) {
		return nil, errors.New("issue SSH certificate: there is no such sign-in")
	}
	now := time.Now()
	if !ends.After(now) || ends.After(now.Add(MaxCertificate)) {
		return nil, fmt.Errorf("issue SSH certificate: it must end within %s from now", MaxCertificate)
	}
	serial := make([]byte, 8)
	_, _ = rand.Read(serial) // never fails: crypto/rand.Read ends the program instead
	cert := &ssh.Certificate{
		Key: pub, Serial: binary.BigEndian.Uint64(serial), CertType: ssh.UserCert, KeyId: signInURI + signIn,
		ValidPrincipals: []string{SSHPrincipal},
		ValidAfter:      uint64(now.Add(-backdate).Unix()), ValidBefore: uint64(ends.Unix()), //nolint:gosec // after 1970
	}
	if err := cert.SignCert(rand.Reader, c.signer); err != nil {
		return nil, fmt.Errorf("issue SSH certificate: %w", err)
	}
	return cert, nil
}

// Verify says which sign-in the certificate stands for. It is about the certificate
// alone: the caller's handshake shows that the client holds its key, and whether the
// sign-in still stands is the gate's word. Errors are sentences for the user.
func (c *SSHCA) Verify(cert *ssh.Certificate, now time.Time) (signIn string, err error) {
	if cert == nil || cert.CertType != ssh.UserCert || !bytes.Equal(cert.SignatureKey.Marshal(), c.signer.PublicKey().Marshal()) {
		return "", errors.New("your SSH certificate is not from this gate; get one with: sallyport login")
	}
	if ends := time.Unix(int64(cert.ValidBefore), 0); cert.ValidBefore < 1<<62 && !now.Before(ends) { //nolint:gosec // bounded in the same line
		return "", fmt.Errorf("your SSH certificate ended at %s; get a new one with: sallyport login", stamp(ends))
	}
	// No critical option is supported, so a certificate that carries one is refused.
	checker := ssh.CertChecker{Clock: func() time.Time { return now }}
	if err := checker.CheckCert(SSHPrincipal, cert); err != nil {
		return "", errors.New("your SSH certificate is not valid here now; get a new one with: sallyport login")
	}
	id, found := strings.CutPrefix(cert.KeyId, signInURI)
	if !found || !ValidID(id) {
		return "", errors.New("your SSH certificate names no sign-in of this gate; get a new one with: sallyport login")
	}
	return id, nil
}

// SSHKeyType reports keys that a login certificate can be for. RSA is left out, so that
// no signature with SHA-1 can come up.
func SSHKeyType(pub ssh.PublicKey) bool {
	return slices.Contains([]string{
		ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKECDSA256,
	}, pub.Type())
}
