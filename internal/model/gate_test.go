package model

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/durable"
	"github.com/sallyport/sallyport/internal/gatetest"
	"github.com/sallyport/sallyport/session"
)

// checks is how many histories are tried where -rapid.checks does not say.
const checks = "40"

var here = netip.MustParseAddr("192.0.2.7")

var users = map[string]identity.User{"alice": gatetest.Alice, "bob": gatetest.Bob, "carol": gatetest.Carol, "eve": gatetest.Eve, "sam": gatetest.Sam}

// policies are the rules that may be in force.
var policies = []map[string]rule{
	{"reader": {1, time.Hour}, "writer": {2, time.Hour}, "owner": {0, time.Hour}, glass: {0, time.Hour}},
	{"reader": {2, time.Hour}, "writer": {1, 30 * time.Minute}, "owner": {0, time.Hour}},
	{"reader": {0, 10 * time.Minute}, "owner": {1, time.Hour}, "writer": {1, time.Hour}, glass: {0, 20 * time.Minute}},
}

func hcl(rules map[string]rule) string {
	var b strings.Builder
	for role, r := range rules {
		kind, more := "rule", ""
		if role == glass {
			kind, role, more = "break_glass", "writer", fmt.Sprintf("review = { groups = [\"security\"], within = \"%dm\" }\n", int(within.Minutes()))
		}
		fmt.Fprintf(&b, "%s \"%s-%s\" {\ntarget = { name = \"orders\" }\nrole = [%q]\nwho = { groups = [\"engineering\"] }\nlongest = \"%dm\"\ndefault = \"%dm\"\ntimeout = \"%dm\"\nextensions = %d\nreason = \"required\"\n%s",
			kind, kind, role, role, int(r.longest.Minutes()), int(standard.Minutes()), int(timeout.Minutes()), extensions, more)
		if r.yes > 0 {
			fmt.Fprintf(&b, "approve {\ncount = %d\nfrom = { groups = [\"dba\"] }\n}\n", r.yes)
		}
		b.WriteString("}\n")
	}
	for _, right := range []string{"cut", "audit", "users"} {
		fmt.Fprintf(&b, "right %q { who = { groups = [\"security\"] } }\n", right)
	}
	return b.String()
}

// A tb is a testing.TB whose failures rapid sees, and shrinks.
type tb struct {
	testing.TB
	rt *rapid.T
}

func (t tb) Fatal(args ...any)            { t.rt.Fatal(args...) }
func (t tb) Fatalf(f string, args ...any) { t.rt.Fatalf(f, args...) }
func (t tb) Error(args ...any)            { t.rt.Error(args...) }
func (t tb) Errorf(f string, args ...any) { t.rt.Errorf(f, args...) }
func (t tb) Cleanup(f func())             { t.rt.Cleanup(f) }
func (t tb) Context() context.Context     { return t.rt.Context() }
func (t tb) TempDir() string {
	dir, err := os.MkdirTemp("", "model-")
	if err != nil {
		t.rt.Fatal(err)
	}
	t.rt.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// A trial is one history: the model beside the gate.
type trial struct {
	t     tb
	f     *gatetest.Fixture
	w     *world
	ids   []string // of the model's requests
	conns []*connection
	signs map[string]identity.SignIn
	dir   string

	tokens []grantToken
	// How far the wall clock is from the bubble's, and the furthest since the gate started:
	// its own clock does not go back.
	off, ahead atomic.Int64

	mu     sync.Mutex
	in     int    // writes and syncs until the crash; 0: none is meant
	frozen string // the disk at that moment
}

// A grantToken is a token of the grant of a request.
type grantToken struct {
	token identity.Token
	r     int
}

// A connection is a client: its session once let through, and how that ended.
type connection struct {
	hangUp context.CancelFunc
	done   chan struct{}
	id     string // of the session; read after opened
	opened chan struct{}
}

func TestGateIsItsModel(t *testing.T) {
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "rapid.checks" })
	if !given {
		if err := flag.Set("rapid.checks", checks); err != nil {
			t.Fatal(err)
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		rapid.SyncTest(rt, func(rt *rapid.T) { history(t, rt) })
	})
}

