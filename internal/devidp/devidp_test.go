package devidp_test

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/devidp"
)

func certificate(t *testing.T) (tls.Certificate, *http.Client) {
	t.Helper()
	certPEM, keyPEM, err := identity.NewServerCA("test", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := identity.LoadServerCA(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	leafPEM, leafKey, err := ca.IssueServer([]string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1)}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := tls.X509KeyPair(leafPEM, leafKey)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(certPEM)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	t.Cleanup(transport.CloseIdleConnections)
	return cert, &http.Client{Transport: transport}
}

func TestRefusesToListenElsewhere(t *testing.T) {
	cert, _ := certificate(t)
	for _, addr := range []string{"0.0.0.0:0", ":0", "[::]:0", "192.0.2.1:0", "idp.example.com:443"} {
		p, err := devidp.Start(devidp.Config{Addr: addr, Certificate: cert})
		if err == nil {
			_ = p.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "it is not for real people") {
			t.Errorf("%s: err = %v", addr, err)
		}
	}
	if _, err := devidp.Start(devidp.Config{Addr: "127.0.0.1:0"}); err == nil {
		t.Error("it started without TLS")
	}
}

func TestSignInForm(t *testing.T) {
	cert, client := certificate(t)
	p, err := devidp.Start(devidp.Config{
		Addr: "127.0.0.1:0", Host: "localhost", Certificate: cert, Users: devidp.People(),
		Clients: []devidp.Client{{ID: "web", Secret: "s", RedirectURLs: []string{"https://gate.example.com/a", "https://gate.example.com/b"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if !strings.HasPrefix(p.URL(), "https://localhost:") {
		t.Errorf("URL is %s", p.URL())
	}
	ask := p.URL() + "/authorize?response_type=code&scope=openid&client_id=web&state=s&code_challenge_method=S256&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&redirect_uri="
	_, err = devidp.SignInBrowser(client, ask+"https://gate.example.com/a", "alice", "wrong")
	if err == nil || !strings.Contains(err.Error(), "refused user or password") {
		t.Errorf("wrong password: err = %v", err)
	}
	reply, err := client.Get(ask + "https://evil.example.com/")
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	body, _ := io.ReadAll(reply.Body)
	if strings.Contains(string(body), "password") || reply.StatusCode != http.StatusBadRequest {
		t.Errorf("a redirect URL that is not registered: %d %s", reply.StatusCode, body)
	}
}
