package web

import (
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/sallyport/sallyport/identity"
)

// Limits on what a request may carry. A form's longest field is a reason of
// session.MaxReason characters, at most 12 bytes each once it is URL-encoded.
const (
	maxBody  = 64 << 10
	maxURL   = 4 << 10
	maxField = 4000 // bytes of any one form field or query parameter
)

// policyHeader is the content security policy of every page: nothing but our own
// files, no inline script or style, no frame around us. form-action is added by the
// page, since browsers apply it to the redirect after a form too.
const policyHeader = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"base-uri 'none'; frame-ancestors 'none'; form-action "

// guard is what every request passes before any route: headers, host, size, origin.
func (s *Web) guard(next http.Handler) http.Handler {
	cross := http.NewCrossOriginProtection()
	cross.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.fail(&visit{w: w, r: r}, &refusal{
			status: http.StatusForbidden, say: "this came from another site; nothing was changed",
			next: "open " + s.origin + " and do it there",
		})
	}))
	inner := cross.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		head := w.Header()
		head.Set("Content-Security-Policy", policyHeader+"'self'")
		head.Set("X-Frame-Options", "DENY")
		head.Set("X-Content-Type-Options", "nosniff")
		head.Set("Referrer-Policy", "no-referrer")
		head.Set("Strict-Transport-Security", "max-age=63072000")
		head.Set("Cross-Origin-Opener-Policy", "same-origin")
		head.Set("Cross-Origin-Resource-Policy", "same-origin")
		head.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
		head.Set("Cache-Control", "no-store")
		v := &visit{w: w, r: r}
		switch {
		case !strings.EqualFold(r.Host, s.host) && !probe(r.URL.Path):
			s.fail(v, &refusal{status: http.StatusMisdirectedRequest, say: "this gate's pages are at " + s.origin})
		case len(r.URL.RequestURI()) > maxURL:
			s.fail(v, &refusal{status: http.StatusRequestURITooLong, say: "this address is too long"})
		default:
			r.Body = http.MaxBytesReader(w, r.Body, maxBody)
			inner.ServeHTTP(w, r)
		}
	})
}

// probe reports a health check, which load balancers send to an address and not to a name.
func probe(path string) bool { return path == "/healthz" || path == "/readyz" }

// serve finds out who calls, lets the route answer, and renders its error.
func (s *Web) serve(r route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		v := &visit{w: w, r: req, addr: address(req), route: r}
		if err := s.admit(v); err != nil {
			s.fail(v, err)
			return
		}
		if err := r.do(v); err != nil {
			s.fail(v, err)
		}
	})
}

// admit sets v.by, or says why the route stays closed.
func (s *Web) admit(v *visit) error {
	if err := checkFields(v.r.URL.Query()); err != nil {
		return err
	}
	if v.route.access == open {
		return nil
	}
	var err error
	header := v.r.Header.Get("Authorization")
	if v.route.access == bearer && header != "" {
		v.by, err = s.byToken(v, header)
	} else {
		v.by, err = s.byCookie(v)
	}
	return err
}

func (s *Web) byToken(v *visit, header string) (identity.SignIn, error) {
	scheme, token, found := strings.Cut(header, " ")
	if !found || !strings.EqualFold(scheme, "Bearer") || len(token) > maxField {
		return identity.SignIn{}, errToken
	}
	by, err := s.gate.SignInByToken(v.r.Context(), identity.Token(strings.TrimSpace(token)))
	if err != nil {
		return identity.SignIn{}, tokenError(err)
	}
	return by, nil
}

func (s *Web) byCookie(v *visit) (identity.SignIn, error) {
	cookie, err := v.r.Cookie(cookieName)
	if err != nil {
		return identity.SignIn{}, errSignedOut
	}
	by, err := s.gate.SignInByCookie(v.r.Context(), hash(cookie.Value))
	if err != nil {
		return identity.SignIn{}, cookieError(err)
	}
	return by, nil
}

// address is where the request came from. No header is believed here: the HTTP listener
// sets RemoteAddr from what its trusted proxies say, and from nobody else.
func address(r *http.Request) netip.Addr {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Addr{}
	}
	return addr.Unmap()
}