func history(t *testing.T, rt *rapid.T) {
	h := &trial{t: tb{t, rt}, signs: map[string]identity.SignIn{}, w: &world{rules: policies[0], people: map[string]*person{}}}
	for name, u := range users {
		h.w.people[name] = &person{engineer: u.In("engineering"), dba: u.In("dba"), guard: u.In("security")}
	}
	h.dir = h.t.TempDir()
	h.open()
	for _, name := range slices.Sorted(maps.Keys(users)) {
		h.signIn(name)
	}
	rt.Repeat(h.actions())
	h.stop(rt)
	h.f.Close(h.t)
	h.f.Verify(h.t)
}

func (h *trial) open() {
	h.f = gatetest.New(h.t, gatetest.Options{
		Dir: h.dir, Rules: hcl(h.w.rules), Now: h.now,
		Config: func(c *session.Config) {
			c.Clock = func() time.Time { return time.Now().Add(time.Duration(h.off.Load())) }
		},
		Faults: &durable.Faults{
			Write: func(_ string, n int) (int, error) { h.freeze(); return n, nil },
			Sync:  func(string) error { h.freeze(); return nil },
		},
	})
}

// now is the gate's time.
func (h *trial) now() time.Time { return time.Now().Add(time.Duration(h.ahead.Load())) }

// reset is what a start does to the gate's time: it goes by the wall clock anew.
func (h *trial) reset() time.Time {
	h.ahead.Store(h.off.Load())
	return h.now()
}

// freeze copies the disk as it is at the moment that a crash was drawn for.
func (h *trial) freeze() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.in == 0 {
		return
	}
	if h.in--; h.in == 0 {
		h.frozen = h.f.Freeze(h.t)
	}
}

// arm lets the disk be frozen before the write or sync of this number from now on, and
// returns what was frozen since it was last armed.
func (h *trial) arm(in int) (frozen string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	frozen, h.in, h.frozen = h.frozen, in, ""
	return frozen
}

func (h *trial) actions() map[string]func(*rapid.T) {
	ops := map[string]func(*rapid.T){
		"ask": h.ask, "connect": h.connect, "approve": h.approve, "decide": h.decide, "withdraw": h.withdraw, "extend": h.extend,
		"release": h.release, "revoke": h.revoke, "kill": h.kill, "hang up": h.hang, "disable": h.disable, "sign": h.sign, "reload": h.reload, "retract": h.retract,
		"break glass": h.breakGlass, "review": h.review, "token": h.token, "use": h.use,
	}
	actions := map[string]func(*rapid.T){
		"":      h.agree,
		"sleep": h.sleep, "clock": h.clock, "stop": h.restart, "crash": h.crash, "race": h.race,
		"crash in the middle": func(rt *rapid.T) {
			at := rapid.IntRange(1, 12).Draw(rt, "writes until the crash")
			op := ops[rapid.SampledFrom(slices.Sorted(maps.Keys(ops))).Draw(rt, "of")]
			before, tokens := h.w.clone(), len(h.tokens)
			h.arm(at)
			defer h.arm(0) // op may find nothing to be done with
			op(rt)
			h.tokens = h.tokens[:tokens] // one of this step may be there or not
			h.crashed(before)
		},
	}
	maps.Copy(actions, ops)
	return actions
}

// pass lets time go by in the history's bubble, which costs none.
func pass(d time.Duration) { <-time.After(d) }

// step does something to the gate and to the model, which must agree whether it may be.
func (h *trial) step(what string, real func(context.Context) error, model func(time.Time) bool) {
	pass(time.Millisecond) // no two things begin in the same moment
	now := h.now()
	err := real(h.t.Context())
	if say, ok := session.Message(err); err != nil && !ok {
		h.t.Fatalf("%s: %v (%s)", what, err, say)
	}
	if may := model(now); may != (err == nil) {
		h.t.Fatalf("%s: the model says %v, the gate %v", what, may, err)
	}
	synctest.Wait()
	h.name()
}

