package web

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base32"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/identity"
)

// `sallyport login` as RFC 8252 (native apps, loopback redirect) with PKCE, RFC 7636:
//
//  1. The CLI opens /cli/login?port=P&challenge=C&host=H&state=S&fresh=yes; without a browser
//     of its own it prints the address, without port.
//  2. The page asks; the confirming POST begins a sign-in of its own, so that the
//     command line's standing does not hang on the browser's.
//  3. After it the browser is sent to http://127.0.0.1:P/callback?code=K&state=S, or
//     shows K to be typed.
//  4. The CLI sends K, the verifier, a certificate request and a public key for SSH to
//     /api/v1/cli/token. Only then is there a sign-in, a token and a certificate of each
//     kind.
const (
	codeLife   = 5 * time.Minute
	maxCodes   = 1000 // waiting at once; the oldest gives way
	certLength = 12 * time.Hour
)

var (
	challengeForm = regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`) // SHA-256 in base64url
	verifierForm  = regexp.MustCompile(`^[A-Za-z0-9._~-]{43,128}$`)
	hostForm      = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
	stateForm     = regexp.MustCompile(`^[A-Za-z0-9_-]{0,128}$`)
)

// cliAsk is what a command line asks for.
type cliAsk struct {
	Host      string // what it calls itself; shown, never trusted
	Port      string // empty: show the code
	Challenge string
	State     string
	Fresh     string // "yes": the issuer is to ask for the person, whatever session it has
}

func readCLIAsk(q url.Values) (cliAsk, error) {
	ask := cliAsk{Host: q.Get("host"), Port: q.Get("port"), Challenge: q.Get("challenge"), State: q.Get("state"), Fresh: q.Get("fresh")}
	port, err := strconv.ParseUint(ask.Port, 10, 16)
	if ask.Port != "" && (err != nil || port < 1024 || strconv.FormatUint(port, 10) != ask.Port) ||
		!challengeForm.MatchString(ask.Challenge) || !hostForm.MatchString(ask.Host) || !stateForm.MatchString(ask.State) || ask.Fresh != "" && ask.Fresh != "yes" {
		return cliAsk{}, &refusal{status: http.StatusBadRequest, say: "this is not an address that `sallyport login` makes", next: "run it again"}
	}
	return ask, nil
}

func (s *Web) cliPage(v *visit) error {
	ask, err := readCLIAsk(v.r.URL.Query())
	if err != nil {
		return err
	}
	// The form's answer leads to the identity provider, whose further steps are its
	// own, and at last to the loopback port: browsers hold form-action against all.
	v.w.Header().Set("Content-Security-Policy", policyHeader+"'self' https: http://127.0.0.1:"+ask.portOrAny())
	return s.show(v, http.StatusOK, "cli", view{Title: "Sign in on the command line", Body: ask})
}

func (a cliAsk) portOrAny() string {
	if a.Port == "" {
		return "1" // nothing listens there; no redirect is sent there
	}
	return a.Port
}

func (s *Web) cliConfirm(v *visit) error {
	fields, err := form(v)
	if err != nil {
		return err
	}
	ask, err := readCLIAsk(fields)
	if err != nil {
		return err
	}
	attempt, err := s.begin(v, ask.path(), ask.Fresh == "yes")
	if err != nil {
		return err
	}
	return redirect(v, attempt.URL)
}

// cliDone is where an attempt of a command line says that it leads to. The ask goes
// with the attempt, so it is lost only where that is; no browser is ever sent there.
const cliDone = "/cli/done"

func (a cliAsk) path() string {
	return cliDone + "?" + url.Values{"host": {a.Host}, "port": {a.Port}, "challenge": {a.Challenge}, "state": {a.State}}.Encode()
}

// cliAskOf reads back what path wrote: only cliConfirm begins such an attempt.
func cliAskOf(returnTo string) (cliAsk, bool) {
	u, err := url.Parse(returnTo)
	if err != nil || u.Path != cliDone {
		return cliAsk{}, false
	}
	ask, err := readCLIAsk(u.Query())
	return ask, err == nil
}

// cliSignedIn gives the command line its code. Nothing is kept of the sign-in but
// here: there is none until the code comes back with the verifier.
func (s *Web) cliSignedIn(v *visit, by identity.SignIn, ask cliAsk) error {
	code := s.codes.issue(by, ask)
	if ask.Port == "" {
		return s.show(v, http.StatusOK, "done", view{Title: "Your code", Body: donePage{
			Say: "You are signed in as " + by.User.String(), Code: code, Next: "If you did not type `sallyport login`, close this page and tell nobody the code.",
		}})
	}
	back := url.URL{Scheme: "http", Host: "127.0.0.1:" + ask.Port, Path: "/callback", RawQuery: url.Values{"code": {code}, "state": {ask.State}}.Encode()}
	return redirect(v, back.String())
}

type cliExchange struct {
	Code     string `json:"code"`
	Verifier string `json:"verifier"`
	// Request is a PEM certificate request (PKCS #10), ECDSA on P-256, that proves
	// possession of the key; its names are not looked at. Empty: no certificate.
	Request string `json:"certificate_request,omitempty"`
	// SSHKey is a public key as a line of OpenSSH: "ssh-ed25519 AAAA...". Empty: no
	// certificate for SSH.
	SSHKey string `json:"ssh_key,omitempty"`
}

type cliCredentials struct {
	User               identity.User `json:"user"`
	SignIn             string        `json:"sign_in"`
	Token              string        `json:"token"`
	TokenExpires       time.Time     `json:"token_expires"`
	Certificate        string        `json:"certificate,omitempty"`
	CertificateExpires time.Time     `json:"certificate_expires,omitzero"`
	SSHCertificate     string        `json:"ssh_certificate,omitempty"`
	SSHExpires         time.Time     `json:"ssh_certificate_expires,omitzero"`
}

func (s *Web) apiCLIToken(v *visit) error {
	var in cliExchange
	if err := body(v, &in); err != nil {
		return err
	}
	by, err := s.codes.redeem(in.Code, in.Verifier)
	if err != nil {
		return err
	}
	var request *x509.CertificateRequest
	if in.Request != "" {
		if request, err = readRequest(in.Request); err != nil {
			return err
		}
	}
	sshKey, err := readSSHKey(in.SSHKey)
	if err != nil {
		return err
	}
	ctx := v.r.Context()
	if err := s.gate.SignIn(ctx, by); err != nil {
		return err
	}
	token, record, err := s.gate.APIToken(ctx, by)
	if err != nil {
		return err
	}
	out := cliCredentials{User: by.User, SignIn: by.ID, Token: token.Reveal(), TokenExpires: record.Expires}
	if request != nil {
		if err := s.certify(ctx, by, request, &out); err != nil {
			return err
		}
	}
	if sshKey != nil && s.config.SSHCA != nil {
		if err := s.certifySSH(ctx, by, sshKey, &out); err != nil {
			return err
		}
	}
	return reply(v, http.StatusOK, out)
}

// certify makes the client certificate. It is in the log before it is handed out.
func (s *Web) certify(ctx context.Context, by identity.SignIn, request *x509.CertificateRequest, out *cliCredentials) error {
	ends := s.certificateEnds(by)
	if limit := s.config.CA.Ends(); limit.Before(ends) {
		ends = limit
	}
	der, serial, err := s.config.CA.Issue(request.PublicKey, by.User, by.ID, ends)
	if err != nil {
		return err
	}
	if err := s.gate.CertificateIssued(ctx, by, serial, ends); err != nil {
		return err
	}
	out.Certificate = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	out.CertificateExpires = ends
	return nil
}

// certifySSH makes the same for SSH. Possession of the key is not asked for: whoever has
// another's key certified has only given their own sign-in away.
func (s *Web) certifySSH(ctx context.Context, by identity.SignIn, key ssh.PublicKey, out *cliCredentials) error {
	ends := s.certificateEnds(by)
	cert, err := s.config.SSHCA.Issue(key, by.ID, ends)
	if err != nil {
		return err
	}
	if err := s.gate.CertificateIssued(ctx, by, fmt.Sprintf("ssh %016x", cert.Serial), ends); err != nil {
		return err
	}
	out.SSHCertificate, out.SSHExpires = string(ssh.MarshalAuthorizedKey(cert)), ends
	return nil
}

// certificateEnds is within the sign-in: a certificate never outlives it.
func (s *Web) certificateEnds(by identity.SignIn) time.Time {
	ends := s.now().Add(certLength)
	if by.Expires.Before(ends) {
		return by.Expires
	}
	return ends
}

// readSSHKey reads a line with one public key of a kind that the login CA certifies.
func readSSHKey(line string) (ssh.PublicKey, error) {
	if line == "" {
		return nil, nil //nolint:nilnil // none is asked for, and that is no error
	}
	key, _, options, rest, err := ssh.ParseAuthorizedKey([]byte(line))
	if err != nil || len(options) > 0 || len(rest) > 0 || !identity.SSHKeyType(key) {
		return nil, &refusal{
			status: http.StatusUnprocessableEntity, field: "ssh_key",
			say: "ssh_key is not one public key of Ed25519 or ECDSA, as ssh-keygen writes it",
		}
	}
	return key, nil
}

func readRequest(text string) (*x509.CertificateRequest, error) {
	bad := &refusal{status: http.StatusUnprocessableEntity, say: "the certificate request is not a signed PKCS #10 request in PEM", field: "certificate_request"}
	block, _ := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, bad
	}
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil || request.CheckSignature() != nil {
		return nil, bad
	}
	return request, nil
}

// codes are the sign-ins of command lines under way. They live in memory: a restart
// means running `sallyport login` again.
type codes struct {
	now func() time.Time

	mu    sync.Mutex
	given map[[32]byte]waiting[issued]
}

type waiting[T any] struct {
	what T
	ends time.Time
}

type issued struct {
	by        identity.SignIn
	challenge string
}

func newCodes(now func() time.Time) *codes {
	return &codes{now: now, given: map[[32]byte]waiting[issued]{}}
}

// put keeps something for a while, within the bound.
func put[K comparable, T any](m map[K]waiting[T], key K, what T, now time.Time, life time.Duration) {
	var oldest K
	var first time.Time
	for k, w := range m {
		if now.After(w.ends) {
			delete(m, k)
		} else if first.IsZero() || w.ends.Before(first) {
			oldest, first = k, w.ends
		}
	}
	if len(m) >= maxCodes {
		delete(m, oldest)
	}
	m[key] = waiting[T]{what, now.Add(life)}
}

// issue makes a code of 80 random bits that can be typed. Guessing it is of no use
// without the verifier, and each is good for one try.
func (c *codes) issue(by identity.SignIn, ask cliAsk) string {
	b := make([]byte, 10)
	rand.Read(b) //nolint:errcheck // never fails (crypto/rand)
	text := base32.StdEncoding.EncodeToString(b)
	code := text[:4] + "-" + text[4:8] + "-" + text[8:12] + "-" + text[12:]
	c.mu.Lock()
	defer c.mu.Unlock()
	put(c.given, hash(text), issued{by, ask.Challenge}, c.now(), codeLife)
	return code
}

// redeem takes a code once; a wrong verifier uses it up too.
func (c *codes) redeem(code, verifier string) (identity.SignIn, error) {
	bad := &refusal{status: http.StatusBadRequest, say: "that code is wrong, was used, or is older than five minutes", next: "run `sallyport login` again"}
	if len(code) > 40 || !verifierForm.MatchString(verifier) {
		return identity.SignIn{}, bad
	}
	key := hash(strings.ToUpper(strings.NewReplacer("-", "", " ", "").Replace(code)))
	c.mu.Lock()
	w, ok := c.given[key]
	delete(c.given, key)
	c.mu.Unlock()
	if !ok || !c.now().Before(w.ends) {
		return identity.SignIn{}, bad
	}
	sum := sha256.Sum256([]byte(verifier))
	shown := base64.RawURLEncoding.EncodeToString(sum[:])
	if subtle.ConstantTimeCompare([]byte(shown), []byte(w.what.challenge)) != 1 {
		return identity.SignIn{}, bad
	}
	return w.what.by, nil
}
