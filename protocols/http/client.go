package http

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/session"
)

// The cookies of a target's host. __Host- makes browsers refuse them without Secure
// and Path=/, and with a Domain (RFC 6265bis, section 4.1.3.2).
const (
	visitorCookie = "__Host-sallyport-app"
	nonceCookie   = "__Host-sallyport-nonce"
	// gateCookie is web's, on the gate's own name.
	gateCookie = "__Host-sallyport"
)

const (
	roleHeader   = "Sallyport-Role"
	noticeHeader = "Sallyport-Notice"
	maxWait      = 300 // seconds of Prefer: wait
	maxVisitors  = 100_000
	maxCodes     = 10_000
	codeLife     = time.Minute
)

var roleForm = regexp.MustCompile(`^[a-z_][a-z0-9._-]{0,62}$`)

// A visitor is a browser that came back from signing in, on one host.
type visitor struct {
	signIn identity.SignIn
	host   string
	role   string     // that it came back with; may be empty
	addr   netip.Addr // it is a visitor from there only
	held   bool       // no sign-in of its own: a client that was held for one session
}

// A caller is who shows what on one request.
type caller struct {
	proof   identity.Proof
	key     key
	user    identity.SignIn // zero where only the gate can tell
	browser bool            // reads pages
	role    string
}

// key says for whom a session is: whatever differs is another session.
type key struct {
	proof  identity.ProofKind
	who    string // sign-in, or the SHA-256 of certificate or token
	target string
	role   string // as asked; may be empty
	addr   netip.Addr
}

// byHold marks the key of a session whose client was held without a proof of its own.
const byHold identity.ProofKind = "hold"

// isPage reports that the client reads pages.
func isPage(r *http.Request) bool { return strings.Contains(r.Header.Get("Accept"), "text/html") }

// navigates reports a browser that goes to a page: it can be sent elsewhere.
func navigates(r *http.Request) bool {
	mode := r.Header.Get("Sec-Fetch-Mode")
	return isPage(r) && (r.Method == http.MethodGet || r.Method == http.MethodHead) && (mode == "" || mode == "navigate") && !isWebsocket(r)
}

// prefetches reports what a browser does before anybody has clicked.
func prefetches(r *http.Request) bool {
	for _, name := range []string{"Sec-Purpose", "Purpose", "X-Moz", "X-Purpose"} {
		value := strings.ToLower(r.Header.Get(name))
		if strings.Contains(value, "prefetch") || strings.Contains(value, "prerender") || strings.Contains(value, "preview") {
			return true
		}
	}
	return false
}

// who reads the proof. Nothing is asked of the gate yet.
func (c *conn) who(r *http.Request, s *site) (caller, error) {
	addr := source(r).Addr()
	me := caller{browser: isPage(r), role: r.Header.Get(roleHeader)}
	if me.role != "" && !roleForm.MatchString(me.role) {
		return me, &session.Invalid{Field: "role", Hint: "the role's name in " + roleHeader + " is no name of a role"}
	}
	me.key = key{target: s.target, role: me.role, addr: addr}
	token, err := c.h.bearer(r.Header)
	if err != nil {
		return me, err
	}
	cookie := visitorOf(r)
	switch {
	case token != "" && cookie != "":
		return me, bad("this shows a token and a cookie; show one of them")
	case token != "":
		me.proof = identity.Proof{Kind: identity.ByToken, Token: token}
		hash := identity.HashToken(token)
		me.key.proof, me.key.who = identity.ByToken, string(hash[:])
	case r.TLS != nil && len(r.TLS.PeerCertificates) > 0 && !c.behind: // a proxy's own would be everybody's
		leaf := r.TLS.PeerCertificates[0]
		me.proof = identity.Proof{Kind: identity.ByCertificate, Certificate: leaf}
		hash := sha256.Sum256(leaf.Raw)
		me.key.proof, me.key.who = identity.ByCertificate, string(hash[:])
	case cookie != "":
		v := c.h.visitor(cookie)
		if v == nil || v.host != s.host || v.addr != addr {
			return me, nil
		}
		if v.held {
			sum := hash(cookie)
			me.key.proof, me.key.who, me.key.role = byHold, string(sum[:]), ""
			return me, nil
		}
		me.user, me.role = v.signIn, v.role // a page's script must not choose another of the person's grants
		me.proof = identity.Proof{Kind: identity.ByBrowser, SignIn: v.signIn.ID}
		me.key.proof, me.key.who, me.key.role = identity.ByBrowser, v.signIn.ID, me.role
	}
	return me, nil
}

// bearer is the gate's token in Authorization; other credentials there are the
// target's own.
func (h *handler) bearer(header http.Header) (identity.Token, error) {
	values := header.Values("Authorization")
	for _, value := range values {
		token := h.ourToken(value)
		if token == "" {
			continue
		}
		if len(values) > 1 {
			return "", bad("there are two Authorization headers")
		}
		return identity.Token(token), nil
	}
	return "", nil
}