// name finds out what the gate calls the model's newest request.
func (h *trial) name() {
	for _, r := range h.stored().requests {
		if !slices.Contains(h.ids, r.ID) {
			h.ids = append(h.ids, r.ID)
		}
	}
	if len(h.ids) != len(h.w.requests) {
		h.t.Fatalf("the gate has %d requests, the model %d", len(h.ids), len(h.w.requests))
	}
}

func who(rt *rapid.T) string {
	return rapid.SampledFrom(slices.Sorted(maps.Keys(users))).Draw(rt, "who")
}

func draw[T any](rt *rapid.T, what string, from ...T) T {
	return rapid.SampledFrom(from).Draw(rt, what)
}

func (h *trial) wish(rt *rapid.T) *request {
	role := draw(rt, "role", "reader", "writer", "owner")
	return &request{
		who: draw(rt, "who", "alice", "alice", "eve", "bob"), role: role, rule: role, reason: draw(rt, "reason", "INC-1", "INC-2"),
		asked: draw(rt, "asked", 0, 5*time.Minute, 20*time.Minute, time.Hour),
	}
}

func (h *trial) ask(rt *rapid.T) { h.page("ask", h.wish(rt)) }

func (h *trial) breakGlass(rt *rapid.T) {
	r := h.wish(rt)
	r.role, r.rule = "writer", glass
	h.page("break glass", r)
}

func (h *trial) page(what string, r *request) {
	r.keep = true
	h.step(what, func(ctx context.Context) error {
		_, err := h.f.Ask(ctx, h.signs[r.who], here, session.NewRequest{Target: "orders", Role: r.role, Reason: r.reason, Duration: r.asked, BreakGlass: r.rule == glass})
		return err
	}, func(now time.Time) bool { return h.w.ask(r, &conn{}, now) })
}

func (h *trial) connect(rt *rapid.T) {
	r := h.wish(rt)
	if r.asked > h.w.rules[r.rule].longest { // its page could mend that, and would hold it: another story
		r.asked = 0
	}
	h.enter("connect", session.Ask{
		Role: r.role, Reason: r.reason, Duration: r.asked, Proof: identity.Proof{Kind: identity.ByBrowser, SignIn: h.signs[r.who].ID},
	}, func(c *conn, now time.Time) bool { return h.w.ask(r, c, now) })
}

// enter is a client that connects, and what the model says of it.
func (h *trial) enter(what string, ask session.Ask, model func(*conn, time.Time) bool) {
	ask.Target, ask.Client = "orders", session.Client{Protocol: "postgres", Address: netip.AddrPortFrom(here, 50000)}
	ctx, hangUp := context.WithCancel(context.Background())
	c := &connection{hangUp: hangUp, done: make(chan struct{}), opened: make(chan struct{})}
	f, refused := h.f, make(chan error, 1)
	m := &conn{}
	h.step(what, func(context.Context) error {
		go func() {
			defer close(c.done)
			s, err := f.Open(ctx, ask, func(string) error { return nil })
			if err != nil {
				refused <- err
				return
			}
			c.id = s.ID()
			close(c.opened)
			_ = s.Run(ctx, func(ctx context.Context, _ *session.Upstream) error { // the record says how it ended
				<-ctx.Done()
				return ctx.Err()
			})
		}()
		synctest.Wait()
		select {
		case err := <-refused:
			return err
		default:
			return nil
		}
	}, func(now time.Time) bool {
		h.conns, h.w.conns = append(h.conns, c), append(h.w.conns, m)
		if !model(m, now) {
			m.state = "ended"
			return false
		}
		return true
	})
}

