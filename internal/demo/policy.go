package demo

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"maps"
	"os"
	"strings"
	"text/template"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/bundle"
)

//go:embed policy.tmpl
var policyText string

const (
	policyLife  = 365 * 24 * time.Hour
	policyRenew = 30 * 24 * time.Hour // before its end
)

// policyFiles are the bundle's files for this run's ports.
func (d *Demo) policyFiles(keys *keys, timeout time.Duration, at ports) (map[string][]byte, error) {
	if timeout <= 0 {
		timeout = time.Hour
	}
	t, err := template.New("policy").Parse(policyText)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{"policy/demo-ca.crt": keys.caPEM}
	names := []string{"targets.hcl", "identity.hcl", "orders.hcl", "app.hcl", "tests/app.test.hcl", "tests/orders.test.hcl"}
	values := map[string]string{
		"Target": local(at.Target), "App": local(at.App), "AppHost": AppHost, "Issuer": d.Issuer, "Client": clientID, "Timeout": policy.FormatSpan(timeout),
	}
	if d.sshd != nil {
		names = append(names, "web-1.hcl", "tests/web-1.test.hcl")
		values["SSHD"], values["HostKey"], values["Account"] = local(at.SSHD), d.sshd.hostKey, d.sshd.account
	}
	for _, name := range names {
		var text bytes.Buffer
		if err := t.ExecuteTemplate(&text, name, values); err != nil {
			return nil, err
		}
		files["policy/"+name] = append(bytes.TrimSpace(text.Bytes()), '\n')
	}
	return files, nil
}

// sign makes sure that the folder holds a signed bundle of these files, and returns
// the digest of its trust root and its version. Ports that changed make a new version.
func (d *Demo) sign(keys *keys, timeout time.Duration, at ports) (root string, version int, err error) {
	files, err := d.policyFiles(keys, timeout, at)
	if err != nil {
		return "", 0, fmt.Errorf("write the policy: %w", err)
	}
	dir, now := d.path("policy"), time.Now()
	text, err := os.ReadFile(d.path("policy", "trust", "root.1"))
	if errors.Is(err, os.ErrNotExist) {
		root, err = bundle.Create(dir, files, 1, now.Add(policyLife), map[string]ssh.Signer{"demo": keys.signer})
		return root, 1, err
	}
	if err != nil {
		return "", 0, fmt.Errorf("read the trust root: %w", err)
	}
	root = bundle.Digest(text)
	last, err := bundle.Open(dir, bundle.Options{Root: root, Now: now})
	var refused *bundle.Refused
	if err != nil && !errors.As(err, &refused) {
		return "", 0, err
	}
	if err == nil && maps.EqualFunc(last.Files, files, bytes.Equal) && last.Manifest.Expires.Sub(now) > policyRenew {
		return root, last.Manifest.Version, nil
	}
	if version, err = d.nextVersion(); err != nil {
		return "", 0, err
	}
	if err := bundle.Write(dir, files); err != nil {
		return "", 0, err
	}
	if _, err := bundle.Release(dir, bundle.Draft{Version: version, Expires: now.Add(policyLife)}); err != nil {
		return "", 0, err
	}
	_, err = bundle.Sign(dir, version, keys.signer)
	return root, version, err
}

// nextVersion follows the highest release in the folder.
func (d *Demo) nextVersion() (int, error) {
	entries, err := os.ReadDir(d.path("policy", "release"))
	if err != nil {
		return 0, fmt.Errorf("list releases: %w", err)
	}
	highest := 0
	for _, e := range entries {
		var n int
		if _, err := fmt.Sscanf(strings.TrimSpace(e.Name()), "%d", &n); err == nil {
			highest = max(highest, n)
		}
	}
	return highest + 1, nil
}
