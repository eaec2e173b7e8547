package web

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/session"
)

// reply writes JSON.
func reply(v *visit, code int, what any) error {
	b, err := json.Marshal(what)
	if err != nil {
		return err
	}
	v.w.Header().Set("Content-Type", "application/json")
	v.w.WriteHeader(code)
	_, _ = v.w.Write(append(b, '\n')) // the client has gone, or has the answer
	return nil
}

// list keeps an empty list from becoming null.
func list[T any](items []T) []T {
	if items == nil {
		return []T{}
	}
	return items
}

type apiSignIn struct {
	ID      string    `json:"id"`
	Via     string    `json:"via"`
	Created time.Time `json:"created"`
	Checked time.Time `json:"checked"`
	Expires time.Time `json:"expires"`
}

func (s *Web) apiWhoami(v *visit) error {
	rights := []policy.Right{}
	for _, right := range []policy.Right{policy.RightReview, policy.RightCut, policy.RightAudit, policy.RightUsers} {
		if s.has(v, right) {
			rights = append(rights, right)
		}
	}
	return reply(v, http.StatusOK, struct {
		User   identity.User  `json:"user"`
		SignIn apiSignIn      `json:"sign_in"`
		Rights []policy.Right `json:"rights"`
	}{v.by.User, apiSignIn{v.by.ID, v.by.Via, v.by.Created, v.by.Checked, v.by.Expires}, rights})
}

func (s *Web) apiSignOut(v *visit) error {
	if err := s.gate.SignOut(v.r.Context(), v.by.ID, "signed out"); err != nil {
		return err
	}
	return reply(v, http.StatusOK, struct{}{})
}

func (s *Web) apiTargets(v *visit) error {
	return reply(v, http.StatusOK, map[string]any{"targets": list(s.gate.Targets(v.by))})
}

// apiSSH says how ssh reaches and knows this gate.
func (s *Web) apiSSH(v *visit) error {
	if s.config.HostCA == nil || s.config.Addresses["ssh"] == "" {
		return &refusal{status: http.StatusNotFound, say: "this gate takes no SSH connections"}
	}
	return reply(v, http.StatusOK, map[string]string{
		"address": s.config.Addresses["ssh"], "host_ca": strings.TrimSpace(string(ssh.MarshalAuthorizedKey(s.config.HostCA))),
	})
}

// apiHeld is a held connection in the API's names.
type apiHeld struct {
	ID       string          `json:"id"`
	State    string          `json:"state"`
	Target   string          `json:"target"`
	Role     string          `json:"role"`
	Object   string          `json:"object,omitempty"`
	Client   session.Client  `json:"client"`
	Since    time.Time       `json:"since"`
	Until    time.Time       `json:"until"`
	Phrases  []string        `json:"phrases,omitempty"`
	Decision policy.Decision `json:"decision"`
	Glass    policy.Decision `json:"break_glass"` // what the policy says of that
	Same     bool            `json:"same_address"`
	Existing *session.Grant  `json:"existing,omitempty"`
	Request  string          `json:"request,omitempty"`
	Outcome  string          `json:"outcome,omitempty"`
}

func heldReply(v *visit, h session.HeldView) error {
	return reply(v, http.StatusOK, apiHeld{
		ID: h.ID, State: h.State, Target: h.Target, Role: h.Role, Object: h.Object, Client: h.Client, Since: h.Since, Until: h.Until,
		Phrases: h.Phrases, Decision: h.Decision, Glass: h.Glass, Same: h.Same, Existing: h.Existing, Request: h.Request, Outcome: h.Outcome,
	})
}

func (s *Web) apiHold(v *visit) error {
	hold, err := s.gate.Held(v.r.Context(), v.id(), v.by, v.addr)
	if err != nil {
		return err
	}
	return heldReply(v, hold)
}

func (s *Web) apiConfirm(v *visit) error {
	var in struct {
		Phrase   string `json:"phrase"`
		Reason   string `json:"reason"`
		Ticket   string `json:"ticket"`
		Duration string `json:"duration"`
		Keep     bool   `json:"keep"`
		Glass    bool   `json:"break_glass"`
	}
	if err := body(v, &in); err != nil {
		return err
	}
	d, err := duration(in.Duration)
	if err != nil {
		return err
	}
	hold, err := s.gate.Confirm(v.r.Context(), v.id(), v.by, v.addr, session.Confirmation{
		Phrase: in.Phrase, Reason: in.Reason, Ticket: in.Ticket, Duration: d, Keep: in.Keep, BreakGlass: in.Glass,
	})
	if err != nil {
		return err
	}
	return heldReply(v, hold)
}

func (s *Web) apiNotMine(v *visit) error {
	if err := s.gate.NotMine(v.r.Context(), v.id(), v.by); err != nil {
		return err
	}
	return reply(v, http.StatusOK, struct{}{})
}

func (s *Web) apiInbox(v *visit) error {
	requests, err := s.gate.Inbox(v.r.Context(), v.by)
	if err != nil {
		return err
	}
	return reply(v, http.StatusOK, map[string]any{"requests": list(requests)})
}

func (s *Web) apiRequests(v *visit) error {
	filter, err := paging(v)
	if err != nil {
		return err
	}
	requests, err := s.gate.Requests(v.r.Context(), v.by, filter)
	if err != nil {
		return err
	}
	return reply(v, http.StatusOK, map[string]any{"requests": list(requests)})
}

func (s *Web) apiAsk(v *visit) error {
	n, err := readAsk(v)
	if err != nil {
		return err
	}
	request, err := s.gate.Ask(v.r.Context(), v.by, v.addr, n)
	if err != nil {
		return err
	}
	return reply(v, http.StatusCreated, request)
}