func (h *trial) token(rt *rapid.T) {
	r, id := h.grant(rt)
	by := draw(rt, "by", r.who, r.who, "eve")
	h.step("token", func(ctx context.Context) error {
		token, _, err := h.f.GrantToken(ctx, h.signs[by], id)
		if err == nil {
			h.tokens = append(h.tokens, grantToken{token, slices.Index(h.w.requests, r)})
		}
		return err
	}, func(time.Time) bool { return h.w.own(by, r, r.grant, "active") })
}

// use connects with a token, of whatever became of its grant.
func (h *trial) use(rt *rapid.T) {
	if len(h.tokens) == 0 {
		rt.Skip("none")
	}
	k := rapid.SampledFrom(h.tokens).Draw(rt, "token")
	r := h.w.requests[k.r]
	h.enter("use", session.Ask{Role: r.role, Proof: identity.Proof{Kind: identity.ByToken, Token: k.token}},
		func(c *conn, _ time.Time) bool { return use(r, c) })
}

func (h *trial) review(rt *rapid.T) {
	r, id := h.some(rt, "review", func(r *request) bool { return r.review != "" })
	by := draw(rt, "by", "sam", "sam", "bob", r.who)
	grant := h.stored().request(id).Grant
	h.step("review", func(ctx context.Context) error { return h.f.DoReview(ctx, h.signs[by], grant, "all was well") },
		func(time.Time) bool { return h.w.reviewed(by, r) })
}

// clock sets the wall clock of the gate's machine, which is noticed within a minute.
func (h *trial) clock(rt *rapid.T) {
	h.off.Add(int64(draw(rt, "by", -time.Hour, -7*time.Minute, 3*time.Minute, 25*time.Minute, time.Hour)))
	h.ahead.Store(max(h.ahead.Load(), h.off.Load()))
	pass(time.Minute)
	synctest.Wait()
	h.w.sweep(h.now())
}

// some draws one of the things that there are; nothing happens where there is none.
func (h *trial) some(rt *rapid.T, what string, is func(*request) bool) (*request, string) {
	var all []int
	for i, r := range h.w.requests {
		if is(r) {
			all = append(all, i)
		}
	}
	if len(all) == 0 {
		rt.Skip("none")
	}
	i := rapid.SampledFrom(all).Draw(rt, what)
	return h.w.requests[i], h.ids[i]
}

func isPending(r *request) bool { return r.state == "pending" }

// mostly draws what stands, now and then what is over.
func mostly(rt *rapid.T, stands func(*request) bool) func(*request) bool {
	if rapid.IntRange(0, 9).Draw(rt, "any") == 9 {
		return func(*request) bool { return true }
	}
	return stands
}

func hasGrant(r *request) bool { return r.grant != "" }
func isActive(r *request) bool { return r.grant == "active" }

func (h *trial) grant(rt *rapid.T) (*request, string) {
	is := mostly(rt, isActive)
	r, id := h.some(rt, "grant", func(r *request) bool { return hasGrant(r) && is(r) })
	return r, h.stored().request(id).Grant
}

func (h *trial) verdict(rt *rapid.T, who string, yes bool, r *request, id string) {
	narrowed := draw(rt, "narrowed", 0, 0, 3*time.Minute, 30*time.Minute)
	h.step("decide", func(ctx context.Context) error {
		_, err := h.f.Decide(ctx, h.signs[who], id, session.Verdict{Yes: yes, Duration: narrowed})
		return err
	}, func(now time.Time) bool { return h.w.decide(who, r, yes, narrowed, now) })
}

func (h *trial) approve(rt *rapid.T) {
	r, id := h.some(rt, "request", isPending)
	h.verdict(rt, draw(rt, "dba", "bob", "carol"), true, r, id)
}

func (h *trial) decide(rt *rapid.T) {
	r, id := h.some(rt, "request", mostly(rt, isPending))
	h.verdict(rt, who(rt), rapid.Bool().Draw(rt, "yes"), r, id)
}

func (h *trial) withdraw(rt *rapid.T) {
	r, id := h.some(rt, "request", mostly(rt, isPending))
	by := draw(rt, "by", r.who, r.who, "sam")
	h.step("withdraw", func(ctx context.Context) error { return h.f.Withdraw(ctx, h.signs[by], id) }, func(time.Time) bool {
		return h.w.own(by, r, r.state, "pending") && h.w.close(r, "withdrawn")
	})
}

