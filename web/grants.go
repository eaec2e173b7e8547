package web

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/session"
)

type grantsPage struct {
	Active []session.Grant
	Past   []session.Grant
	More   string
}

func (s *Web) grants(v *visit) error {
	filter, err := paging(v)
	if err != nil {
		return err
	}
	s.ownOnly(v, &filter)
	all, err := s.gate.Grants(v.r.Context(), v.by, filter)
	if err != nil {
		return err
	}
	page := grantsPage{}
	for _, g := range all {
		if g.State == session.GrantActive {
			page.Active = append(page.Active, g)
		} else {
			page.Past = append(page.Past, g)
		}
	}
	if len(all) == filter.Limit {
		last := all[len(all)-1]
		page.More = more(last.Starts, last.ID)
	}
	return s.show(v, http.StatusOK, "grants", view{Title: "Grants", Topics: "grant", Wide: true, Body: page})
}

// ownOnly selects this person's own rows where no right shows them others', so that
// a page of them is full of their own and not of what the gate would leave out.
func (s *Web) ownOnly(v *visit, filter *session.Filter) {
	if !s.has(v, policy.RightAudit) && !s.has(v, policy.RightCut) && !s.has(v, policy.RightReview) {
		filter.User = v.by.User.ID()
	}
}

type grantPage struct {
	G        session.Grant
	Mine     bool
	MayCut   bool
	Sessions []session.Record
	ways
	Token    string // shown in this answer and never again
	TokenEnd time.Time
	Extend   string
	Open     string // where a browser uses it; empty: with a client
}

func (s *Web) grant(v *visit) error {
	g, err := s.gate.Grant(v.r.Context(), v.by, v.id())
	if err != nil {
		return err
	}
	return s.showGrant(v, g, "", time.Time{})
}

func (s *Web) showGrant(v *visit, g session.Grant, token string, ends time.Time) error {
	sessions, err := s.gate.Sessions(v.r.Context(), v.by, session.Filter{Grant: g.ID, Limit: 50})
	if err != nil {
		return err
	}
	again := url.Values{"target": {g.Key.Target}, "role": {g.Key.Role}, "reason": {g.Reason}, "ticket": {g.Ticket}}
	if g.Key.Object != "" {
		again.Set("object", g.Key.Object)
	}
	if g.Times < g.Decision.Extensions {
		again.Set("extends", g.ID) // else it is a new request, for when this has ended
	}
	page := grantPage{
		G: g, Mine: g.User.ID() == v.by.User.ID(), MayCut: s.gate.MayRevoke(v.by, g), Sessions: sessions,
		Token: token, TokenEnd: ends, Extend: "/requests/new?" + again.Encode(),
	}
	page.ways = s.ways(g, token)
	if page.Mine && g.State == session.GrantActive {
		page.Open = openHTTP(s.gate.Policy(), g.Key, "/")
	}
	return s.show(v, http.StatusOK, "grant", view{
		Title: fmt.Sprintf("%s as %s", g.Key.Target, g.Key.Role), Topics: "grant session", Body: page,
	})
}

func (s *Web) grantToken(v *visit) error {
	token, record, err := s.gate.GrantToken(v.r.Context(), v.by, v.id())
	if err != nil {
		return err
	}
	g, err := s.gate.Grant(v.r.Context(), v.by, v.id())
	if err != nil {
		return err
	}
	return s.showGrant(v, g, token.Reveal(), record.Expires)
}

func (s *Web) release(v *visit) error {
	if err := s.gate.Release(v.r.Context(), v.by, v.id()); err != nil {
		return err
	}
	return redirect(v, "/g/"+url.PathEscape(v.id()))
}

func (s *Web) revoke(v *visit) error {
	why, err := reason(v)
	if err != nil {
		return err
	}
	if err := s.gate.Revoke(v.r.Context(), v.by, v.id(), why); err != nil {
		return err
	}
	return redirect(v, "/g/"+url.PathEscape(v.id()))
}

// reason reads the one field that says why something is cut.
func reason(v *visit) (string, error) {
	fields, err := form(v)
	if err != nil {
		return "", err
	}
	why := strings.TrimSpace(fields.Get("why"))
	return why, short("why", why, session.MaxReason)
}

type sessionsPage struct {
	Live []row
	Past []row
	More string
}

// row is a session with what this person may do with it.
type row struct {
	session.Record
	MayCut    bool
	MayReview bool
}

func (s *Web) sessions(v *visit) error {
	filter, err := paging(v)
	if err != nil {
		return err
	}
	s.ownOnly(v, &filter)
	all, err := s.gate.Sessions(v.r.Context(), v.by, filter)
	if err != nil {
		return err
	}
	page := sessionsPage{}
	for _, r := range all {
		one := row{Record: r, MayCut: r.User.ID() == v.by.User.ID() || s.gate.MayCut(v.by, r.Key.Target) == nil, MayReview: s.gate.MayReview(v.by, r) == nil}
		if r.Live {
			page.Live = append(page.Live, one)
		} else {
			page.Past = append(page.Past, one)
		}
	}
	if len(all) == filter.Limit {
		last := all[len(all)-1]
		page.More = more(last.Started, last.ID)
	}
	return s.show(v, http.StatusOK, "sessions", view{Title: "Sessions", Topics: "session", Wide: true, Body: page})
}

func (s *Web) kill(v *visit) error {
	why, err := reason(v)
	if err != nil {
		return err
	}
	if err := s.gate.Kill(v.r.Context(), v.by, v.id(), why); err != nil {
		return err
	}
	return redirect(v, "/sessions")
}

type usersPage struct {
	Accounts []identity.Account
	Self     string
}

func (s *Web) users(v *visit) error {
	accounts, err := s.gate.Users(v.r.Context(), v.by)
	if err != nil {
		return err
	}
	return s.show(v, http.StatusOK, "users", view{Title: "Users", Wide: true, Body: usersPage{Accounts: accounts, Self: v.by.User.ID()}})
}

func (s *Web) disable(v *visit) error {
	fields, err := form(v)
	if err != nil {
		return err
	}
	why := strings.TrimSpace(fields.Get("why"))
	if err := short("why", why, session.MaxReason); err != nil {
		return err
	}
	if err := s.gate.Disable(v.r.Context(), v.by, fields.Get("user"), why); err != nil {
		return err
	}
	return redirect(v, "/users")
}

func (s *Web) enable(v *visit) error {
	fields, err := form(v)
	if err != nil {
		return err
	}
	if err := s.gate.Enable(v.r.Context(), v.by, fields.Get("user")); err != nil {
		return err
	}
	return redirect(v, "/users")
}
