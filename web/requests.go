package web

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/session"
)

// freshFor is how old the sign-in of somebody who says yes may be (flows.md). The
// page offers to sign in again before anybody types in vain.
const freshFor = 10 * time.Minute

type homePage struct {
	Inbox   []session.Request
	Mine    []session.Request // pending
	Grants  []session.Grant   // active
	Targets []session.TargetView
}

func (s *Web) home(v *visit) error {
	ctx := v.r.Context()
	inbox, err := s.gate.Inbox(ctx, v.by)
	if err != nil {
		return err
	}
	mine, err := s.gate.Requests(ctx, v.by, session.Filter{User: v.by.User.ID(), State: string(session.RequestPending), Limit: 20})
	if err != nil {
		return err
	}
	grants, err := s.gate.Grants(ctx, v.by, session.Filter{User: v.by.User.ID(), State: string(session.GrantActive), Limit: 20})
	if err != nil {
		return err
	}
	return s.show(v, http.StatusOK, "home", view{
		Title: "Home", Topics: "request grant", Refresh: 0,
		Body: homePage{Inbox: inbox, Mine: mine, Grants: grants, Targets: s.gate.Targets(v.by)},
	})
}

type requestsPage struct {
	Inbox []session.Request
	Past  []session.Request
	More  string
}

func (s *Web) requests(v *visit) error {
	filter, err := paging(v)
	if err != nil {
		return err
	}
	inbox, err := s.gate.Inbox(v.r.Context(), v.by)
	if err != nil {
		return err
	}
	past, err := s.gate.Requests(v.r.Context(), v.by, filter)
	if err != nil {
		return err
	}
	page := requestsPage{Inbox: inbox, Past: past}
	if len(past) == filter.Limit {
		last := past[len(past)-1]
		page.More = more(last.Created, last.ID)
	}
	return s.show(v, http.StatusOK, "requests", view{Title: "Requests", Topics: "request", Wide: true, Body: page})
}

// more leads to what comes behind the last row of a list.
func more(created time.Time, id string) string {
	return "?" + url.Values{"before": {created.UTC().Format(time.RFC3339Nano) + "," + id}}.Encode()
}

// requestPage is what request.html shows: the sentence to judge, and the decision.
type requestPage struct {
	R        session.Request
	May      bool   // this person may decide, now
	WhyNot   string // else why not; empty for who has no part in it
	Stale    bool   // the sign-in is too old for a yes
	Mine     bool
	Said     bool // this person's yes counts so far, and can be taken back
	Longest  time.Duration
	For      time.Duration // what a yes would give
	Gives    policy.Scope  // as far as people have said yes; its databases are R's object
	Access   bool          // it can be made read-only
	ReadOnly bool          // it is to be
	Picks    []pick
	Until    time.Time
	Problem  string
	Word     string
	Missing  string
	Past     []session.Request // of the same person and target, decided before
	Now      []session.Grant   // what the person has on the target now
	Here     string
	Again    string // where to ask once more, after an end without a yes; empty: nowhere
}

func (s *Web) request(v *visit) error {
	request, err := s.gate.Request(v.r.Context(), v.by, v.id())
	if err != nil {
		return err
	}
	if to := s.onward(v, request); to != "" {
		return s.goOn(v, request, to)
	}
	verdict, err := narrowed(v.r.URL.Query(), s.gate.Narrowable(request))
	if err != nil {
		return err
	}
	return s.showRequest(v, http.StatusOK, request, verdict, "")
}

