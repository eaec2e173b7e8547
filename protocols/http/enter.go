package http

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/sallyport/sallyport/identity"
)

// The hand-over of a sign-in from the gate's name to a target's host:
//
//	target  /.sallyport/begin   sets the nonce cookie, goes to
//	gate    /.sallyport/open    knows who it is, makes a code for this host and nonce, goes to
//	target  /.sallyport/enter   takes the code in the browser that has the nonce, once
//
// None of them decides or opens anything.
const (
	pathBegin = "/.sallyport/begin"
	pathOpen  = "/.sallyport/open"
	pathEnter = "/.sallyport/enter"
	// pathKeys is where targets read the keys that identities are signed with.
	pathKeys = "/.well-known/jwks.json"
)

// A code hands one sign-in over, to one host, in one browser.
type code struct {
	nonce   [32]byte // SHA-256 of the nonce cookie
	visitor visitor
	to      string
	ends    time.Time
}

// own answers what belongs to this protocol on the gate's own name.
func (c *conn) own(w http.ResponseWriter, r *http.Request) bool {
	switch {
	case r.URL.Path == pathKeys && r.Method == http.MethodGet:
		c.h.signer.jwks(w, time.Now())
	case r.URL.Path == pathOpen && r.Method == http.MethodGet:
		c.handOver(w, r)
	default:
		return false
	}
	return true
}

// redirect sends a browser on; nothing of it is kept anywhere.
func redirect(w http.ResponseWriter, r *http.Request, to string) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Referrer-Policy", "no-referrer")
	http.Redirect(w, r, to, http.StatusSeeOther)
}

// handOver makes the code. It is a page to go to, never to be framed or fetched.
func (c *conn) handOver(w http.ResponseWriter, r *http.Request) {
	h, q := c.h, r.URL.Query()
	s := h.sites().byTarget[q.Get("target")]
	role, nonce := q.Get("role"), q.Get("nonce")
	dest := r.Header.Get("Sec-Fetch-Dest")
	switch {
	case s == nil:
		c.refuse(w, r, nil, &refusal{status: http.StatusNotFound, say: "there is no such target"})
		return
	case prefetches(r) || dest != "" && dest != "document" || role != "" && !roleForm.MatchString(role) || len(nonce) > 64:
		c.refuse(w, r, nil, bad("go to this address in a browser's window"))
		return
	}
	to := local(q.Get("to"))
	if nonce == "" {
		redirect(w, r, s.url(pathBegin)+"?"+url.Values{"to": {to}, "role": {role}}.Encode())
		return
	}
	by, ok := h.signedIn(r)
	if !ok {
		redirect(w, r, h.config.URL+"/login?"+url.Values{"to": {r.URL.RequestURI()}}.Encode())
		return
	}
	secret := newSecret()
	made := code{visitor: visitor{signIn: by, host: s.host, role: role, addr: source(r).Addr()}, to: to, ends: time.Now().Add(codeLife)}
	if !decodeNonce(nonce, &made.nonce) || !h.addCode(secret, made) {
		c.refuse(w, r, nil, bad("begin again at "+s.url("/")))
		return
	}
	redirect(w, r, s.url(pathEnter)+"?"+url.Values{"code": {secret}}.Encode())
}

// signedIn is the sign-in of a browser on the gate's own name.
func (h *handler) signedIn(r *http.Request) (identity.SignIn, bool) {
	cookies := r.CookiesNamed(gateCookie)
	if len(cookies) != 1 {
		return identity.SignIn{}, false
	}
	by, err := h.config.Gate.SignInByCookie(r.Context(), hash(cookies[0].Value))
	return by, err == nil
}

// addCode keeps a code, and forgets those that are over.
func (h *handler) addCode(secret string, c code) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.codes) >= maxCodes/2 {
		now := time.Now()
		for k, old := range h.codes {
			if now.After(old.ends) {
				delete(h.codes, k)
			}
		}
	}
	if len(h.codes) >= maxCodes {
		return false
	}
	h.codes[hash(secret)] = c
	return true
}

// takeCode gives a code out once.
func (h *handler) takeCode(secret string) (code, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c, ok := h.codes[hash(secret)]
	delete(h.codes, hash(secret))
	return c, ok && time.Now().Before(c.ends)
}

// ours answers what belongs to the gate on a target's host.
func (c *conn) ours(w http.ResponseWriter, r *http.Request, s *site) {
	q := r.URL.Query()
	switch {
	case r.Method != http.MethodGet || prefetches(r):
		c.refuse(w, r, s, bad("go to this address in a browser's window"))
	case r.URL.Path == pathBegin:
		c.begin(w, r, s, q.Get("to"), q.Get("role"))
	case r.URL.Path == pathEnter:
		c.enter(w, r, s, q.Get("code"))
	default:
		c.refuse(w, r, s, &refusal{status: http.StatusNotFound, say: "there is no such page"})
	}
}

// begin binds what follows to this browser, and sends it to the gate's own name.
func (c *conn) begin(w http.ResponseWriter, r *http.Request, s *site, to, role string) {
	var nonce string
	if cookies := r.CookiesNamed(nonceCookie); len(cookies) == 1 && len(cookies[0].Value) == 43 {
		nonce = cookies[0].Value // of another window that signs in now
	} else {
		nonce = newSecret()
		http.SetCookie(w, cookie(nonceCookie, nonce, 10*time.Minute))
	}
	sum := hash(nonce)
	values := url.Values{"target": {s.target}, "to": {local(to)}, "nonce": {encode(sum[:])}}
	if roleForm.MatchString(role) {
		values.Set("role", role)
	}
	redirect(w, r, c.h.config.URL+pathOpen+"?"+values.Encode())
}

// enter takes a code, in the browser and on the host that it was made for.
func (c *conn) enter(w http.ResponseWriter, r *http.Request, s *site, secret string) {
	taken, ok := c.h.takeCode(secret)
	cookies := r.CookiesNamed(nonceCookie)
	if !ok || taken.visitor.host != s.host || taken.visitor.addr != source(r).Addr() ||
		len(cookies) != 1 || hash(cookies[0].Value) != taken.nonce {
		c.refuse(w, r, s, &refusal{status: http.StatusForbidden, say: "this sign-in was not begun in this browser, or took too long; begin again", home: true})
		return
	}
	value := newSecret()
	c.h.addVisitor(value, &taken.visitor)
	http.SetCookie(w, cookie(visitorCookie, value, time.Until(taken.visitor.signIn.Expires)))
	redirect(w, r, taken.to)
}

func decodeNonce(text string, into *[32]byte) bool {
	sum, err := base64.RawURLEncoding.DecodeString(text)
	return err == nil && copy(into[:], sum) == len(into) && len(sum) == len(into)
}

// cookie makes one of the cookies of a target's host.
func cookie(name, value string, age time.Duration) *http.Cookie {
	return &http.Cookie{Name: name, Value: value, Path: "/", MaxAge: int(age / time.Second), Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode}
}

// local is a path of the same host to go on to, or "/" for everything else.
func local(to string) string {
	if len(to) > 2048 || !strings.HasPrefix(to, "/") || strings.HasPrefix(to, "//") ||
		strings.ContainsAny(to, "\\\r\n\t") || strings.HasPrefix(to, "/.sallyport/") {
		return "/"
	}
	if _, err := url.Parse(to); err != nil {
		return "/"
	}
	return to
}
