package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"strings"
	"time"
)

const (
	// MaxCertificate is the longest that a client certificate lives: it stands for
	// a sign-in of the same day.
	MaxCertificate = 24 * time.Hour
	// backdate is how far a new certificate starts in the past, for clients whose
	// clock is behind the gate's.
	backdate = time.Minute

	signInURI = "sallyport:sign-in:"
)

// A CA is the login CA: it certifies people to the gate, and nothing else. Its own
// certificate is limited to client authentication, so that no TLS client takes a
// server for genuine by it, and LoadCA refuses any other.
type CA struct{ authority }

// authority is what both kinds of CA share: a certificate and its key.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewCA makes a login CA that is valid from now on for validFor. Both results are
// PEM; the key (PKCS #8) belongs in a file of mode 0600.
func NewCA(commonName string, validFor time.Duration) (certPEM, keyPEM []byte, err error) {
	return newAuthority(commonName, validFor, x509.ExtKeyUsageClientAuth)
}

// LoadCA reads what NewCA made.
func LoadCA(certPEM, keyPEM []byte) (*CA, error) {
	a, err := loadAuthority(certPEM, keyPEM, x509.ExtKeyUsageClientAuth)
	if err != nil {
		return nil, fmt.Errorf("login CA: %w", err)
	}
	return &CA{a}, nil
}

// Issue makes a client certificate (DER) for a key that the person's own machine
// made: ECDSA on P-256, for client authentication only, naming the sign-in that it
// stands for. It ends at ends, at most MaxCertificate from now and never after the CA.
func (c *CA) Issue(pub crypto.PublicKey, u User, signIn string, ends time.Time) (der []byte, serial string, err error) {
	key, ok := pub.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, "", errors.New("issue certificate: the key must be ECDSA on P-256")
	}
	if !ValidID(signIn) {
		return nil, "", errors.New("issue certificate: there is no such sign-in")
	}
	now := time.Now()
	if !ends.After(now) || ends.After(now.Add(MaxCertificate)) {
		return nil, "", fmt.Errorf("issue certificate: it must end within %s from now", MaxCertificate)
	}
	if ends.After(c.cert.NotAfter) {
		return nil, "", fmt.Errorf("issue certificate: the login CA ends at %s; make a new one", stamp(c.cert.NotAfter))
	}
	number := newSerial()
	der, err = x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber:          number,
		Subject:               pkix.Name{CommonName: u.String()},
		NotBefore:             now.Add(-backdate),
		NotAfter:              ends,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
		URIs:                  []*url.URL{{Scheme: "sallyport", Opaque: strings.TrimPrefix(signInURI, "sallyport:") + signIn}},
	}, c.cert, key, c.key)
	if err != nil {
		return nil, "", fmt.Errorf("issue certificate: %w", err)
	}
	return der, number.Text(16), nil
}

// Verify says which sign-in the certificate stands for. The caller's handshake has
// shown that the client holds its key; whether the sign-in still stands is the
// gate's word. Errors are sentences for the user.
func (c *CA) Verify(cert *x509.Certificate, now time.Time) (signIn string, err error) {
	if cert == nil {
		return "", errors.New("there is no client certificate; get one with: sallyport login")
	}
	// Times are looked at first only to say the plain thing; Verify below decides.
	if now.After(cert.NotAfter) && cert.CheckSignatureFrom(c.cert) == nil {
		return "", fmt.Errorf("your certificate ended at %s; get a new one with: sallyport login", stamp(cert.NotAfter))
	}
	_, err = cert.Verify(x509.VerifyOptions{
		Roots:       c.pool(),
		CurrentTime: now,
		KeyUsages:   []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return "", errors.New("your certificate is not from this gate, or not valid now; get one with: sallyport login")
	}
	if cert.IsCA {
		return "", errors.New("this is the certificate of a CA, which signs in nobody")
	}
	if len(cert.URIs) != 1 {
		return "", errors.New("your certificate does not name one sign-in; get a new one with: sallyport login")
	}
	id, found := strings.CutPrefix(cert.URIs[0].String(), signInURI)
	if !found || !ValidID(id) {
		return "", errors.New("your certificate names no sign-in of this gate; get a new one with: sallyport login")
	}
	return id, nil
}

// CertPEM is the CA's certificate, for those who must know it.
func (a authority) CertPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

// Ends says when the CA's own certificate ends.
func (a authority) Ends() time.Time { return a.cert.NotAfter }

func (a authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// newSerial draws 127 random bits, positive as RFC 5280 section 4.1.2.2 asks.
func newSerial() *big.Int {
	raw := make([]byte, 16)
	_, _ = rand.Read(raw) // never fails: crypto/rand.Read ends the program instead
	raw[0] = raw[0]&0x7f | 0x40
	return new(big.Int).SetBytes(raw)
}
