package model

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// The gate as its design says it, in memory: flows.md without words, disks or wires.
// What may not be answers false, and changes nothing.
type world struct {
	rules    map[string]rule // by role, and glass; what no rule allows is denied
	people   map[string]*person
	requests []*request
	conns    []*conn
}

type rule struct {
	yes     int // of how many different dbas; 0: the rule is enough
	longest time.Duration
}

type person struct{ engineer, dba, guard, in, disabled bool } // guard: cuts, audits, disables and reviews

type request struct {
	who, role, rule, reason string        // rule: that of the role, or glass
	asked                   time.Duration // 0: the rule's own length
	keep                    bool          // it outlives its connections
	extends                 *request      // whose grant this would lengthen
	yes                     map[string]time.Duration
	state, grant, review    string // grant, review: empty where there is none
	times                   int    // how often it was given an end
	// until: it waits; said: when the last yes was; owed: the review
	until, starts, said, ends, owed time.Time
}

type conn struct {
	state, cause string   // held, live or ended; cause of a session's end
	r            *request // that it waits for, or whose grant it uses
}

// The rule glass lets writers in at once; a review is owed within so long after its grant's end.
const glass, within, standard, timeout, extensions = "glass", time.Hour, 10 * time.Minute, 20 * time.Minute, 2

func set[T any](at *T, to T) bool { *at = to; return true }

func (w *world) standing(who string) bool { return w.people[who].in && !w.people[who].disabled }

func (w *world) allows(r *request) bool {
	return w.people[r.who].engineer && w.rules[r.rule].longest > 0 && r.asked <= w.rules[r.rule].longest
}

// own is for what nobody does but who asked, while it is in that state.
func (w *world) own(who string, r *request, is, state string) bool {
	return w.standing(who) && who == r.who && is == state
}

// mayCut: one's own, what one said yes to, longer too, or by the right.
func (w *world) mayCut(who string, r *request) bool {
	yes := func(o *request) bool { return cmp.Or(o.extends, o) == r && o.yes[who] > 0 && o.state == "approved" }
	return w.standing(who) && (r.who == who || w.people[who].guard || slices.ContainsFunc(w.requests, yes))
}

// move takes all that is in a state under a request to another.
func (w *world) move(r *request, from, to, cause string) bool {
	for _, c := range w.conns {
		if c.state == from && c.r == r {
			c.state, c.cause = to, cause
		}
	}
	return true
}

// close gives a pending request its outcome; whoever waits is sent away.
func (w *world) close(r *request, state string) bool {
	return set(&r.state, state) && w.move(r, "held", "ended", "")
}

// end ends a grant with all that lives under it.
func (w *world) end(r *request, state, cause string) bool {
	return set(&r.grant, state) && w.move(r, "live", "ended", cause)
}

// use lets a connection in by a grant that runs, such as with a token of it.
func use(r *request, c *conn) bool { return r.grant == "active" && set(c, conn{"live", "", r}) }

// serving is the newest grant for the same person and role; broken glass asks for its like.
func (w *world) serving(r *request) (best *request) {
	for _, o := range w.requests {
		if o.who == r.who && o.role == r.role && (r.rule != glass || o.rule == glass) && o.grant == "active" && (best == nil || o.starts.After(best.starts)) {
			best = o
		}
	}
	return best
}

// over says of an extension that there is no more to extend.
func (w *world) over(r *request) bool {
	return r.extends != nil && (r.extends.grant != "active" || r.extends.times > extensions)
}

// ask is for a connection, or by page where the request outlives it.
func (w *world) ask(r *request, c *conn, now time.Time) bool {
	if g := w.serving(r); g != nil && r.extends == nil && w.standing(r.who) {
		return use(g, c)
	}
	late := func(o *request) bool { return r.rule == glass && o.review == "open" && !now.Before(o.owed) }
	if !w.standing(r.who) || !w.allows(r) || w.over(r) || r.extends != nil && r.extends.who != r.who || slices.ContainsFunc(w.requests, late) {
		return false
	}
	if i := slices.IndexFunc(w.newest(), r.joins); i >= 0 && w.rules[r.rule].yes > 0 {
		c.state, c.r = "held", w.newest()[i]
		return set(&c.r.keep, c.r.keep || r.keep)
	}
	r.state, r.until, r.yes, w.requests = "pending", now.Add(timeout), map[string]time.Duration{}, append(w.requests, r)
	return set(c, conn{"held", "", r}) && (w.rules[r.rule].yes > 0 || w.settle(r, now))
}