func (h *trial) extend(rt *rapid.T) {
	r, id := h.grant(rt)
	by := draw(rt, "by", r.who, r.who, "eve")
	asked := draw(rt, "asked", 0, 5*time.Minute, time.Hour)
	h.step("extend", func(ctx context.Context) error {
		_, err := h.f.Ask(ctx, h.signs[by], here, session.NewRequest{Extends: id, Reason: "more", Duration: asked})
		return err
	}, func(now time.Time) bool {
		return h.w.ask(&request{who: by, role: r.role, rule: r.rule, reason: "more", asked: asked, extends: r, keep: true}, &conn{}, now)
	})
}

func (h *trial) release(rt *rapid.T) {
	r, id := h.grant(rt)
	by := draw(rt, "by", r.who, r.who, "sam")
	h.step("release", func(ctx context.Context) error { return h.f.Release(ctx, h.signs[by], id) }, func(time.Time) bool {
		return h.w.own(by, r, r.grant, "active") && h.w.end(r, "released", "released")
	})
}

func (h *trial) revoke(rt *rapid.T) {
	r, id := h.grant(rt)
	by := who(rt)
	h.step("revoke", func(ctx context.Context) error { return h.f.Revoke(ctx, h.signs[by], id, "") }, func(time.Time) bool {
		return h.w.mayCut(by, r) && isActive(r) && h.w.end(r, "revoked", "revoked")
	})
}

// race lets two people answer one request in the same moment. It ends as if one of them
// had been first.
func (h *trial) race(rt *rapid.T) {
	_, id := h.some(rt, "request", isPending)
	i := slices.Index(h.ids, id)
	type answer struct {
		by  string
		yes bool
	}
	var errs [2]error
	var answers [2]answer
	var both sync.WaitGroup
	pass(time.Millisecond)
	now := h.now()
	for n := range answers {
		a := answer{draw(rt, "who", "bob", "carol", "eve", h.w.requests[i].who), rapid.Bool().Draw(rt, "yes")}
		answers[n] = a
		both.Go(func() {
			if a.by == h.w.requests[i].who && !a.yes {
				errs[n] = h.f.Withdraw(h.t.Context(), h.signs[a.by], id)
				return
			}
			_, errs[n] = h.f.Decide(h.t.Context(), h.signs[a.by], id, session.Verdict{Yes: a.yes})
		})
	}
	both.Wait()
	synctest.Wait()
	holds := h.holds()
	for _, order := range [][]int{{0, 1}, {1, 0}} {
		w, same := h.w.clone(), true
		for _, n := range order {
			a := answers[n]
			var may bool
			if a.by == h.w.requests[i].who && !a.yes {
				may = w.own(a.by, w.requests[i], w.requests[i].state, "pending") && w.close(w.requests[i], "withdrawn")
			} else {
				may = w.decide(a.by, w.requests[i], a.yes, 0, now)
			}
			same = same && may == (errs[n] == nil)
		}
		if same && maps.Equal(holds, w.says()) {
			h.w = w
			return
		}
	}
	h.t.Fatalf("no order of %+v explains %v, and %v", answers, errs, holds)
}

// conn draws a connection that waits or lives.
func (h *trial) conn(rt *rapid.T, states ...string) int {
	var all []int
	for i, c := range h.w.conns {
		if slices.Contains(states, c.state) {
			all = append(all, i)
		}
	}
	if len(all) == 0 {
		rt.Skip("none")
	}
	return rapid.SampledFrom(all).Draw(rt, "connection")
}

func (h *trial) kill(rt *rapid.T) {
	i := h.conn(rt, "live")
	by := who(rt)
	c := h.w.conns[i]
	h.step("kill", func(ctx context.Context) error { return h.f.Kill(ctx, h.signs[by], h.conns[i].id, "") }, func(time.Time) bool {
		return h.w.mayCut(by, c.r) && set(c, conn{"ended", "killed", c.r})
	})
}