// ourToken is the token in an Authorization value that is for the gate, be it a pipeline's
// JWT; empty where there is none.
func (h *handler) ourToken(value string) string {
	scheme, token, _ := strings.Cut(strings.TrimLeft(value, " \t"), " ")
	token = strings.TrimSpace(token)
	ours := strings.HasPrefix(token, "spg_") || strings.HasPrefix(token, "spa_") || h.config.Gate.ForUs(identity.Token(token))
	if strings.EqualFold(scheme, "Bearer") && ours {
		return token
	}
	return ""
}

// visitorOf is the value of this host's cookie; of several, none is believed.
func visitorOf(r *http.Request) string {
	found := ""
	for _, cookie := range r.CookiesNamed(visitorCookie) {
		if found != "" {
			return ""
		}
		found = cookie.Value
	}
	return found
}

func hash(value string) [32]byte { return sha256.Sum256([]byte(value)) }

// newSecret is 256 random bits.
func newSecret() string {
	b := make([]byte, 32)
	rand.Read(b) //nolint:errcheck // never fails (crypto/rand)
	return base64.RawURLEncoding.EncodeToString(b)
}

func (h *handler) visitor(cookie string) *visitor {
	h.mu.Lock()
	defer h.mu.Unlock()
	v := h.visitors[hash(cookie)]
	if v == nil || !v.signIn.Stands(time.Now()) {
		return nil
	}
	return v
}

// addVisitor keeps a browser, and forgets those whose sign-in is over.
func (h *handler) addVisitor(cookie string, v *visitor) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.visitors) >= maxVisitors {
		now := time.Now()
		for k, old := range h.visitors {
			if !old.signIn.Stands(now) || len(h.visitors) >= maxVisitors { // who is thrown out comes back by itself
				delete(h.visitors, k)
			}
		}
	}
	h.visitors[hash(cookie)] = v
}

// forget signs a browser out of this host: its sign-in has ended.
func (h *handler) forget(signIn string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for k, v := range h.visitors {
		if v.signIn.ID == signIn {
			delete(h.visitors, k)
		}
	}
}

// chooseRole says as which role to ask where the request does not say; empty: it
// cannot be known.
func (c *conn) chooseRole(ctx context.Context, me caller, s *site) (string, error) {
	gate := c.h.config.Gate
	newest, user, err := c.newest(ctx, me, session.Filter{Target: s.target})
	if err != nil || newest.Key.Role != "" {
		return newest.Key.Role, err
	}
	if s.Role != "" {
		return s.Role, nil
	}
	if len(s.roles) == 1 {
		return s.roles[0], nil
	}
	if user.User.IsZero() {
		return "", nil
	}
	var could []string
	for _, view := range gate.Targets(user) {
		if view.Target == s.target {
			could = append(could, view.Role)
		}
	}
	if len(could) == 1 {
		return could[0], nil
	}
	return "", nil
}

// newest is the caller's newest running grant of those that filter names, and who they
// are; zero where there is none, or where only the gate can tell.
func (c *conn) newest(ctx context.Context, me caller, filter session.Filter) (newest session.Grant, user identity.SignIn, err error) {
	user = me.user
	if me.proof.Kind == identity.ByCertificate {
		if user.User, err = c.h.config.Gate.Known(ctx, me.proof); err != nil {
			return newest, user, err
		}
	}
	if user.User.IsZero() {
		return newest, user, nil
	}
	filter.State, filter.User, filter.Limit = string(session.GrantActive), user.User.ID(), 10
	active, err := c.h.config.Gate.Grants(ctx, user, filter)
	return slices.MaxFunc(append(active, newest), func(a, b session.Grant) int { return a.Starts.Compare(b.Starts) }), user, err
}

// hasMore reports a grant that is newer than the session's own: somebody was refused,
// asked for more, and got it.
func (c *conn) hasMore(ctx context.Context, l *live, me caller) bool {
	newest, _, err := c.newest(ctx, me, session.Filter{Target: l.site.target, Role: l.role})
	return err == nil && newest.Starts.After(l.starts)
}

// prefersWait reads Prefer: wait=N (RFC 7240, section 4.3), in seconds.
func prefersWait(h http.Header) time.Duration {
	for _, line := range h.Values("Prefer") {
		for _, preference := range strings.Split(line, ",") {
			name, value, found := strings.Cut(strings.TrimSpace(preference), "=")
			if n, err := strconv.Atoi(strings.Trim(value, `" `)); found && err == nil && n > 0 && strings.EqualFold(strings.TrimSpace(name), "wait") {
				return time.Duration(min(n, maxWait)) * time.Second
			}
		}
	}
	return 0
}

