package policycmd

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/policy/bundle"
)

// A signing is one file of a bundle to be signed.
type signing struct {
	text   func() ([]byte, error)
	sign   func(ssh.Signer) (who string, err error)
	accept func(signature []byte) (who string, err error) // of somebody whom the trust root knows
}

// by signs with the key in a file. One that cannot be used by itself (with a passphrase,
// in the agent, on a FIDO token) is used through ssh-keygen, which asks on the terminal.
func (s signing) by(ctx context.Context, key string) (who string, err error) {
	private, err := os.ReadFile(key)
	if err != nil {
		return "", fmt.Errorf("read the key: %w", err)
	}
	if signer, err := ssh.ParsePrivateKey(private); err == nil {
		return s.sign(signer)
	}
	text, err := s.text()
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "ssh-keygen", "-Y", "sign", "-n", bundle.Namespace, "-f", key)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(text), os.Stderr
	signature, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("sign with %s: ssh-keygen: %w", key, err)
	}
	return s.accept(signature)
}