// newest are the requests as the gate lists them, by its clock.
func (w *world) newest() []*request {
	return slices.SortedFunc(slices.Values(w.requests), func(a, b *request) int { return b.until.Compare(a.until) })
}

// joins reports that o, which waits already, is the same question.
func (r *request) joins(o *request) bool {
	return o.state == "pending" && o.who == r.who && o.rule == r.rule && o.reason == r.reason && (r.asked == 0 || r.asked == o.asked) && cmp.Or(o.extends, r.extends) == nil
}

// changed gives what waits its outcome where new rules leave nobody to ask; newest first.
func (w *world) changed(now time.Time) {
	w.sweep(now)
	for _, r := range w.newest() {
		if r.state == "pending" && !w.allows(r) {
			w.close(r, "denied")
		} else if r.state == "pending" && w.counted(r) >= w.rules[r.rule].yes && w.standing(r.who) && !w.over(r) {
			w.settle(r, now)
		}
	}
}

// void is a yes of somebody who may not say it any more.
func (w *world) void(who string) bool { return w.people[who].disabled || !w.people[who].dba }

func (w *world) counted(r *request) int {
	return len(slices.DeleteFunc(slices.Collect(maps.Keys(r.yes)), w.void))
}

// settle turns a request that has all its approvals into a grant, or a longer one.
func (w *world) settle(r *request, now time.Time) bool {
	maps.DeleteFunc(r.yes, func(who string, _ time.Duration) bool { return w.void(who) || w.rules[r.rule].yes == 0 })
	g, long := cmp.Or(r.extends, r), slices.Min(append(slices.Collect(maps.Values(r.yes)), cmp.Or(r.asked, standard)))
	r.state, g.grant, g.starts, g.said, g.times = "approved", "active", cmp.Or(g.starts, now), now, g.times+1
	if g.ends = slices.MaxFunc([]time.Time{g.ends, now.Add(long)}, time.Time.Compare); g.rule == glass {
		g.review, g.owed = "open", g.ends.Add(within)
	}
	return w.move(r, "held", "live", "")
}

func (w *world) decide(who string, r *request, yes bool, narrowed time.Duration, now time.Time) bool {
	need, last := w.rules[r.rule].yes, w.counted(r)+1 >= w.rules[r.rule].yes
	may := w.standing(who) && who != r.who && r.state == "pending" && r.yes[who] == 0 && w.allows(r) && w.people[who].dba && need > 0
	if !may || !yes || narrowed > cmp.Or(r.asked, standard) || last && r.extends != nil && r.extends.grant != "active" {
		return may && !yes && w.close(r, "denied")
	}
	r.yes[who] = cmp.Or(narrowed, r.asked, standard)
	return w.counted(r) < need || w.settle(r, now)
}

// reviewed is the end of what broken glass owes.
func (w *world) reviewed(who string, r *request) bool {
	return w.standing(who) && w.people[who].guard && who != r.who && r.review == "open" && r.grant != "active" && set(&r.review, "done")
}

// leave is a client that hangs up: the last one takes its request along.
func (w *world) leave(c *conn, cause string) {
	if was := c.state; set(&c.state, "ended") && was == "live" {
		c.cause = cause
	} else if was == "held" && !c.r.keep && !slices.ContainsFunc(w.conns, func(o *conn) bool { return o.r == c.r && o.state == "held" }) {
		w.close(c.r, "withdrawn")
	}
}

// sweep brings everything to the end that is its own: by the clock, with a sign-in, by other rules.
func (w *world) sweep(now time.Time) {
	for _, r := range w.requests {
		switch active := r.grant == "active"; {
		case !w.people[r.who].in && active:
			w.end(r, "revoked", "signed-out")
		case !w.people[r.who].in && r.state == "pending":
			w.close(r, "withdrawn")
		case active && !now.Before(r.ends):
			w.end(r, "expired", "expired")
		case r.state == "pending" && !now.Before(r.until):
			w.close(r, "timed-out")
		case active && (!w.allows(r) || len(r.yes) < w.rules[r.rule].yes || r.ends.Sub(r.said) > w.rules[r.rule].longest || r.said.After(now)):
			w.end(r, "revoked", "policy") // or begun in the future: a clock that a start found set back
		}
	}
}
