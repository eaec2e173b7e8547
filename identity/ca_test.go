package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"
)

var alice = User{Issuer: "https://idp.example.com", Subject: "alice", Email: "alice@example.com", Kind: Person}

func loginCA(t *testing.T) *CA {
	t.Helper()
	certPEM, keyPEM, err := NewCA("login", time.Hour*48)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := LoadCA(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func p256(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func issued(t *testing.T, ca *CA, key crypto.PublicKey, id string) *x509.Certificate {
	t.Helper()
	der, serial, err := ca.Issue(key, alice, id, time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	if cert.SerialNumber.Text(16) != serial {
		t.Errorf("serial = %s, want %s", serial, cert.SerialNumber.Text(16))
	}
	return cert
}

// signed makes a certificate that the CA itself would not issue.
func signed(t *testing.T, ca *CA, change func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: newSerial(), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true, URIs: []*url.URL{{Scheme: "sallyport", Opaque: "sign-in:" + NewID()}},
	}
	change(template)
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, p256(t).Public(), ca.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func wantError(t *testing.T, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("err = %v; want %q", err, text)
	}
}

func TestCertificateNamesItsSignIn(t *testing.T) {
	ca, id := loginCA(t), NewID()
	cert := issued(t, ca, p256(t).Public(), id)
	got, err := ca.Verify(cert, time.Now())
	if err != nil || got != id {
		t.Errorf("Verify = %q, %v; want %q", got, err, id)
	}
	if cert.Subject.CommonName != alice.Email {
		t.Errorf("common name is %q", cert.Subject.CommonName)
	}
	if len(cert.ExtKeyUsage) != 1 || cert.ExtKeyUsage[0] != x509.ExtKeyUsageClientAuth {
		t.Errorf("extended key usage is %v; want client authentication alone", cert.ExtKeyUsage)
	}
}

func TestCertificateOfAnotherCAIsRefused(t *testing.T) {
	// The same name, so that only the key tells them apart.
	mine, other := loginCA(t), loginCA(t)
	_, err := mine.Verify(issued(t, other, p256(t).Public(), NewID()), time.Now())
	wantError(t, err, "is not from this gate")
}

func TestCertificateOutsideItsTimeIsRefused(t *testing.T) {
	ca := loginCA(t)
	cert := issued(t, ca, p256(t).Public(), NewID())
	_, err := ca.Verify(cert, time.Now().Add(2*time.Hour))
	wantError(t, err, "your certificate ended at")
	_, err = ca.Verify(cert, time.Now().Add(-time.Hour))
	wantError(t, err, "not valid now")
}

func TestCertificateForServersSignsInNobody(t *testing.T) {
	ca := loginCA(t)
	cert := signed(t, ca, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })
	_, err := ca.Verify(cert, time.Now())
	wantError(t, err, "is not from this gate")
}

func TestCertificateMustNameExactlyOneSignIn(t *testing.T) {
	ca := loginCA(t)
	none := signed(t, ca, func(c *x509.Certificate) { c.URIs = nil })
	_, err := ca.Verify(none, time.Now())
	wantError(t, err, "does not name one sign-in")
	two := signed(t, ca, func(c *x509.Certificate) {
		c.URIs = append(c.URIs, &url.URL{Scheme: "sallyport", Opaque: "sign-in:" + NewID()})
	})
	_, err = ca.Verify(two, time.Now())
	wantError(t, err, "does not name one sign-in")
	other := signed(t, ca, func(c *x509.Certificate) { c.URIs = []*url.URL{{Scheme: "spiffe", Host: "x", Path: "/y"}} })
	_, err = ca.Verify(other, time.Now())
	wantError(t, err, "names no sign-in of this gate")
	short := signed(t, ca, func(c *x509.Certificate) { c.URIs = []*url.URL{{Scheme: "sallyport", Opaque: "sign-in:7"}} })
	_, err = ca.Verify(short, time.Now())
	wantError(t, err, "names no sign-in of this gate")
}

func TestCertificateOfTheCASignsInNobody(t *testing.T) {
	ca := loginCA(t)
	_, err := ca.Verify(ca.cert, time.Now())
	wantError(t, err, "certificate of a CA")
	_, err = ca.Verify(nil, time.Now())
	wantError(t, err, "no client certificate")
}

func TestIssueRefuses(t *testing.T) {
	ca, key, soon := loginCA(t), p256(t), time.Now().Add(time.Hour)
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	for name, c := range map[string]struct {
		key    crypto.PublicKey
		signIn string
		ends   time.Time
		want   string
	}{
		"another curve":  {p384.Public(), NewID(), soon, "must be ECDSA on P-256"},
		"no key":         {nil, NewID(), soon, "must be ECDSA on P-256"},
		"no sign-in":     {key.Public(), "", soon, "no such sign-in"},
		"ended":          {key.Public(), NewID(), time.Now(), "must end within"},
		"too long":       {key.Public(), NewID(), time.Now().Add(MaxCertificate + time.Minute), "must end within"},
		"forged sign-in": {key.Public(), "a,URI:sallyport:sign-in", soon, "no such sign-in"},
	} {
		if _, _, err := ca.Issue(c.key, alice, c.signIn, c.ends); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: err = %v; want %q", name, err, c.want)
		}
	}
	certPEM, keyPEM, _ := NewCA("short", 30*time.Minute)
	short, _ := LoadCA(certPEM, keyPEM)
	_, _, err := short.Issue(key.Public(), alice, NewID(), soon)
	wantError(t, err, "the login CA ends at")
}

func TestLoginCAAndTLSCAAreNeverMixed(t *testing.T) {
	loginCert, loginKey, _ := NewCA("login", time.Hour)
	tlsCert, tlsKey, _ := NewServerCA("tls", time.Hour)
	_, err := LoadCA(tlsCert, tlsKey)
	wantError(t, err, "this CA is for another use")
	_, err = LoadServerCA(loginCert, loginKey)
	wantError(t, err, "this CA is for another use")
	_, err = LoadCA(loginCert, tlsKey)
	wantError(t, err, "does not belong to the certificate")
	_, err = LoadCA(append(loginCert, tlsCert...), loginKey)
	wantError(t, err, "more than one PEM block")
	_, err = LoadCA([]byte("nothing"), loginKey)
	wantError(t, err, "no PEM block")

	server, err := LoadServerCA(tlsCert, tlsKey)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = server.IssueServer(nil, nil, time.Minute)
	wantError(t, err, "it needs a name or an address")
	leaf, leafKey, err := server.IssueServer([]string{"gate.localhost"}, nil, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	_, err = LoadServerCA(leaf, leafKey)
	wantError(t, err, "is not a CA's")
}

// A real handshake: the server's certificate from one CA, the client's from the
// other, and neither good for the other's part.
func TestHandshakeWithBothCAs(t *testing.T) {
	login := loginCA(t)
	certPEM, keyPEM, _ := NewServerCA("tls", time.Hour)
	servers, err := LoadServerCA(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	serverPEM, serverKey, err := servers.IssueServer([]string{"gate.localhost"}, []net.IP{net.IPv4(127, 0, 0, 1)}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	serverCert, err := tls.X509KeyPair(serverPEM, serverKey)
	if err != nil {
		t.Fatal(err)
	}
	id, key := NewID(), p256(t)
	client := tls.Certificate{Certificate: [][]byte{issued(t, login, key.Public(), id).Raw}, PrivateKey: key}

	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{serverCert}, ClientAuth: tls.RequestClientCert})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	got := make(chan string, 1)
	go func() {
		defer close(got)
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		secure := conn.(*tls.Conn)
		if secure.Handshake() != nil || len(secure.ConnectionState().PeerCertificates) != 1 {
			return
		}
		signIn, err := login.Verify(secure.ConnectionState().PeerCertificates[0], time.Now())
		if err == nil {
			got <- signIn
		}
		_, _ = io.Copy(io.Discard, conn)
	}()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(servers.CertPEM())
	conn, err := tls.Dial("tcp", listener.Addr().String(), &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{client}})
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if signIn := <-got; signIn != id {
		t.Errorf("the server saw sign-in %q; want %q", signIn, id)
	}
	// A client that is made to trust the login CA still takes no server by it.
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(login.CertPEM())
	forged := signed(t, login, func(c *x509.Certificate) {
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		c.DNSNames = []string{"gate.localhost"}
	})
	if _, err := forged.Verify(x509.VerifyOptions{Roots: pool, DNSName: "gate.localhost"}); err == nil {
		t.Error("a server certificate of the login CA was taken")
	}
}
