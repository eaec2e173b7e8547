package demo

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/identity"
)

const (
	caLife     = 10 * 365 * 24 * time.Hour
	serverLife = 90 * 24 * time.Hour // made new at every start
)

// keys are the demo's CAs, certificates and policy signer. The target's certificate is
// used when its cluster is made, and lives as long as the CA.
type keys struct {
	caPEM                 []byte
	gateCert, gateKey     []byte
	targetCert, targetKey []byte
	signer                ssh.Signer
}

// makeKeys reads what there is and makes the rest. Keys are of mode 0600.
func makeKeys(dir string) (*keys, error) {
	k := &keys{}
	caPEM, caKey, err := pair(dir, "ca", func() ([]byte, []byte, error) { return identity.NewServerCA("Sallyport demo CA", caLife) })
	if err != nil {
		return nil, err
	}
	ca, err := identity.LoadServerCA(caPEM, caKey)
	if err != nil {
		return nil, err
	}
	k.caPEM = caPEM
	if _, _, err = pair(dir, "login-ca", func() ([]byte, []byte, error) { return identity.NewCA("Sallyport demo login CA", caLife) }); err != nil {
		return nil, err
	}
	if _, err := sshKey(filepath.Join(dir, "login-ca-ssh.key")); err != nil {
		return nil, err
	}
	here := []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	if k.gateCert, k.gateKey, err = ca.IssueServer([]string{Host, AppHost, "localhost"}, here, serverLife); err != nil {
		return nil, err
	}
	if err := save(dir, "gate", k.gateCert, k.gateKey); err != nil {
		return nil, err
	}
	if k.targetCert, k.targetKey, err = ca.IssueServer([]string{"localhost"}, here, caLife); err != nil {
		return nil, err
	}
	if err := sealKey(filepath.Join(dir, "seal.key")); err != nil {
		return nil, err
	}
	k.signer, err = sshKey(filepath.Join(dir, "signer.key")) // one person's key, of which one is enough
	return k, err
}

// pair reads NAME.crt and NAME.key, or makes both.
func pair(dir, name string, make func() (cert, key []byte, err error)) (cert, key []byte, err error) {
	cert, errCert := os.ReadFile(filepath.Join(dir, name+".crt"))
	key, errKey := os.ReadFile(filepath.Join(dir, name+".key"))
	if errCert == nil && errKey == nil {
		return cert, key, nil
	}
	if cert, key, err = make(); err != nil {
		return nil, nil, err
	}
	return cert, key, save(dir, name, cert, key)
}

// save writes the key first: a certificate without its key is of no use.
func save(dir, name string, cert, key []byte) error {
	if err := os.WriteFile(filepath.Join(dir, name+".key"), key, 0o600); err != nil {
		return fmt.Errorf("write key: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".crt"), cert, 0o644); err != nil {
		return fmt.Errorf("write certificate: %w", err)
	}
	return nil
}

func sealKey(path string) error {
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	raw := make([]byte, 32)
	_, _ = rand.Read(raw) // never fails (crypto/rand)
	return os.WriteFile(path, raw, 0o600)
}

// sshKey reads an Ed25519 key as OpenSSH writes it, or makes it with mode 0600.
func sshKey(path string) (ssh.Signer, error) {
	text, err := os.ReadFile(path)
	if err == nil {
		return ssh.ParsePrivateKey(text)
	}
	if !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read key: %w", err)
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(key, "sallyport demo")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		return nil, fmt.Errorf("write key: %w", err)
	}
	return ssh.NewSignerFromKey(key)
}