func (s *Web) apiRequest(v *visit) error {
	request, err := s.gate.Request(v.r.Context(), v.by, v.id())
	if err != nil {
		return err
	}
	return reply(v, http.StatusOK, request)
}

func (s *Web) apiApprove(v *visit) error { return s.apiDecide(v, true) }
func (s *Web) apiDeny(v *visit) error    { return s.apiDecide(v, false) }

func (s *Web) apiDecide(v *visit, yes bool) error {
	var in struct {
		Duration string   `json:"duration"`
		ReadOnly bool     `json:"read_only"`
		Channels []string `json:"channels"`
		Forward  []string `json:"forward"`
		Listen   []string `json:"listen"`
		Methods  []string `json:"methods"`
		Paths    []string `json:"paths"`
		Word     string   `json:"word"`
	}
	if err := bodyOrNone(v, &in); err != nil {
		return err
	}
	d, err := duration(in.Duration)
	if err := firstError(err, short("word", in.Word, session.MaxReason)); err != nil {
		return err
	}
	scope := policy.Scope{ReadOnly: in.ReadOnly, Channels: in.Channels, Forward: in.Forward, Listen: in.Listen, Methods: in.Methods, Paths: in.Paths}
	request, err := s.verdict(v, session.Verdict{Yes: yes, Duration: d, Scope: scope, Word: in.Word})
	if err != nil {
		return err
	}
	return reply(v, http.StatusOK, request)
}

func (s *Web) apiRetract(v *visit) error {
	request, err := s.gate.Retract(v.r.Context(), v.by, v.id())
	if err != nil {
		return err
	}
	return reply(v, http.StatusOK, request)
}

func (s *Web) apiWithdraw(v *visit) error {
	if err := s.gate.Withdraw(v.r.Context(), v.by, v.id()); err != nil {
		return err
	}
	return s.apiRequest(v)
}

func (s *Web) apiGrants(v *visit) error {
	filter, err := paging(v)
	if err != nil {
		return err
	}
	s.ownOnly(v, &filter)
	grants, err := s.gate.Grants(v.r.Context(), v.by, filter)
	if err != nil {
		return err
	}
	return reply(v, http.StatusOK, map[string]any{"grants": list(grants)})
}

// apiGrantView is a grant with what to type.
type apiGrantView struct {
	session.Grant
	Connect      string `json:"connect,omitempty"`
	ConnectToken string `json:"connect_with_token,omitempty"`
}

func (s *Web) apiGrant(v *visit) error {
	g, err := s.gate.Grant(v.r.Context(), v.by, v.id())
	if err != nil {
		return err
	}
	w := s.ways(g, "")
	return reply(v, http.StatusOK, apiGrantView{Grant: g, Connect: w.Connect, ConnectToken: w.ByToken})
}

func (s *Web) apiToken(v *visit) error {
	token, record, err := s.gate.GrantToken(v.r.Context(), v.by, v.id())
	if err != nil {
		return err
	}
	return reply(v, http.StatusCreated, map[string]any{"token": token.Reveal(), "expires": record.Expires, "grant": record.Grant})
}

func (s *Web) apiRelease(v *visit) error {
	if err := s.gate.Release(v.r.Context(), v.by, v.id()); err != nil {
		return err
	}
	return s.apiGrant(v)
}

func (s *Web) apiRevoke(v *visit) error {
	why, err := apiWhy(v)
	if err != nil {
		return err
	}
	if err := s.gate.Revoke(v.r.Context(), v.by, v.id(), why); err != nil {
		return err
	}
	return reply(v, http.StatusOK, struct{}{})
}

// apiWhy reads the optional body {"why": "..."}.
func apiWhy(v *visit) (string, error) {
	var in struct {
		Why string `json:"why"`
	}
	if err := bodyOrNone(v, &in); err != nil {
		return "", err
	}
	return in.Why, short("why", in.Why, session.MaxReason)
}

func (s *Web) apiSessions(v *visit) error {
	filter, err := paging(v)
	if err != nil {
		return err
	}
	s.ownOnly(v, &filter)
	sessions, err := s.gate.Sessions(v.r.Context(), v.by, filter)
	if err != nil {
		return err
	}
	return reply(v, http.StatusOK, map[string]any{"sessions": list(sessions)})
}

func (s *Web) apiKill(v *visit) error {
	why, err := apiWhy(v)
	if err != nil {
		return err
	}
	if err := s.gate.Kill(v.r.Context(), v.by, v.id(), why); err != nil {
		return err
	}
	return reply(v, http.StatusOK, struct{}{})
}

func (s *Web) apiUsers(v *visit) error {
	accounts, err := s.gate.Users(v.r.Context(), v.by)
	if err != nil {
		return err
	}
	return reply(v, http.StatusOK, map[string]any{"users": list(accounts)})
}

func (s *Web) apiDisable(v *visit) error {
	user, why, err := apiUser(v)
	if err != nil {
		return err
	}
	if err := s.gate.Disable(v.r.Context(), v.by, user, why); err != nil {
		return err
	}
	return s.apiUsers(v)
}

func (s *Web) apiEnable(v *visit) error {
	user, _, err := apiUser(v)
	if err != nil {
		return err
	}
	if err := s.gate.Enable(v.r.Context(), v.by, user); err != nil {
		return err
	}
	return s.apiUsers(v)
}

func apiUser(v *visit) (user, why string, err error) {
	var in struct {
		User string `json:"user"`
		Why  string `json:"why"`
	}
	if err := body(v, &in); err != nil {
		return "", "", err
	}
	return in.User, in.Why, short("why", in.Why, session.MaxReason)
}
