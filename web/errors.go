package web

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/sallyport/sallyport/session"
)

// A refusal is an error of the pages themselves, before or beside the gate.
type refusal struct {
	status int
	say    string // a sentence without its full stop
	next   string // what to do; may be empty
	field  string
	login  bool // signing in would help
}

func (r *refusal) Error() string {
	if r.next == "" {
		return r.say
	}
	return r.say + "; " + r.next
}

var (
	errSignedOut = &refusal{status: http.StatusUnauthorized, say: "you are not signed in", login: true}
	errToken     = &refusal{
		status: http.StatusUnauthorized, say: "that is not an API token, or it has ended",
		next: "run `sallyport login`; a grant's token opens connections and nothing else",
	}
	errTooLong = &refusal{status: http.StatusRequestEntityTooLarge, say: "that is too long"}
	errBody    = &refusal{status: http.StatusBadRequest, say: "the body could not be read", next: "send it as docs/api.md says"}
)

// tokenError and cookieError keep the gate's own reason (a disabled user, say) and
// turn everything that only means "unknown" into one answer.
func tokenError(err error) error {
	if errors.Is(err, session.ErrNotFound) || errors.Is(err, session.ErrBadToken) {
		return errToken
	}
	return unauthorized(err)
}

func cookieError(err error) error {
	if errors.Is(err, session.ErrNotFound) || errors.Is(err, session.ErrBadToken) {
		return errSignedOut
	}
	return unauthorized(err)
}

// unauthorized gives a Denied or Ended about a sign-in the status of a sign-in.
func unauthorized(err error) error {
	var denied *session.Denied
	var ended *session.Ended
	if errors.As(err, &denied) || errors.As(err, &ended) {
		return &refusal{status: http.StatusUnauthorized, say: said(err), login: true}
	}
	return err
}

// said is the gate's sentence for an error that is known to have one.
func said(err error) string {
	say, _ := session.Message(err)
	return say
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
		size    *http.MaxBytesError
	)
	switch {
	case errors.As(err, &ref):
		return ref.status
	case errors.Is(err, session.ErrNotFound):
		return http.StatusNotFound
	case errors.As(err, &denied):
		return http.StatusForbidden
	case errors.As(err, &invalid):
		return http.StatusUnprocessableEntity
	case errors.Is(err, session.ErrStopping):
		return http.StatusServiceUnavailable
	case errors.As(err, &held), errors.As(err, &ended):
		return http.StatusConflict
	case errors.As(err, &failed):
		return http.StatusServiceUnavailable
	case errors.As(err, &size):
		return http.StatusRequestEntityTooLarge
	default:
		return http.StatusInternalServerError
	}
}

// message is the sentence for the person. Only what the gate knows nothing of is
// said here.
func (s *Web) message(err error) string {
	var ref *refusal
	var size *http.MaxBytesError
	switch {
	case errors.As(err, &ref):
		return ref.Error()
	case errors.As(err, &size):
		return errTooLong.Error()
	default:
		return s.gate.Message(err)
	}
}

// problem is RFC 9457's body.
type problem struct {
	Type    string `json:"type"`
	Title   string `json:"title"`
	Status  int    `json:"status"`
	Detail  string `json:"detail"`
	Field   string `json:"field,omitempty"`
	Request string `json:"request,omitempty"`
	Open    string `json:"open,omitempty"` // the page to open in a browser
}

// fail is the one place where an error becomes an answer.
func (s *Web) fail(v *visit, err error) {
	code, say := status(err), s.message(err)
	var ref *refusal
	if errors.As(err, &ref) && ref.login && v.page() && v.r.Method == http.MethodGet {
		http.Redirect(v.w, v.r, "/login?"+url.Values{"to": {v.r.URL.RequestURI()}}.Encode(), http.StatusSeeOther)
		return
	}
	if v.page() {
		data := errorPage{Say: sentence(say), Login: ref != nil && ref.login, Status: code}
		if err := s.show(v, code, "error", view{Title: http.StatusText(code), Body: data}); err != nil {
			s.logger.Error("cannot render the error page", "err", err)
			http.Error(v.w, "internal error", http.StatusInternalServerError)
		}
		return
	}
	body := problem{Type: "about:blank", Title: http.StatusText(code), Status: code, Detail: sentence(say)}
	var invalid *session.Invalid
	var held *session.Held
	switch {
	case errors.As(err, &invalid):
		body.Field = invalid.Field
	case errors.As(err, &held):
		body.Request, body.Open = held.Request, held.URL
	case ref != nil:
		body.Field = ref.field
		if ref.login {
			body.Open = s.origin + "/login"
		}
	}
	if code == http.StatusUnauthorized {
		v.w.Header().Set("WWW-Authenticate", `Bearer realm="sallyport"`)
	}
	v.w.Header().Set("Content-Type", "application/problem+json")
	v.w.WriteHeader(code)
	_ = json.NewEncoder(v.w).Encode(body) //nolint:errchkjson // the client has gone, or has the answer
}

// errorPage is what error.html shows.
type errorPage struct {
	Say    string
	Login  bool
	Status int
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
