package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/cli"
)

// maxAnswer bounds what is read of one answer, in bytes.
const maxAnswer = 64 << 20

var errNoLogin = errors.New("you are not signed in here; type: sallyport login --server https://YOUR-GATE")

// A client speaks to a gate's JSON API.
type client struct {
	base  string // https://gate.example.com
	token identity.Token
	http  *http.Client
}

// clientFlags are the flags of every verb that speaks to a gate.
type clientFlags struct{ server, ca string }

func (f *clientFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.server, "server", "", "the gate's URL (default: that of the last login)")
	c.Flags().StringVar(&f.ca, "ca", "", "PEM file of the CA to verify the gate with (default: that of the last login, else the system's)")
}

// signedIn is a client with the API token of the last login.
func (f *clientFlags) signedIn() (*client, error) {
	home, err := openHome()
	if err != nil {
		return nil, err
	}
	saved, err := home.load()
	if err != nil {
		return nil, err
	}
	if f.server != "" && strings.TrimRight(f.server, "/") != saved.Server {
		// A token is for one gate; sending it to another would give it away.
		return nil, fmt.Errorf("the last login was at %s; type: sallyport login --server %s", saved.Server, f.server)
	}
	if f.ca == "" && saved.CA {
		f.ca = home.path(caFile)
	}
	c, err := newClient(saved.Server, f.ca)
	if err != nil {
		return nil, err
	}
	c.token, err = home.token()
	return c, err
}

// newClient makes a client for one gate. An empty caPath means the system's roots.
func newClient(server, caPath string) (*client, error) {
	base, err := url.Parse(strings.TrimRight(server, "/"))
	if err != nil || base.Scheme != "https" || base.Host == "" || base.Path != "" || base.User != nil {
		return nil, fmt.Errorf("%q is no gate's URL; write it like https://gate.example.com", server)
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if caPath != "" {
		text, err := os.ReadFile(caPath)
		if err != nil {
			return nil, fmt.Errorf("read the CA: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%s holds no PEM certificate", caPath)
		}
	}
	return &client{
		base: base.String(),
		http: &http.Client{
			Timeout:       time.Minute,
			Transport:     &http.Transport{TLSClientConfig: conf, DialContext: dial, TLSHandshakeTimeout: 10 * time.Second, ForceAttemptHTTP2: true},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// dial takes names under localhost to the loopback, because resolvers need not know
// them (RFC 6761 section 6.3).
func dial(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{Timeout: 10 * time.Second}
	host, port, err := net.SplitHostPort(address)
	if err == nil && (host == "localhost" || strings.HasSuffix(host, ".localhost")) {
		conn, err := d.DialContext(ctx, network, net.JoinHostPort("127.0.0.1", port))
		if err == nil {
			return conn, nil
		}
		return d.DialContext(ctx, network, net.JoinHostPort("::1", port))
	}
	return d.DialContext(ctx, network, address)
}

// problem is the API's error (RFC 9457).
type problem struct {
	Status int    `json:"status"`
	Detail string `json:"detail"`
	Open   string `json:"open"`
}

func (p *problem) Error() string {
	text := strings.TrimSuffix(cli.Safe(p.Detail), ".")
	if text == "" {
		text = fmt.Sprintf("the gate answered %d %s", p.Status, strings.ToLower(http.StatusText(p.Status)))
	} else {
		text = strings.ToLower(text[:1]) + text[1:]
	}
	if p.Status == http.StatusUnauthorized && !strings.Contains(text, "sallyport login") {
		text += "; type: sallyport login"
	}
	if p.Open != "" && p.Status != http.StatusUnauthorized {
		text += "; open " + cli.Safe(p.Open)
	}
	return text
}

func (c *client) get(ctx context.Context, path string, query url.Values, into any) error {
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	return c.do(ctx, http.MethodGet, path, nil, into)
}

func (c *client) post(ctx context.Context, path string, body, into any) error {
	return c.do(ctx, http.MethodPost, path, body, into)
}

// do makes one call. A nil body sends none; a nil into drops the answer.
func (c *client) do(ctx context.Context, method, path string, body, into any) error {
	var send io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("write the question: %w", err)
		}
		send = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, send)
	if err != nil {
		return fmt.Errorf("make the question: %w", err)
	}
	request.Header.Set("Accept", "application/json")
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		request.Header.Set("Authorization", "Bearer "+c.token.Reveal())
	}
	answer, err := c.http.Do(request)
	if err != nil {
		return c.unreachable(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return c.unreachable(err)
	}
	if answer.StatusCode/100 != 2 {
		p := &problem{}
		if json.Unmarshal(text, p) != nil || p.Detail == "" {
			p = &problem{}
		}
		p.Status = answer.StatusCode
		return p
	}
	if into == nil || len(text) == 0 {
		return nil
	}
	if raw, ok := into.(*json.RawMessage); ok {
		*raw = text
		return nil
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("%s answered something else than this program expects; is it the same version?", c.base)
	}
	return nil
}

// unreachable says in one sentence why there was no answer.
func (c *client) unreachable(err error) error {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.Is(err, context.Canceled):
		return context.Canceled
	case errors.As(err, &unknown):
		return fmt.Errorf("%s shows a certificate of a CA that is not known here; if that is right, type --ca FILE", c.base)
	case errors.As(err, &name), errors.As(err, &invalid):
		return fmt.Errorf("%s shows a certificate that is not valid for it: %w", c.base, errors.Unwrap(err))
	}
	var inner *url.Error
	if errors.As(err, &inner) {
		err = inner.Err
	}
	return fmt.Errorf("%s cannot be reached: %w", c.base, err)
}
