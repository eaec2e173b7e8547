package web

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/audit"
)

func sshLine(t *testing.T, public any) string {
	t.Helper()
	key, err := ssh.NewPublicKey(public)
	fatal(t, err)
	return string(ssh.MarshalAuthorizedKey(key))
}

// The exchange of `sallyport login` certifies a key for SSH, for the same sign-in.
func TestCommandLineSSHCertificate(t *testing.T) {
	f := start(t)
	b := f.browser(t)
	verifier, challenge := pkce()
	public, _, err := ed25519.GenerateKey(rand.Reader)
	fatal(t, err)
	line := sshLine(t, public)
	got := decode[cliCredentials](t, b.api("POST", "/api/v1/cli/token", "", cliExchange{Code: b.cliCode("alice", challenge), Verifier: verifier, SSHKey: line}).want(t, 200))
	parsed, _, _, _, err := ssh.ParseAuthorizedKey([]byte(got.SSHCertificate))
	fatal(t, err)
	cert, ok := parsed.(*ssh.Certificate)
	if !ok || string(ssh.MarshalAuthorizedKey(cert.Key)) != line || got.Certificate != "" {
		t.Fatalf("a certificate for another key: %s", got.SSHCertificate)
	}
	if id, err := f.sshCA.Verify(cert, time.Now()); err != nil || id != got.SignIn {
		t.Errorf("it proves %q, %v", id, err)
	}
	if until := time.Unix(int64(cert.ValidBefore), 0); until.After(time.Now().Add(certLength)) || until.Sub(got.SSHExpires).Abs() > time.Second {
		t.Errorf("it ends at %s", until)
	}
	if f.counts(t)[audit.CertIssued] != 1 {
		t.Error("the certificate is not in the log")
	}
	weak, err := rsa.GenerateKey(rand.Reader, 2048)
	fatal(t, err)
	for _, bad := range []string{sshLine(t, weak.Public()), "x", line + line, "cert-authority " + line, got.SSHCertificate} {
		b.api("POST", "/api/v1/cli/token", "", cliExchange{Code: b.cliCode("alice", challenge), Verifier: verifier, SSHKey: bad}).want(t, 422, "Ssh_key is not one public key")
	}
	if f.counts(t)[audit.CertIssued] != 1 {
		t.Error("a refused key was certified")
	}
	// A gate without the key gives the rest.
	f.web.config.SSHCA = nil
	got = decode[cliCredentials](t, b.api("POST", "/api/v1/cli/token", "", cliExchange{Code: b.cliCode("alice", challenge), Verifier: verifier, SSHKey: line}).want(t, 200))
	if got.SSHCertificate != "" || got.Token == "" {
		t.Errorf("without a CA: %+v", got)
	}
}

func TestHowSSHKnowsTheGate(t *testing.T) {
	f := start(t)
	alice := f.as(t, "alice")
	got := decode[map[string]string](t, alice.api("GET", "/api/v1/ssh", "", nil).want(t, 200))
	if got["address"] != "gate.example:2222" || got["host_ca"]+"\n" != string(ssh.MarshalAuthorizedKey(f.sshCA.PublicKey())) {
		t.Errorf("%v", got)
	}
	f.web.config.HostCA = nil
	alice.api("GET", "/api/v1/ssh", "", nil).want(t, 404, "This gate takes no SSH connections")
}
