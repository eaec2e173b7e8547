package model

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// The gate as its design says it, in memory: flows.md without words, disks or wires.
type world struct {
	rules    map[string]rule // by role; what no rule allows is denied
	people   map[string]*person
	requests []*request
	conns    []*conn
}

type rule struct {
	yes     int // of how many different dbas; 0: the rule is enough
	longest time.Duration
}

type person struct{ engineer, dba, guard, in, disabled bool } // guard: cuts, audits and disables

type request struct {
	who, role, reason, state string
	asked                    time.Duration // 0: the rule's own length
	keep                     bool          // it outlives its connections
	until                    time.Time
	yes                      map[string]time.Duration // by whom, for how long
	extends                  *request                 // whose grant this would lengthen
	grant                    string                   // the grant's state; empty: none
	starts, said, ends       time.Time                // said: when the last yes was
	times                    int                      // how often it was lengthened
}

type conn struct {
	state, cause string   // held, live or ended; cause of a session's end
	r            *request // that it waits for, or whose grant it uses
}

const standard, timeout, extensions = 10 * time.Minute, 20 * time.Minute, 2

func (w *world) standing(who string) bool { return w.people[who].in && !w.people[who].disabled }

func (w *world) allows(who, role string, asked time.Duration) bool {
	return w.people[who].engineer && w.rules[role].longest > 0 && asked <= w.rules[role].longest
}

// each calls do for what is in a state under a request.
func (w *world) each(r *request, state string, do func(*conn)) (n int) {
	for _, c := range w.conns {
		if c.state == state && c.r == r {
			do(c)
			n++
		}
	}
	return n
}

// ask is for a connection, or by page where the request outlives it.
func (w *world) ask(who, role, reason string, asked time.Duration, extends *request, c *conn, page bool, now time.Time) bool {
	r := &request{who: who, role: role, reason: reason, asked: asked, extends: extends, keep: page, state: "pending", until: now.Add(timeout), yes: map[string]time.Duration{}}
	if extends != nil {
		r.role = extends.role
	} else if g := w.serving(who, role); g != nil && w.standing(who) {
		c.r, c.state = g, "live"
		return true
	}
	if !w.standing(who) || !w.allows(who, r.role, asked) || extends != nil && (extends.who != who || extends.grant != "active" || extends.times >= extensions) {
		return false
	}
	same := func(o *request) bool {
		return o.state == "pending" && o.who == who && o.role == r.role && o.reason == reason && (asked == 0 || asked == o.asked) && o.extends == nil
	}
	if i := slices.IndexFunc(w.requests, same); i >= 0 && extends == nil && w.rules[r.role].yes > 0 {
		r = w.requests[i]
		r.keep = r.keep || page
	} else {
		w.requests = append(w.requests, r)
	}
	if c.r, c.state = r, "held"; w.rules[r.role].yes == 0 {
		w.settle(r, now)
	}
	return true
}

// serving is the newest grant for the same person and role.
func (w *world) serving(who, role string) (best *request) {
	for _, r := range w.requests {
		if r.who == who && r.role == role && r.grant == "active" && (best == nil || r.starts.After(best.starts)) {
			best = r
		}
	}
	return best
}

// changed gives what waits its outcome where new rules leave nobody to ask; newest first.
func (w *world) changed(now time.Time) {
	w.sweep(now)
	for _, r := range slices.Backward(w.requests) {
		switch {
		case r.state != "pending":
		case !w.allows(r.who, r.role, r.asked):
			w.close(r, "denied")
		case w.counted(r) < w.rules[r.role].yes, !w.standing(r.who), r.extends != nil && (r.extends.grant != "active" || r.extends.times >= extensions):
		default:
			w.settle(r, now)
		}
	}
}

// counted is how many yeses are of people who may still say it.
func (w *world) counted(r *request) (n int) {
	for who := range r.yes {
		if w.people[who].dba && !w.people[who].disabled {
			n++
		}
	}
	return n
}

// settle turns a request that has all its approvals into a grant, or a longer one.
func (w *world) settle(r *request, now time.Time) {
	maps.DeleteFunc(r.yes, func(who string, _ time.Duration) bool { return w.people[who].disabled || !w.people[who].dba })
	ends := now.Add(slices.Min(append(slices.Collect(maps.Values(r.yes)), cmp.Or(r.asked, standard))))
	g := cmp.Or(r.extends, r)
	if r.state = "approved"; g == r {
		g.grant, g.starts, g.ends = "active", now, ends
	} else {
		g.times++
	}
	if g.said = now; ends.After(g.ends) {
		g.ends = ends
	}
	w.each(r, "held", func(c *conn) { c.state = "live" })
}

func (w *world) decide(who string, r *request, yes bool, narrowed time.Duration, now time.Time) bool {
	need, whole := w.rules[r.role].yes, cmp.Or(r.asked, standard)
	switch {
	case !w.standing(who) || who == r.who || r.state != "pending" || r.yes[who] > 0 || !w.allows(r.who, r.role, r.asked) || !w.people[who].dba || need == 0:
		return false
	case !yes:
		w.close(r, "denied")
	case narrowed > whole || w.counted(r)+1 >= need && r.extends != nil && r.extends.grant != "active":
		return false
	default:
		if r.yes[who] = cmp.Or(narrowed, whole); w.counted(r) >= need {
			w.settle(r, now)
		}
	}
	return true
}

// close gives a pending request its outcome; whoever waits is sent away.
func (w *world) close(r *request, state string) {
	r.state = state
	w.each(r, "held", func(c *conn) { c.state = "ended" })
}

// end ends a grant with all that lives under it.
func (w *world) end(r *request, state, cause string) {
	r.grant = state
	w.each(r, "live", func(c *conn) { c.state, c.cause = "ended", cause })
}

func (w *world) withdraw(who string, r *request) bool {
	may := w.standing(who) && who == r.who && r.state == "pending"
	if may {
		w.close(r, "withdrawn")
	}
	return may
}

// mayCut: one's own, what one said yes to, or by the right.
func (w *world) mayCut(who string, r *request) bool {
	return w.standing(who) && (r.who == who || r.yes[who] > 0 || w.people[who].guard)
}

// leave is a client that hangs up: the last one takes its request along.
func (w *world) leave(c *conn, cause string) {
	if was := c.state; was == "live" {
		c.state, c.cause = "ended", cause
	} else if c.state = "ended"; was == "held" && !c.r.keep && w.each(c.r, "held", func(*conn) {}) == 0 {
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
		case active && (!w.allows(r.who, r.role, r.asked) || len(r.yes) < w.rules[r.role].yes || r.ends.Sub(r.said) > w.rules[r.role].longest):
			w.end(r, "revoked", "policy")
		}
	}
}
