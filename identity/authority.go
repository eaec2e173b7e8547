package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"time"
)

// A ServerCA certifies TLS servers by name: the demo's and a first set-up's. It is
// another type than the login CA, with another key and another limit, so that
// neither can stand in for the other.
type ServerCA struct{ authority }

// NewServerCA makes a CA for TLS servers, as NewCA does for people.
func NewServerCA(commonName string, validFor time.Duration) (certPEM, keyPEM []byte, err error) {
	return newAuthority(commonName, validFor, x509.ExtKeyUsageServerAuth)
}

// LoadServerCA reads what NewServerCA made.
func LoadServerCA(certPEM, keyPEM []byte) (*ServerCA, error) {
	a, err := loadAuthority(certPEM, keyPEM, x509.ExtKeyUsageServerAuth)
	if err != nil {
		return nil, fmt.Errorf("TLS CA: %w", err)
	}
	return &ServerCA{a}, nil
}

// IssueServer makes a key and a certificate, both PEM, for a TLS server that is
// reached by the given DNS names and addresses.
func (c *ServerCA) IssueServer(names []string, ips []net.IP, validFor time.Duration) (certPEM, keyPEM []byte, err error) {
	if len(names)+len(ips) == 0 {
		return nil, nil, errors.New("issue server certificate: it needs a name or an address")
	}
	now := time.Now()
	ends := now.Add(validFor)
	if ends.After(c.cert.NotAfter) {
		ends = c.cert.NotAfter
	}
	common := append(append([]string(nil), names...), "sallyport")[0]
	key, keyPEM, err := newKey()
	if err != nil {
		return nil, nil, fmt.Errorf("issue server certificate: %w", err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber:          newSerial(),
		Subject:               pkix.Name{CommonName: common},
		NotBefore:             now.Add(-backdate),
		NotAfter:              ends,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		DNSNames:              names,
		IPAddresses:           ips,
	}, c.cert, key.Public(), c.key)
	if err != nil {
		return nil, nil, fmt.Errorf("issue server certificate: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), keyPEM, nil
}

func newAuthority(commonName string, validFor time.Duration, use x509.ExtKeyUsage) (certPEM, keyPEM []byte, err error) {
	key, keyPEM, err := newKey()
	if err != nil {
		return nil, nil, fmt.Errorf("make CA: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          newSerial(),
		Subject:               pkix.Name{CommonName: commonName},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(validFor),
		KeyUsage:              x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{use},
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true, // it signs leaves only
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, nil, fmt.Errorf("make CA: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), keyPEM, nil
}

func newKey() (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	return key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// loadAuthority refuses anything that is not exactly one CA certificate for that
// use with its own key. Errors never hold the key's bytes.
func loadAuthority(certPEM, keyPEM []byte, use x509.ExtKeyUsage) (authority, error) {
	der, err := onePEM(certPEM, "CERTIFICATE")
	if err != nil {
		return authority{}, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return authority{}, fmt.Errorf("read certificate: %w", err)
	}
	if !cert.IsCA || cert.KeyUsage&x509.KeyUsageCertSign == 0 {
		return authority{}, errors.New("this certificate is not a CA's")
	}
	if len(cert.ExtKeyUsage) != 1 || cert.ExtKeyUsage[0] != use {
		return authority{}, errors.New("this CA is for another use; the login CA and the TLS CA are two, and neither replaces the other")
	}
	der, err = onePEM(keyPEM, "PRIVATE KEY")
	if err != nil {
		return authority{}, err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return authority{}, errors.New("read key: it is no PKCS #8 key")
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || !key.PublicKey.Equal(cert.PublicKey) {
		return authority{}, errors.New("the key does not belong to the certificate")
	}
	return authority{cert: cert, key: key}, nil
}

func onePEM(data []byte, kind string) ([]byte, error) {
	block, rest := pem.Decode(data)
	if block == nil || block.Type != kind {
		return nil, fmt.Errorf("there is no PEM block %q", kind)
	}
	if more, _ := pem.Decode(rest); more != nil {
		return nil, fmt.Errorf("there is more than one PEM block; exactly one %q is expected", kind)
	}
	return block.Bytes, nil
}
