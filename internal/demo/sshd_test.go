package demo

import (
	"crypto/ed25519"
	"crypto/rand"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/internal/freeport"
)

// Nobody enters web-1 but whom the session CA certified, and whoever is in it cannot
// move what the demo writes at its next start.
func TestSSHDAdmitsOnlyTheSessionCA(t *testing.T) {
	dir := folder(t)
	who, err := guest()
	if err != nil {
		t.Fatal(err)
	}
	path, err := findSSHD()
	if err != nil {
		t.Fatal(err)
	}
	port, err := freeport.Pick()
	if err != nil {
		t.Fatal(err)
	}
	d := &Demo{Dir: dir, SSH: "localhost:6422"}
	if err := d.startSSHD(t.Context(), path, who, port); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.sshd.stop(); err != nil {
			t.Error(err)
		}
	})
	hostKey, _, _, _, err := ssh.ParseAuthorizedKey([]byte(d.sshd.hostKey))
	if err != nil {
		t.Fatal(err)
	}
	if err := enter(t, d, "ssh-session-ca.key", hostKey); err != nil {
		t.Errorf("by the session CA: %v", err)
	}
	for _, ca := range []string{"ssh-host-ca.key", "ssh-host.key", "another.key"} {
		if err := enter(t, d, ca, hostKey); err == nil || !strings.Contains(err.Error(), "unable to authenticate") {
			t.Errorf("by %s: %v", ca, err)
		}
	}
	if who != nil {
		if database, err := otherUser(); err != nil || database.uid == who.uid || database.gid == who.gid {
			t.Errorf("web-1 and the database share an account: %+v, %+v, %v", who, database, err)
		}
		for _, name := range []string{".", "sshd_config", "session-ca.pub", "log"} {
			if info, err := os.Stat(d.path("web-1", name)); err != nil || owned(info) != uint32(os.Geteuid()) {
				t.Errorf("%s is not ours: %v", name, err)
			}
		}
	}
	known, err := os.ReadFile(d.KnownHosts)
	if err != nil || !strings.HasPrefix(string(known), "@cert-authority [localhost]:6422,[sallyport.localhost]:6422 ssh-ed25519 ") {
		t.Errorf("known_hosts says %s, %v", known, err)
	}
}

// enter logs in by a certificate of one of the demo's keys.
func enter(t *testing.T, d *Demo, ca string, hostKey ssh.PublicKey) error {
	t.Helper()
	signer, err := sshKey(d.path(ca))
	if err != nil {
		t.Fatal(err)
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert := &ssh.Certificate{Key: key.PublicKey(), CertType: ssh.UserCert, ValidPrincipals: []string{d.sshd.account}, ValidBefore: uint64(time.Now().Add(time.Hour).Unix())}
	if err := cert.SignCert(rand.Reader, signer); err != nil {
		t.Fatal(err)
	}
	proof, err := ssh.NewCertSigner(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	client, err := ssh.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(d.sshd.port)), &ssh.ClientConfig{
		User: d.sshd.account, Auth: []ssh.AuthMethod{ssh.PublicKeys(proof)}, HostKeyCallback: ssh.FixedHostKey(hostKey),
	})
	if err == nil {
		err = client.Close()
	}
	return err
}

func owned(info os.FileInfo) uint32 { return info.Sys().(*syscall.Stat_t).Uid }