// site answers a request for a target.
func (c *conn) site(w http.ResponseWriter, r *http.Request, s *site) {
	if err := inForm(r, s); err != nil {
		c.refuse(w, r, s, err)
		return
	}
	if strings.HasPrefix(r.URL.Path, "/.sallyport/") {
		c.ours(w, r, s)
		return
	}
	me, err := c.who(r, s)
	if err == nil {
		err = sameSite(r, s)
	}
	var l *live
	if err == nil {
		l, err = c.session(w, r, s, me)
	}
	if err == nil && within(l.scope, r) != nil && c.hasMore(r.Context(), l, me) {
		l.leave()
		l.retire()
		l, err = c.session(w, r, s, me)
	}
	if err != nil {
		c.turn(w, r, s, me, err)
		return
	}
	lingers := false
	defer func() {
		if lingers {
			c.linger(w)
		}
	}()
	lingers = c.forward(w, r, l)
}

// sameSite refuses what another site's page sends, by any proof that a browser adds
// by itself. A websocket is judged by its Origin, which browsers always send.
func sameSite(r *http.Request, s *site) error {
	if isWebsocket(r) {
		origin := r.Header.Get("Origin")
		if origin == "" || strings.EqualFold(origin, "https://"+s.host) || slices.Contains(s.Origins, origin) {
			return nil
		}
		return &refusal{status: http.StatusForbidden, say: "this came from another site; nothing was sent on"}
	}
	if s.cross.Check(r) != nil {
		return &refusal{status: http.StatusForbidden, say: "this came from another site; nothing was sent on"}
	}
	return nil
}

// session finds or opens the session of this request, which the caller leaves.
func (c *conn) session(w http.ResponseWriter, r *http.Request, s *site, me caller) (*live, error) {
	if me.key.proof != "" {
		if l := c.h.running(me.key); l != nil {
			if !l.proves() {
				l.leave()
				return nil, session.ErrBadWorkload
			}
			return l, nil
		}
	}
	if prefetches(r) {
		return nil, &refusal{status: http.StatusForbidden, say: "nothing is opened before somebody goes there"}
	}
	wait := prefersWait(r.Header)
	if err := c.h.ending(me.key, me.proof.SignIn == "" || navigates(r)); err != nil {
		return nil, err
	}
	secret := ""
	if me.proof.Kind == "" {
		if wait == 0 || me.browser {
			return nil, errNobody
		}
		me.proof.Kind = identity.ByBrowser // is held until somebody at the link has confirmed it
		secret = newSecret()
		sum := hash(secret)
		me.key.proof, me.key.who, me.key.role = byHold, string(sum[:]), ""
	}
	role := me.role
	var err error
	if role == "" {
		if role, err = c.chooseRole(r.Context(), me, s); err != nil {
			return nil, err
		}
	}
	if role == "" {
		return nil, &refusal{status: http.StatusForbidden, say: "it is not clear as which role; say it in " + roleHeader, ask: true}
	}
	ask := session.Ask{
		Target: s.target, Role: role, Proof: me.proof, NoWait: wait == 0, NoRequest: me.proof.SignIn != "" || me.browser,
		Client: session.Client{Protocol: Name, Address: source(r), Program: program(r)},
	}
	ctx := r.Context()
	var notice func(string) error
	if wait > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, wait, session.ErrWaitOver)
		defer cancel()
		notice = func(line string) error { return c.notice(w, line) }
	}
	l, err := c.h.open(ctx, s, me.key, ask, notice)
	if errors.Is(err, session.ErrNotFound) && me.proof.SignIn != "" {
		c.h.forget(me.proof.SignIn)
		return nil, errNobody
	}
	if errors.Is(err, session.ErrWaitOver) {
		return nil, errNobody
	}
	if err == nil && secret != "" {
		until := l.ends
		c.h.addVisitor(secret, &visitor{signIn: identity.SignIn{Expires: until.Add(endKept)}, host: s.host, addr: me.key.addr, held: true})
		http.SetCookie(w, cookie(visitorCookie, secret, time.Until(until.Add(endKept))))
	}
	return l, err
}

// notice shows a held client one line, as a header of a 102 response.
func (c *conn) notice(w http.ResponseWriter, line string) error {
	w.Header().Set(noticeHeader, line)
	w.WriteHeader(http.StatusProcessing)
	w.Header().Del(noticeHeader)
	return nil
}

// program is what the client calls itself, for the people who decide.
func program(r *http.Request) string {
	name, _, _ := strings.Cut(r.UserAgent(), " ")
	if len(name) > 64 || strings.ContainsFunc(name, func(c rune) bool { return c < ' ' || c > '~' }) {
		return ""
	}
	return name
}
