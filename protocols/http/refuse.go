package http

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"html/template"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/sallyport/sallyport/session"
)

// A refusal is an answer of this protocol alone.
type refusal struct {
	status int
	say    string
	ask    bool  // somebody can ask for more on the gate's pages
	home   bool  // offer the target's first page
	err    error // what the gate would say; may be nil
}

func (e *refusal) Error() string { return e.say }
func (e *refusal) Unwrap() error { return e.err }

// errNobody says that no proof was shown, or one that is over.
var errNobody = &refusal{status: http.StatusUnauthorized, say: "nothing is opened yet; sign in and say why", ask: true}

// errCrowded says that somebody has as many requests under way as one person may have.
var errCrowded = &refusal{status: http.StatusTooManyRequests, say: "too many of your requests are under way; try again in a moment"}

// errLong says that a body has more bytes than the policy lets the target have.
var errLong = &refusal{status: http.StatusRequestEntityTooLarge, say: "the body is longer than this target takes"}

//go:embed page.html
var pageText string

var page = template.Must(template.New("page").Parse(pageText))

// pageView is what page.html shows.
type pageView struct {
	Title, Say, Next, Link string
}

// turn answers a request that is not let through: a browser is sent to where it can
// go on, everybody else is refused.
func (c *conn) turn(w http.ResponseWriter, r *http.Request, s *site, me caller, err error) {
	var held *session.Held
	var invalid *session.Invalid
	var ref *refusal
	switch to := r.URL.RequestURI(); {
	case !navigates(r):
	case errors.Is(err, errNobody):
		c.begin(w, r, s, to, me.role)
		return
	case errors.As(err, &held), errors.As(err, &invalid), errors.As(err, &ref) && ref.ask:
		redirect(w, r, c.askAt(r, s, me, to))
		return
	}
	c.refuse(w, r, s, err)
}

// askAt is the gate's page to ask on, or of the request that waits already.
func (c *conn) askAt(r *http.Request, s *site, me caller, to string) string {
	role := me.role
	if role == "" && !me.user.User.IsZero() {
		role, _ = c.chooseRole(r.Context(), me, s) // else the page lets the person choose
	}
	if !me.user.User.IsZero() {
		pending, err := c.h.config.Gate.Requests(r.Context(), me.user, session.Filter{
			State: string(session.RequestPending), User: me.user.User.ID(), Target: s.target, Role: role, Limit: 1,
		})
		if err == nil && len(pending) > 0 {
			return c.h.config.URL + "/requests/" + url.PathEscape(pending[0].ID) + "?" + url.Values{"to": {to}}.Encode()
		}
	}
	return c.askPage(s, role, to)
}

func (c *conn) askPage(s *site, role, to string) string {
	values := url.Values{"target": {s.target}}
	if role != "" {
		values.Set("role", role)
	}
	if to != "" {
		values.Set("to", to)
	}
	return c.h.config.URL + "/requests/new?" + values.Encode()
}

// problem is RFC 9457's body.
type problem struct {
	Type    string `json:"type"`
	Title   string `json:"title"`
	Status  int    `json:"status"`
	Detail  string `json:"detail"`
	Request string `json:"request,omitempty"`
	Open    string `json:"open,omitempty"` // the page to open in a browser
}

// refuse is the door that all errors leave by. s is nil where no target is meant.
func (c *conn) refuse(w http.ResponseWriter, r *http.Request, s *site, err error) {
	if r.Context().Err() != nil && errors.Is(err, r.Context().Err()) {
		return // there is nobody to tell
	}
	code, open, request := status(err), "", ""
	say := c.say(err)
	var held *session.Held
	var ref *refusal
	switch isRef := errors.As(err, &ref); {
	case errors.As(err, &held):
		open, request = held.URL, held.Request
	case s != nil && (code == http.StatusForbidden || code == http.StatusUnauthorized) && (!isRef || ref.ask):
		role := r.Header.Get(roleHeader)
		if !roleForm.MatchString(role) {
			role = s.Role
		}
		if isRef && ref.err != nil { // another role may have what this one lacks
			role = ""
		}
		open = c.askPage(s, role, "")
	}
	head := w.Header()
	for name := range head {
		if name != "Connection" && name != "Set-Cookie" {
			delete(head, name)
		}
	}
	head.Set("Cache-Control", "no-store")
	head.Set("X-Content-Type-Options", "nosniff")
	if code == http.StatusUnauthorized {
		head.Set("WWW-Authenticate", `Bearer realm="sallyport"`)
	}
	if code == http.StatusTooManyRequests {
		head.Set("Retry-After", "1")
	}
	if isCall(r.Header) {
		refuseCall(w, code, say, open)
		return
	}
	if isPage(r) {
		view := pageView{Title: http.StatusText(code), Say: sentence(say)}
		switch {
		case open != "" && s != nil && ref != nil && ref.err != nil:
			view.Next, view.Link = "Ask for more", c.askPage(s, "", r.URL.RequestURI())
		case open != "" && s != nil:
			view.Next, view.Link = "Ask for access", c.askPage(s, r.Header.Get(roleHeader), r.URL.RequestURI())
		case ref != nil && ref.home && s != nil:
			view.Next, view.Link = "Begin again", s.url("/")
		}
		head.Set("Content-Type", "text/html; charset=utf-8")
		head.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		head.Set("X-Frame-Options", "DENY")
		head.Set("Referrer-Policy", "no-referrer")
		var text bytes.Buffer
		_ = page.Execute(&text, view) // a buffer takes all
		whole(w, code, text.Bytes())
		return
	}
	head.Set("Content-Type", "application/problem+json")
	var text bytes.Buffer
	out := json.NewEncoder(&text)
	out.SetEscapeHTML(false) // people copy the address out of what curl shows
	_ = out.Encode(problem{  //nolint:errchkjson // strings and a number
		Type: "about:blank", Title: http.StatusText(code), Status: code, Detail: sentence(say), Request: request, Open: open,
	})
	whole(w, code, text.Bytes())
}

// whole answers with a body whose length is known, so that nothing is left to say.
func whole(w http.ResponseWriter, code int, text []byte) {
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(code)
	_, _ = w.Write(text) // the client has gone, or has it
}

// say is the sentence; the gate logs what users must not see.
func (c *conn) say(err error) string {
	var ref *refusal
	if errors.As(err, &ref) {
		return ref.say
	}
	return c.h.config.Gate.Message(err)
}

// status says an error in HTTP's own words.
func status(err error) int {
	var (
		ref     *refusal
		denied  *session.Denied
		invalid *session.Invalid
		held    *session.Held
		ended   *session.Ended
		failed  *session.Failed
	)
	switch {
	case errors.As(err, &ref):
		return ref.status
	case errors.Is(err, session.ErrBadToken):
		return http.StatusUnauthorized
	case errors.Is(err, session.ErrStopping):
		return http.StatusServiceUnavailable
	case errors.As(err, &held) && held.Request == "":
		return http.StatusForbidden
	case errors.As(err, &denied), errors.As(err, &held), errors.As(err, &ended), errors.As(err, &invalid):
		return http.StatusForbidden
	case errors.As(err, &failed):
		return http.StatusBadGateway
	}
	return http.StatusInternalServerError
}

// sentence gives a message its capital and full stop.
func sentence(s string) string {
	if s == "" {
		return s
	}
	if !strings.HasSuffix(s, ".") && !strings.HasSuffix(s, "?") {
		s += "."
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
