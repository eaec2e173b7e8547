package notify

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/sallyport/sallyport/credential"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/session"
)

// secret is a credential.Source for tests.
type secret string

func (s secret) Read(context.Context) (credential.Secret, error) {
	return credential.NewSecret([]byte(s)), nil
}
func (s secret) Where() string { return "test" }

const (
	keyText  = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" // of the standard's own example
	password = "correct horse battery"
)

var secrets = credential.Set{"key": secret(keyText), "word": secret("hunter2"), "mail": secret(password)}

func person(email string) identity.User {
	return identity.User{Issuer: "https://idp.example.com", Subject: "s-" + email, Email: email, Kind: identity.Person, Groups: []string{"dba"}}
}

func notice(to ...string) session.Notice {
	n := session.Notice{
		Kind: session.NoticeWaiting, Say: "alice@example.com asks for orders as reader for 30m0s: INC-42 stuck order.", URL: "https://gate.example.com/r/7",
		Request: session.Request{
			ID: "7", State: session.RequestPending, User: person("alice@example.com"), TimesOut: time.Date(2026, 11, 25, 0, 30, 0, 0, time.UTC),
		},
	}
	in := &n.Request.Input
	in.Target, in.Role, in.Duration, in.Reason, in.Ticket = "orders", "reader", 30*time.Minute, "INC-42 stuck order", "INC-42"
	for _, email := range to {
		n.To = append(n.To, person(email))
	}
	return n
}

// report is one call of undelivered.
type report struct {
	sink string
	n    session.Notice
	err  error
	at   time.Time
}

// reports keeps what was undelivered.
type reports struct {
	mu   sync.Mutex
	list []report
}

func (r *reports) add(sink string, n session.Notice, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, report{sink, n, err, time.Now()})
}

func (r *reports) all() []report {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]report(nil), r.list...)
}

var quiet = slog.New(slog.DiscardHandler)

// certificate makes a certificate for 127.0.0.1 that is its own CA, and its PEM file.
func certificate(t *testing.T) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, path
}
