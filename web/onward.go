package web

import (
	"net/http"
	"net/url"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/session"
)

// The protocol HTTP answers this path on the gate's own name: it hands the sign-in over
// to the target's host, and goes on there.
const pathOpen = "/.sallyport/open"

// openHTTP is where a browser goes to use a target; empty where it has no pages.
func openHTTP(p *policy.Policy, key session.Key, to string) string {
	if t, ok := p.Target(key.Target); !ok || t.Protocol != "http" {
		return ""
	}
	return pathOpen + "?" + url.Values{"target": {key.Target}, "role": {key.Role}, "to": {local(to)}}.Encode()
}

// back keeps, in a page's own address, where on the target's host the browser came from.
func back(to string) string {
	if to == "" {
		return ""
	}
	return "?" + url.Values{"to": {local(to)}}.Encode()
}

// onward is where the asker's browser goes on after the yes; empty while there is none,
// and where it did not come from a target's host.
func (s *Web) onward(v *visit, r session.Request) string {
	to := v.r.URL.Query().Get("to")
	if to == "" || r.State != session.RequestApproved || r.User.ID() != v.by.User.ID() {
		return ""
	}
	g, err := s.gate.Grant(v.r.Context(), v.by, r.Grant)
	if err != nil || g.State != session.GrantActive {
		return ""
	}
	return openHTTP(s.gate.Policy(), g.Key, to)
}

// goOn moves a browser on from the waiting page. A redirect would fall under the
// form-action of the page whose form led here, so the page itself goes; a script that
// reads the page again is redirected, and loads it.
func (s *Web) goOn(v *visit, r session.Request, to string) error {
	if mode := v.r.Header.Get("Sec-Fetch-Mode"); mode != "" && mode != "navigate" {
		return redirect(v, to)
	}
	return s.show(v, http.StatusOK, "done", view{Title: "Approved", Go: to, Body: donePage{
		Say: "Approved: " + r.Input.Target + " as " + r.Input.Role, Link: to,
	}})
}