func (s *Web) showRequest(v *visit, code int, r session.Request, verdict session.Verdict, problem string) error {
	ctx := v.r.Context()
	page := requestPage{
		R: r, Mine: r.User.Same(v.by.User), Longest: r.Decision.Duration, For: r.Decision.Duration, Problem: problem,
		Gives: r.Gives(), ReadOnly: verdict.Scope.ReadOnly, Word: verdict.Word, Missing: missing(r), Here: v.r.URL.Path,
	}
	if verdict.Duration > 0 && verdict.Duration < page.For {
		page.For = verdict.Duration
	}
	page.Until, page.Gives.Databases = s.now().Add(page.For), nil
	data := view{Title: fmt.Sprintf("%s wants %s as %s", r.User.Short(), r.Input.Target, r.Input.Role), Topics: "request grant hold"}
	if r.State == session.RequestPending {
		if err := s.gate.MayDecide(v.by, r); err == nil {
			page.May = true
			offered := s.gate.Narrowable(r)
			page.Access, page.Picks = offered.ReadOnly, picks(offered, verdict.Scope)
		} else {
			page.WhyNot = sentence(s.message(err))
		}
		page.Said = slices.ContainsFunc(r.Approvals, func(a session.Approval) bool { return a.Yes && a.Rule == "" && a.By.Same(v.by.User) })
		page.Stale = !page.Mine && s.stale(v)
		if page.Mine {
			data.Refresh = 5
		}
	}
	about := session.Filter{User: r.User.ID(), Target: r.Input.Target, Limit: 5}
	past, err := s.gate.Requests(ctx, v.by, about)
	if err != nil {
		return err
	}
	page.Past = slices.DeleteFunc(past, func(other session.Request) bool { return other.ID == r.ID })
	about.State = string(session.GrantActive)
	if page.Now, err = s.gate.Grants(ctx, v.by, about); err != nil {
		return err
	}
	page.Now = slices.DeleteFunc(page.Now, func(g session.Grant) bool { return g.Request == r.ID })
	if page.Mine && r.State != session.RequestPending && r.State != session.RequestApproved && r.Extends == "" {
		page.Again = askAgain(r, v.r.URL.Query().Get("to"))
	}
	data.Body = page
	return s.show(v, code, "request", data)
}

// askAgain is the form with what was asked for before.
func askAgain(r session.Request, to string) string {
	q := url.Values{"target": {r.Input.Target}, "role": {r.Input.Role}}
	for name, value := range map[string]string{"object": r.Input.Object, "reason": r.Input.Reason, "ticket": r.Input.Ticket, "to": to} {
		if value != "" {
			q.Set(name, value)
		}
	}
	return "/requests/new?" + q.Encode()
}

// missing says whose yes is still needed: "1 of dba".
func missing(r session.Request) string {
	for i, stage := range r.Decision.Stages {
		yes := 0
		for _, approval := range r.Approvals {
			if approval.Yes && !approval.Void && approval.Stage == i {
				yes++
			}
		}
		if yes < stage.Count {
			return fmt.Sprintf("%d of %s", stage.Count-yes, names(stage.From.Groups, stage.From.Emails))
		}
	}
	return ""
}

func (s *Web) decide(v *visit) error {
	fields, err := form(v)
	if err != nil {
		return err
	}
	request, err := s.gate.Request(v.r.Context(), v.by, v.id())
	if err != nil {
		return err
	}
	verdict := session.Verdict{Word: fields.Get("word")}
	switch fields.Get("verdict") {
	case "yes":
		verdict, err = narrowed(fields, s.gate.Narrowable(request))
		verdict.Yes = true
	case "no": // whatever is ticked
		err = short("word", verdict.Word, session.MaxReason)
	default:
		return &session.Invalid{Field: "verdict", Hint: "press Deny or Approve"}
	}
	if err == nil {
		_, err = s.verdict(v, verdict)
	}
	var invalid *session.Invalid
	if errors.As(err, &invalid) && v.page() {
		return s.showRequest(v, http.StatusUnprocessableEntity, request, verdict, sentence(s.message(err)))
	}
	if err != nil {
		return err
	}
	return redirect(v, "/requests/"+url.PathEscape(v.id()))
}

// verdict gives the answer to the gate. A yes needs a person who signed in just now:
// a screen left open, or a token lying about, must not approve.
func (s *Web) verdict(v *visit, verdict session.Verdict) (session.Request, error) {
	if verdict.Yes && s.stale(v) {
		return session.Request{}, &session.Denied{Reason: "a yes needs a sign-in of the last ten minutes", Next: again(v)}
	}
	return s.gate.Decide(v.r.Context(), v.by, v.id(), verdict)
}

// again says how to sign in so that the issuer asks for the person.
func again(v *visit) string {
	if v.by.Via == "cli" {
		return "run: sallyport login --fresh"
	}
	return "sign in again"
}

