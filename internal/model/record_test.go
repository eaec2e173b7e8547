package model

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/session"
)

// state is all that the store holds.
type state struct {
	requests []session.Request // oldest first
	grants   map[string]session.Grant
	reviews  map[string]session.Review // by their grants
	sessions map[string]session.Record
	disabled map[string]bool
	standing map[string]bool // sign-ins
}

func (s state) request(id string) session.Request {
	for _, r := range s.requests {
		if r.ID == id {
			return r
		}
	}
	return session.Request{}
}

func (h *trial) stored() state {
	s := state{grants: map[string]session.Grant{}, reviews: map[string]session.Review{}, sessions: map[string]session.Record{}, disabled: map[string]bool{}, standing: map[string]bool{}}
	err := h.f.Store.View(h.t.Context(), func(t session.Tx) error {
		var err error
		if s.requests, err = t.Requests(session.Filter{}); err != nil {
			return err
		}
		slices.Reverse(s.requests)
		grants, err := t.Grants(session.Filter{})
		for _, g := range grants {
			s.grants[g.ID] = g
		}
		if err != nil {
			return err
		}
		reviews, err := t.Reviews(session.Filter{})
		for _, v := range reviews {
			s.reviews[v.ID] = v
		}
		if err != nil {
			return err
		}
		sessions, err := t.Sessions(session.Filter{})
		for _, r := range sessions {
			s.sessions[r.ID] = r
		}
		if err != nil {
			return err
		}
		accounts, err := t.Accounts()
		for _, a := range accounts {
			s.disabled[a.User.Subject] = !a.Disabled.IsZero()
		}
		if err != nil {
			return err
		}
		signs, err := t.SignIns(session.Filter{State: "standing"})
		for _, in := range signs {
			s.standing[in.ID] = true
		}
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return s
}

// holds says what the store holds of each of the model's things.
func (h *trial) holds() map[string]string {
	s, all := h.stored(), map[string]string{}
	for i, id := range h.ids {
		r := s.request(id)
		var yes []string
		for _, a := range r.Approvals {
			if a.Yes && a.Rule == "" && !(a.Void && r.State == session.RequestApproved) {
				yes = append(yes, fmt.Sprint(a.By.Subject, " ", cmp.Or(a.Duration, r.Input.Duration, standard)))
			}
		}
		slices.Sort(yes)
		if r.ID == "" {
			continue
		}
		all[fmt.Sprint("request ", i)] = fmt.Sprint(r.User.Subject, " as ", r.Input.Role, " ", r.Input.Duration, " keep ", r.Keep, " until ", r.TimesOut.UTC(), " yes ", yes, ": ", r.State)
		if g, ok := s.grants[r.Grant]; ok && g.Request == id {
			all[fmt.Sprint("grant ", i)] = fmt.Sprint(g.State, " ", g.Starts.UTC(), " to ", g.Ends.UTC(), " extended ", g.Times)
			if v, ok := s.reviews[g.ID]; ok {
				all[fmt.Sprint("review ", i)] = fmt.Sprint(v.State, " by ", v.Due.UTC())
			}
		}
	}
	for i, c := range h.conns {
		select {
		case <-c.opened:
			r, ok := s.sessions[c.id]
			if !ok {
				continue
			}
			if all[fmt.Sprint("connection ", i)] = r.Cause; r.Live {
				all[fmt.Sprint("connection ", i)] = "live until " + r.Ends.UTC().String()
			}
		default:
		}
	}
	for name := range users {
		all["disabled "+name] = fmt.Sprint(s.disabled[name])
		all["signed in "+name] = fmt.Sprint(s.standing[h.signs[name].ID])
	}
	return all
}

// says is what the model says of each, in the same words.
func (w *world) says() map[string]string {
	all := map[string]string{}
	for i, r := range w.requests {
		var yes []string
		for by, narrowed := range r.yes {
			yes = append(yes, fmt.Sprint(by, " ", narrowed))
		}
		slices.Sort(yes)
		all[fmt.Sprint("request ", i)] = fmt.Sprint(r.who, " as ", r.role, " ", r.asked, " keep ", r.keep, " until ", r.until.UTC(), " yes ", yes, ": ", r.state)
		if r.grant != "" {
			all[fmt.Sprint("grant ", i)] = fmt.Sprint(r.grant, " ", r.starts.UTC(), " to ", r.ends.UTC(), " extended ", r.times-1)
		}
		if r.review != "" {
			all[fmt.Sprint("review ", i)] = fmt.Sprint(r.review, " by ", r.owed.UTC())
		}
	}
	for i, c := range w.conns {
		if c.state == "live" {
			all[fmt.Sprint("connection ", i)] = "live until " + c.r.ends.UTC().String()
		} else if c.cause != "" {
			all[fmt.Sprint("connection ", i)] = c.cause
		}
	}
	for name, p := range w.people {
		all["disabled "+name], all["signed in "+name] = fmt.Sprint(p.disabled), fmt.Sprint(p.in)
	}
	return all
}

// agree compares model, store and log.
func (h *trial) agree(*rapid.T) {
	synctest.Wait()
	holds, says := h.holds(), h.w.says()
	for _, what := range slices.Sorted(maps.Keys(says)) {
		if holds[what] != says[what] {
			h.t.Fatalf("%s: the model says %q, the store holds %q", what, says[what], holds[what])
		}
	}
	for what := range holds {
		if _, ok := says[what]; !ok {
			h.t.Fatalf("%s: the store holds %q, the model has none", what, holds[what])
		}
	}
	h.told()
}

// clone is the same world, of its own.
func (w *world) clone() *world {
	c := &world{rules: w.rules, people: map[string]*person{}}
	requests := map[*request]*request{}
	for name, p := range w.people {
		p := *p
		c.people[name] = &p
	}
	for _, r := range w.requests {
		copied := *r
		copied.yes, copied.extends = maps.Clone(r.yes), requests[r.extends]
		requests[r] = &copied
		c.requests = append(c.requests, &copied)
	}
	for _, o := range w.conns {
		copied := *o
		copied.r = requests[o.r]
		c.conns = append(c.conns, &copied)
	}
	return c
}

// crashed ends a gate whose disk was frozen in the middle of a step. Of each thing the
// store may hold what was before the step or what is after it; nothing else.
func (h *trial) crashed(before *world) {
	frozen := h.arm(0)
	if frozen == "" {
		frozen = h.f.Freeze(h.t)
	}
	h.f.CrashAs(h.t, frozen)
	h.over("crashed")
	for _, c := range before.conns {
		before.leave(c, "crashed")
	}
	now := h.reset()
	before.sweep(now)
	h.w.sweep(now)
	h.open()
	synctest.Wait()
	h.adopt(before)
}

func (h *trial) adopt(before *world) {
	holds, old := h.holds(), before.says()
	for name, p := range h.w.people {
		p.disabled, p.in = holds["disabled "+name] == "true", holds["signed in "+name] == "true"
	}
	for i, r := range h.w.requests {
		request, grant := fmt.Sprint("request ", i), fmt.Sprint("grant ", i)
		if i >= len(before.requests) {
			if holds[request] == "" { // it never came to be
				h.w.requests, h.ids = h.w.requests[:i], h.ids[:i]
				break
			}
			continue
		}
		was := before.requests[i]
		if holds[request] == old[request] {
			r.state, r.yes = was.state, was.yes
		}
		if holds[grant] == old[grant] {
			r.grant, r.starts, r.said, r.ends, r.times = was.grant, was.starts, was.said, was.ends, was.times
		}
		if review := fmt.Sprint("review ", i); holds[review] == old[review] {
			r.review, r.owed = was.review, was.owed
		}
	}
	for i, c := range h.w.conns {
		switch holds[fmt.Sprint("connection ", i)] {
		case "crashed": // its own end was not written down yet
			c.state, c.cause = "ended", "crashed"
		case "": // nor its beginning
			c.state, c.cause = "ended", ""
		}
	}
}

// A tale is what the log tells of one thing.
type tale struct {
	state     string
	approvals map[string]yes // by whom
	asked     time.Duration
	ends      time.Time
	by, under string
}

// A yes is for how long, 0: as asked, and by whom as a grant names them.
type yes struct {
	long time.Duration
	name string
}

// outcomes are the entries that end what they are about, and the state after them.
var outcomes = map[string]string{
	audit.RequestApproved: "approved", audit.RequestDenied: "denied", audit.RequestWithdrawn: "withdrawn", audit.RequestTimedOut: "timed-out",
	audit.GrantExpired: "expired", audit.GrantRevoked: "revoked", audit.GrantReleased: "released", audit.SessionEnded: "ended", audit.ReviewDone: "done",
}

// told reads the log from its beginning: everything in the store is told by it, once
// and in order, and no grant is more than what people said yes to.
func (h *trial) told() {
	log := map[string]*tale{}
	for _, e := range h.f.Events(h.t) {
		if err := tell(log, e); err != nil {
			h.t.Fatalf("entry %d (%s): %v", e.Index, e.Type, err)
		}
	}
	s := h.stored()
	check := func(id, state string) {
		if log[id] == nil || log[id].state != state {
			h.t.Fatalf("the store holds %s %q, of which the log tells %+v", id, state, log[id])
		}
		delete(log, id)
	}
	for id, g := range s.grants {
		if log[id] != nil && !log[id].ends.Equal(g.Ends) {
			h.t.Fatalf("the grant %s ends at %v in the store, and at %v in the log", id, g.Ends, log[id].ends)
		}
		check(id, string(g.State))
	}
	for _, r := range s.requests {
		check(r.ID, string(r.State))
	}
	for id, v := range s.reviews {
		check("review of "+id, v.State)
	}
	for id, r := range s.sessions {
		check(id, map[bool]string{true: "live", false: "ended"}[r.Live])
	}
	if len(log) > 0 {
		h.t.Fatalf("the log tells of what the store does not hold: %v", log)
	}
}

func tell(log map[string]*tale, e audit.Entry) error {
	var body struct {
		By       any                              `json:"by"`
		Ends     time.Time                        `json:"ends"`
		Approval session.Approval                 `json:"approval"`
		Input    struct{ Duration time.Duration } `json:"input"`
		Decision struct{ Duration time.Duration } `json:"decision"`
	}
	kind, _, _ := strings.Cut(e.Type, ".")
	review := "review of " + e.Grant
	id := map[string]string{"request": e.Request, "approval": e.Request, "grant": e.Grant, "session": e.Session, "glass": review, "review": review}[kind]
	if id == "" {
		return nil
	}
	if err := json.Unmarshal(e.Body, &body); err != nil {
		return err
	}
	t := log[id]
	switch e.Type {
	case audit.RequestCreated:
		log[id] = &tale{state: "pending", by: e.Actor, approvals: map[string]yes{}, asked: body.Decision.Duration}
		return nil
	case audit.SessionStarted:
		if g := log[e.Grant]; g == nil || g.state != "active" || !e.When().Before(g.ends) {
			return fmt.Errorf("a session begins under %+v", g)
		}
		log[id] = &tale{state: "live", under: e.Grant}
		return nil
	case audit.GrantActive, audit.GrantExtended:
		return granted(log, e, body.Ends)
	case audit.GlassBroken: // once more where its grant is lengthened
		log[id] = &tale{state: "open", by: e.Actor}
		return nil
	case audit.ReviewOverdue:
		return nil
	}
	if t == nil {
		return fmt.Errorf("nothing began that this is about")
	}
	switch {
	case !slices.Contains([]string{"pending", "active", "live", "open"}, t.state):
		return fmt.Errorf("it has its outcome, %s", t.state)
	case e.Type == audit.ApprovalGiven:
		if _, again := t.approvals[e.Actor]; again || e.Actor == t.by {
			return fmt.Errorf("%s says yes again, or to their own", e.Actor)
		}
		t.approvals[e.Actor] = yes{body.Approval.Duration, fmt.Sprint(body.By)}
	case e.Type == audit.ApprovalTaken:
		if _, given := t.approvals[e.Actor]; !given {
			return fmt.Errorf("%s takes back a yes that they did not give", e.Actor)
		}
		delete(t.approvals, e.Actor)
	case e.Type == audit.ReviewDone && e.Actor == t.by:
		return fmt.Errorf("%s reviews what they did themselves", e.Actor)
	case outcomes[e.Type] == "":
		return fmt.Errorf("what is that")
	default:
		t.state = outcomes[e.Type]
	}
	return nil
}

// granted checks a grant, or its new end, against what was approved.
func granted(log map[string]*tale, e audit.Entry, ends time.Time) error {
	var body struct {
		Starts time.Time `json:"starts"`
		By     []string  `json:"by"`
		More   string    `json:"by_request"`
	}
	if err := json.Unmarshal(e.Body, &body); err != nil {
		return err
	}
	r, g := log[e.Request], log[e.Grant]
	if body.More != "" {
		r = log[body.More]
	}
	if r == nil || r.state != "approved" || len(r.approvals) == 0 || len(body.By) == 0 {
		return fmt.Errorf("a grant out of %+v", r)
	}
	was := time.Time{}
	if g != nil {
		was = g.ends
	}
	approved := r.asked
	for _, name := range body.By {
		said := false
		for _, a := range r.approvals {
			if a.name == name {
				said, approved = true, min(approved, cmp.Or(a.long, approved))
			}
		}
		if !said {
			return fmt.Errorf("%s is said to have approved it, and did not", name)
		}
	}
	if last := e.When().Add(approved + time.Second); ends.After(last) && !ends.Equal(was) {
		return fmt.Errorf("it ends at %v, and %v were approved at %v", ends, approved, e.When())
	}
	log[e.Grant] = &tale{state: "active", ends: ends}
	return nil
}
