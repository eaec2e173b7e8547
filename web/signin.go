package web

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/identity/oidc"
)

// The two cookies. The prefix __Host- makes browsers refuse them without Secure and
// Path=/, and with a Domain (RFC 6265bis, section 4.1.3.2): no target and no other
// name can set or read them.
const (
	cookieName = "__Host-sallyport"
	beginName  = "__Host-sallyport-begin"
)

// Paths that a sign-in never goes back to: they would begin another one, or end it.
var notBack = map[string]bool{"/login": true, "/callback": true, "/logout": true, "/live": true, cliDone: true}

// hash is what the gate keeps of a cookie.
func hash(value string) [32]byte { return sha256.Sum256([]byte(value)) }

// newSecret is 256 random bits for a cookie.
func newSecret() string {
	b := make([]byte, 32)
	rand.Read(b) //nolint:errcheck // never fails (crypto/rand)
	return base64.RawURLEncoding.EncodeToString(b)
}

// login begins a sign-in. It changes nothing but the begin cookie, so it may be a GET.
func (s *Web) login(v *visit) error {
	q := v.r.URL.Query()
	to := local(q.Get("to"))
	if u, err := url.Parse(to); err != nil || notBack[u.Path] {
		to = "/"
	}
	attempt, err := s.begin(v, to, q.Get("again") != "")
	if err != nil {
		return err
	}
	return redirect(v, attempt.URL)
}

// begin asks the relying party for an attempt, bound to this browser by a cookie.
func (s *Web) begin(v *visit, to string, fresh bool) (oidc.Attempt, error) {
	issuer, err := s.config.Issuer()
	if err != nil {
		return oidc.Attempt{}, err
	}
	binding := ""
	if c, err := v.r.Cookie(beginName); err == nil {
		binding = c.Value
	}
	attempt, err := issuer.Begin(v.r.Context(), oidc.Beginning{ReturnTo: to, Binding: binding, Fresh: fresh, Source: v.addr})
	if err != nil {
		return oidc.Attempt{}, s.signInFailed(err)
	}
	http.SetCookie(v.w, cookie(beginName, attempt.Binding, attempt.Ends.Sub(s.now())))
	return attempt, nil
}

// callback ends a sign-in: the provider sends the browser here.
func (s *Web) callback(v *visit) error {
	issuer, err := s.config.Issuer()
	if err != nil {
		return err
	}
	binding, err := v.r.Cookie(beginName)
	if err != nil {
		return &refusal{status: http.StatusBadRequest, say: "this sign-in was not begun in this browser", next: "begin again", login: false}
	}
	signed, err := issuer.Finish(v.r.Context(), binding.Value, v.r.URL.Query())
	if err != nil {
		return s.signInFailed(err)
	}
	by := identity.SignIn{
		ID: identity.NewID(), User: signed.User, Via: "browser", Created: signed.At, Authenticated: signed.Authenticated, Checked: signed.At, Expires: signed.Expires,
		Address: v.addr.String(),
	}
	if signed.Refresh != "" {
		by.Refresh = s.config.Sealer.Seal(signed.Refresh, by.ID)
	}
	if ask, ok := cliAskOf(signed.ReturnTo); ok {
		by.Via = "cli"
		return s.cliSignedIn(v, by, ask)
	}
	secret := newSecret()
	by.Cookie = hash(secret)
	if err := s.gate.SignIn(v.r.Context(), by); err != nil {
		return err
	}
	s.dropOld(v, by)
	http.SetCookie(v.w, cookie(cookieName, secret, by.Expires.Sub(s.now())))
	return redirect(v, local(signed.ReturnTo))
}

// dropOld ends the sign-in that this browser had, where it was another person's:
// nothing of theirs may go on under a screen that shows somebody else. One's own
// older sign-in keeps what it opened, and ends by its own time.
func (s *Web) dropOld(v *visit, by identity.SignIn) {
	old, err := v.r.Cookie(cookieName)
	if err != nil {
		return
	}
	before, err := s.gate.SignInByCookie(v.r.Context(), hash(old.Value))
	if err != nil || before.User.Same(by.User) {
		return
	}
	if err := s.gate.SignOut(v.r.Context(), before.ID, "somebody else signed in in this browser"); err != nil {
		s.logger.Warn("cannot end the sign-in before", "err", err)
	}
}

func (s *Web) logout(v *visit) error {
	if err := s.gate.SignOut(v.r.Context(), v.by.ID, "signed out"); err != nil {
		return err
	}
	http.SetCookie(v.w, cookie(cookieName, "", -time.Second))
	v.by = identity.SignIn{}
	return s.show(v, http.StatusOK, "done", view{Title: "Signed out", Body: donePage{
		Say:  "You are signed out",
		Next: "What this sign-in opened has ended. A `sallyport login` on the command line is a sign-in of its own, and goes on.",
	}})
}

// cookie makes one of the two cookies; a negative age deletes it.
func cookie(name, value string, age time.Duration) *http.Cookie {
	seconds := int(age / time.Second)
	if seconds <= 0 {
		seconds = -1
	}
	return &http.Cookie{Name: name, Value: value, Path: "/", MaxAge: seconds, Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode}
}

// signInFailed turns a relying party's failure into the page's words, and logs what
// only the gate's own people may see.
func (s *Web) signInFailed(err error) error {
	var failure *oidc.Failure
	if !errors.As(err, &failure) {
		return err
	}
	code := http.StatusForbidden
	if errors.Is(err, identity.ErrUnreachable) {
		code = http.StatusBadGateway
	}
	s.logger.Info("sign-in failed", "err", err)
	return &refusal{status: code, say: failure.Say}
}