func (s *Web) retract(v *visit) error {
	if _, err := s.gate.Retract(v.r.Context(), v.by, v.id()); err != nil {
		return err
	}
	return redirect(v, "/requests/"+url.PathEscape(v.id()))
}

func (s *Web) withdraw(v *visit) error {
	if err := s.gate.Withdraw(v.r.Context(), v.by, v.id()); err != nil {
		return err
	}
	return redirect(v, "/requests/"+url.PathEscape(v.id()))
}

// askPage is what new.html shows: a request made before the connection.
type askPage struct {
	Targets []session.TargetView
	Filled  session.NewRequest
	For     string
	Problem string
	Field   string
	Glass   []string // for what the glass can be broken: "orders as writer"
	To      string   // where on the target's host the browser came from; empty: it did not
}

func (s *Web) askForm(v *visit) error {
	q := v.r.URL.Query()
	page := askPage{Filled: session.NewRequest{
		Target: q.Get("target"), Role: q.Get("role"), Object: q.Get("object"), Reason: q.Get("reason"), Ticket: q.Get("ticket"),
		Extends: q.Get("extends"), BreakGlass: q.Get("glass") == "yes",
	}}
	page.To = q.Get("to")
	return s.showAsk(v, http.StatusOK, page)
}

func (s *Web) showAsk(v *visit, code int, page askPage) error {
	page.Targets = s.gate.Targets(v.by)
	for _, t := range page.Targets {
		if t.Glass != "" {
			page.Glass = append(page.Glass, t.Target+" as "+t.Role)
		}
	}
	return s.show(v, code, "new", view{Title: "Ask for access", Body: page})
}

func (s *Web) ask(v *visit) error {
	fields, err := form(v)
	if err != nil {
		return err
	}
	n := session.NewRequest{
		Target: fields.Get("target"), Role: fields.Get("role"), Object: fields.Get("object"),
		Reason: oneLine(fields.Get("reason")), Ticket: fields.Get("ticket"), Extends: fields.Get("extends"),
		BreakGlass: fields.Get("glass") == "yes",
	}
	if n.Target == "" { // the form's one list of targets with their roles
		n.Target, n.Role = pair(fields.Get("access"))
	}
	n.Duration, err = duration(fields.Get("for"))
	var request session.Request
	if err = firstError(err, checkAsk(n)); err == nil {
		request, err = s.gate.Ask(v.r.Context(), v.by, v.addr, n)
	}
	var invalid *session.Invalid
	if errors.As(err, &invalid) && v.page() {
		page := askPage{Filled: n, For: fields.Get("for"), To: fields.Get("to"), Problem: sentence(s.message(err)), Field: invalid.Field}
		return s.showAsk(v, http.StatusUnprocessableEntity, page)
	}
	if err != nil {
		return err
	}
	return redirect(v, "/requests/"+url.PathEscape(request.ID)+back(fields.Get("to")))
}

func checkAsk(n session.NewRequest) error {
	if n.Target == "" || n.Role == "" {
		return &session.Invalid{Field: "target", Hint: "say which target and as which role"}
	}
	for field, name := range map[string]string{"target": n.Target, "role": n.Role, "object": n.Object, "extends": n.Extends} {
		if len(name) > session.MaxName {
			return &session.Invalid{Field: field, Hint: fmt.Sprintf("the %s is longer than %d bytes", field, session.MaxName)}
		}
	}
	return firstError(short("reason", n.Reason, session.MaxReason), short("ticket", n.Ticket, session.MaxTicket))
}

// names lists people and groups.
func names(lists ...[]string) string { return strings.Join(slices.Concat(lists...), ", ") }

// pair splits "target as role", the value of the form's list, at its last " as ".
func pair(access string) (target, role string) {
	i := strings.LastIndex(access, " as ")
	if i < 0 {
		return access, ""
	}
	return access[:i], access[i+len(" as "):]
}

// decidedBy says by whom a request was decided, for its page.
func decidedBy(r session.Request) string {
	var who []string
	for _, approval := range r.Approvals {
		who = append(who, approver(approval))
	}
	return names(who)
}

func approver(a session.Approval) string {
	if a.Rule != "" {
		return "rule " + a.Rule
	}
	return a.By.String()
}