func (h *trial) hang(rt *rapid.T) {
	i := h.conn(rt, "live", "held")
	h.step("hang up", func(context.Context) error {
		h.conns[i].hangUp()
		<-h.conns[i].done
		return nil
	}, func(time.Time) bool {
		h.w.leave(h.w.conns[i], "closed")
		return true
	})
}

func (h *trial) disable(rt *rapid.T) {
	by, whom := draw(rt, "by", "sam", "sam", "bob"), who(rt)
	h.step("disable", func(ctx context.Context) error { return h.f.Disable(ctx, h.signs[by], users[whom].ID(), "") }, func(now time.Time) bool {
		if !h.w.standing(by) || !h.w.people[by].guard || by == whom {
			return false
		}
		h.w.people[whom].in, h.w.people[whom].disabled = false, true
		h.w.sweep(now)
		return true
	})
}

// sign brings somebody back, or signs them out.
func (h *trial) sign(rt *rapid.T) {
	who := who(rt)
	switch p := h.w.people[who]; {
	case p.disabled:
		h.step("enable", func(ctx context.Context) error { return h.f.Enable(ctx, h.signs["sam"], users[who].ID()) }, func(time.Time) bool {
			p.disabled = p.disabled && !h.w.standing("sam")
			return h.w.standing("sam")
		})
	case p.in && who != "sam":
		h.step("sign out", func(ctx context.Context) error { return h.f.SignOut(ctx, h.signs[who].ID, "by yourself") }, func(now time.Time) bool {
			p.in = false
			h.w.sweep(now)
			return true
		})
	case !p.in:
		h.signIn(who)
	}
}

func (h *trial) signIn(who string) {
	h.signs[who] = h.f.SignIn(h.t, users[who])
	h.w.people[who].in = true
	synctest.Wait()
}

func (h *trial) reload(rt *rapid.T) {
	rules := rapid.SampledFrom(policies).Draw(rt, "rules")
	p := h.f.Sign(h.t, hcl(rules))
	h.step("reload", func(ctx context.Context) error {
		return h.f.Reload(ctx, p, audit.Event{Type: audit.PolicyLoaded, Actor: "gate"})
	}, func(now time.Time) bool {
		h.w.rules = rules
		h.w.changed(now)
		return true
	})
}

// retract takes a yes back before it has taken effect.
func (h *trial) retract(rt *rapid.T) {
	r, id := h.some(rt, "request", mostly(rt, isPending))
	by := who(rt)
	h.step("retract", func(ctx context.Context) error {
		_, err := h.f.Retract(ctx, h.signs[by], id)
		return err
	}, func(time.Time) bool {
		may := h.w.standing(by) && r.state == "pending" && r.yes[by] > 0
		if may {
			delete(r.yes, by)
		}
		return may
	})
}

func (h *trial) sleep(rt *rapid.T) {
	minutes := rapid.IntRange(1, 15).Draw(rt, "minutes")
	for range minutes { // one by one: what passes at once has no order
		pass(time.Minute)
		synctest.Wait()
		h.w.sweep(h.now())
	}
}

func (h *trial) stop(*rapid.T) {
	h.f.Close(h.t)
	h.over("stopping")
}

func (h *trial) restart(rt *rapid.T) {
	h.stop(rt)
	rules := rapid.SampledFrom(policies).Draw(rt, "rules") // changed while nobody looked
	h.w.rules = rules
	h.w.changed(h.reset())
	h.open()
	synctest.Wait()
}

func (h *trial) over(cause string) {
	for _, c := range h.conns {
		<-c.done
	}
	for _, c := range h.w.conns {
		h.w.leave(c, cause)
	}
}

func (h *trial) crash(*rapid.T) {
	h.f.Crash(h.t)
	h.over("crashed")
	h.w.sweep(h.reset())
	h.open()
	synctest.Wait()
}
