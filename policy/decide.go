package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/policy/strict"
)

// A miss is why a rule that is about this user, target and role does not admit the
// ask. Of several rules' misses the user is told the one that came furthest.
type miss struct {
	step  missStep
	rule  *rule
	proof identity.ProofKind // for missProof
	at    string             // for missObject: "orders/analytics"
}

// say is the sentence, and what to do. It is made only for the miss that is told.
func (m miss) say() (why, hint, field string) {
	r := m.rule
	switch m.step {
	case missAddress:
		return "you signed in from another address than your connection comes from, so rule " + r.name + " does not let you in by itself", "connect and sign in from the same machine", ""
	case missProof:
		return fmt.Sprintf("rule %s does not take the proof %q", r.name, m.proof), "it takes: " + proofList(r.proof), ""
	case missWhen:
		return "the condition of rule " + r.name + " does not hold now", "try later, or ask those who write the policy", ""
	case missObject:
		return fmt.Sprintf("rule %s does not allow %s", r.name, m.at), "leave out what follows the slash", ""
	case missNeed:
		return "this is outside what rule " + r.name + " allows", "", ""
	case missDuration:
		return fmt.Sprintf("rule %s allows at most %s", r.name, FormatSpan(r.longest)), "ask for " + FormatSpan(r.longest) + " or less", "duration"
	case missTicket:
		return "rule " + r.name + " asks for a ticket", r.ticket.hint, "ticket"
	case badTicket:
		return fmt.Sprintf("that is no %s ticket", r.ticket.name), r.ticket.hint, "ticket"
	default:
		return "say why you need this", "rule " + r.name + " asks for a reason", "reason"
	}
}

// A missStep is how far a rule's look at an ask came. From missDuration on the user
// can mend it.
type missStep int

const (
	missNone missStep = iota
	missAddress
	missProof
	missWhen
	missObject
	missNeed
	missDuration
	missTicket
	badTicket
	missReason
)

// decide is the whole decision. It reads nothing but s and in.
//
// A rule admits an ask alone or not at all, so what is allowed, by whom, for how long
// and within which scope always comes from one block of the policy.
func (s *set) decide(in Input) Decision {
	if !s.knows(in.User) {
		return Decision{Effect: Deny, Why: "the policy does not know the identity provider that you signed in with", Hint: "sign in again"}
	}
	t := s.targets[in.Target]
	if t == nil {
		return s.none(in)
	}
	if _, ok := t.Roles[in.Role]; !ok {
		return s.none(in)
	}
	if in.Duration < 0 {
		return Decision{Effect: Deny, Field: "duration", Why: "the duration is below zero", Hint: "say 30m or 1h"}
	}
	f := &facts{in: &in, target: t, local: in.Time.In(s.zone), duration: in.Duration}
	c := s.covers[in.Target]

	var errs []string
	if r := forbidden(c.forbids, f, &errs); r != nil {
		return forbid(r, errs)
	}
	admitted, nearest := candidates(c.rules, f, &errs)
	var no *rule
	for _, r := range admitted {
		// The duration is known only now; a forbid may be about it.
		asked := *f
		asked.duration = r.duration(in.Duration)
		x := forbidden(c.forbids, &asked, &errs)
		if x == nil {
			return allow(r, asked.duration, errs)
		}
		if no == nil {
			no = x
		}
	}
	switch {
	case no != nil:
		return forbid(no, errs)
	case nearest.step != missNone:
		d := Decision{Effect: Deny, Rule: nearest.rule.name, At: nearest.rule.place(), Errors: errs}
		d.Why, d.Hint, d.Field = nearest.say()
		return d
	default:
		d := s.none(in)
		d.Errors = errs
		return d
	}
}

// forbidden returns the first forbid by name that matches. One whose condition cannot
// be evaluated matches: a forbid fails closed.
func forbidden(forbids []*rule, f *facts, errs *[]string) *rule {
	for _, r := range forbids {
		if !r.concerns(f.in) || len(r.proof) > 0 && !slices.Contains(r.proof, f.in.Proof) {
			continue
		}
		if r.when == nil {
			return r
		}
		holds, err := r.when.Holds(f)
		note(errs, r, err)
		if holds || err != nil {
			return r
		}
	}
	return nil
}

func note(errs *[]string, r *rule, err error) {
	if err == nil {
		return
	}
	say := r.kind + " " + r.name + ": " + strings.ReplaceAll(err.Error(), "\n", "; ")
	if !slices.Contains(*errs, say) {
		*errs = append(*errs, say)
	}
}

// concerns reports that the rule is about this role and user; which targets it is
// about is known since the policy was loaded.
func (r *rule) concerns(in *Input) bool {
	return (len(r.roles) == 0 || slices.Contains(r.roles, in.Role)) && r.who.matches(&in.User)
}

// candidates returns the rules that admit the ask, those that ask the fewest people
// first and then by name, and else the nearest miss.
func candidates(rules []*rule, f *facts, errs *[]string) (admitted []*rule, nearest miss) {
	for _, r := range rules {
		if (r.kind == kindBreakGlass) != f.in.BreakGlass || !r.concerns(f.in) {
			continue
		}
		m := r.admits(f, errs)
		if m.step == missNone {
			admitted = append(admitted, r)
		} else if m.step > nearest.step || m.step == nearest.step && r.people() < nearest.rule.people() {
			nearest = m
		}
	}
	slices.SortStableFunc(admitted, func(a, b *rule) int { return a.people() - b.people() })
	return admitted, nearest
}

// admits says at which step the rule does not admit the ask; missNone where it does.
func (r *rule) admits(f *facts, errs *[]string) miss {
	in := f.in
	m := miss{rule: r, proof: in.Proof}
	early := r.when != nil && !r.readsAsked()
	switch {
	case r.people() == 0 && !in.SameAddress():
		m.step = missAddress
	case len(r.proof) > 0 && !slices.Contains(r.proof, in.Proof):
		m.step = missProof
	case in.Object != "" && !slices.Contains(r.scope.Databases, in.Object):
		m.step, m.at = missObject, in.Target+"/"+in.Object
	case !r.scope.Admits(in.Need):
		m.step = missNeed
	case early && !r.holds(f, errs):
		m.step = missWhen
	case in.Duration > r.longest:
		m.step = missDuration
	case r.ticket != nil && in.Ticket == "":
		m.step = missTicket
	case r.ticket != nil && !r.ticket.pattern.MatchString(in.Ticket):
		m.step = badTicket
	case r.reason && strings.TrimSpace(in.Reason) == "":
		m.step = missReason
	case r.when != nil && !early && !r.holds(f, errs):
		m.step = missWhen
	}
	return m
}

// readsAsked reports that the condition is about what the user can still mend.
func (r *rule) readsAsked() bool {
	for _, word := range []string{"request.reason", "request.ticket", "request.minutes"} {
		if _, ok := r.when.Reads[word]; ok {
			return true
		}
	}
	return false
}

// holds evaluates the rule's condition; one that cannot be evaluated does not hold.
func (r *rule) holds(f *facts, errs *[]string) bool {
	asked := *f
	asked.duration = r.duration(f.in.Duration)
	holds, err := r.when.Holds(&asked)
	note(errs, r, err)
	return holds && err == nil
}

// duration is what is asked for, after the rule's default.
func (r *rule) duration(asked time.Duration) time.Duration {
	if asked == 0 {
		return r.standard
	}
	return asked
}

func allow(r *rule, asked time.Duration, errs []string) Decision {
	why := "rule " + r.name + " allows it"
	if len(r.stages) > 0 {
		var stages []string
		for _, s := range r.stages {
			stages = append(stages, s.String())
		}
		why += " after the yes of " + strings.Join(stages, ", then ")
	}
	return Decision{
		Effect: Allow, Why: why, Rule: r.name, At: r.place(), Stages: cloneStages(r.stages),
		Longest: r.longest, Duration: asked, Scope: r.scope.Clone(), RequestTimeout: r.timeout, Hold: r.hold,
		Warnings: slices.Clone(r.warnings), Extensions: r.extensions,
		BreakGlass: r.kind == kindBreakGlass, Review: r.review, ReviewWithin: r.reviewWithin, Errors: errs,
	}
}

// A Decision is its owner's, who may narrow it: nothing in it is shared with the policy.
func cloneStages(stages []Stage) []Stage {
	out := slices.Clone(stages)
	for i := range out {
		out[i].From = People{Groups: slices.Clone(out[i].From.Groups), Emails: slices.Clone(out[i].From.Emails)}
	}
	return out
}

func forbid(r *rule, errs []string) Decision {
	why := r.why
	if why == "" {
		why = "rule " + r.name + " forbids it"
	}
	return Decision{Effect: Deny, Why: why, Rule: r.name, At: r.place(), Errors: errs}
}

// none is the default deny. What it names are only targets and roles that some rule
// offers this user, so that asking around reveals no others.
func (s *set) none(in Input) Decision {
	d := Decision{Effect: Deny, Why: fmt.Sprintf("no rule lets you use %s as %s", in.Target, in.Role)}
	if in.BreakGlass {
		d.Why = fmt.Sprintf("no break-glass rule lets you use %s as %s", in.Target, in.Role)
		return d
	}
	var roles, targets []string
	for _, o := range s.offers(in.User) {
		if o.BreakGlass {
			continue
		}
		if o.Target == in.Target {
			roles = append(roles, o.Role)
		}
		targets = append(targets, o.Target)
	}
	slices.Sort(roles)
	targets = slices.Compact(targets)
	switch near := strict.DidYouMean(in.Target, targets); {
	case len(roles) > 0:
		d.Hint = "you can ask for it as " + strings.Join(slices.Compact(roles), ", ")
	case near != "":
		d.Hint = strings.TrimSpace(near)
		d.Hint = "d" + d.Hint[1:]
	case len(targets) == 0:
		d.Hint = "no rule is about you; ask the policy's authors"
	}
	return d
}

// An Offer is something that a rule lets a user ask for. Whether it is allowed, and
// by whom, depends on the ask: Decide says.
type Offer struct {
	Target     string
	Protocol   string
	Role       string
	Rule       string
	Longest    time.Duration
	Standard   time.Duration // when none is asked for
	Reason     bool          // it is asked for
	Ticket     string        // the kind of ticket that is asked for; empty: none
	Stages     []Stage
	Scope      Scope
	BreakGlass bool
}

// offers are sorted by target, role and rule.
func (s *set) offers(u identity.User) []Offer {
	var offers []Offer
	if !s.knows(u) {
		return nil
	}
	mine := map[*rule]bool{}
	for _, r := range s.rules {
		mine[r] = r.who.matches(&u)
	}
	for _, name := range s.names {
		t := s.targets[name]
		for _, role := range strict.SortedKeys(t.Roles) {
			for _, r := range s.covers[name].rules {
				if !mine[r] || !slices.Contains(r.roles, role) {
					continue
				}
				o := Offer{Target: name, Protocol: t.Protocol, Role: role, Rule: r.name, Longest: r.longest, Standard: r.standard, Reason: r.reason, Stages: cloneStages(r.stages), Scope: r.scope.Clone(), BreakGlass: r.kind == kindBreakGlass}
				if r.ticket != nil {
					o.Ticket = r.ticket.name
				}
				offers = append(offers, o)
			}
		}
	}
	return offers
}

func proofList(proofs []identity.ProofKind) string {
	var words []string
	for _, p := range proofs {
		words = append(words, string(p))
	}
	return strings.Join(words, ", ")
}

// mayApprove says why somebody may not say yes or no to a request; nil where they may.
func (s *set) mayApprove(stage Stage, requester, approver identity.User) error {
	switch {
	case approver.Kind != identity.Person:
		return errors.New("only a person decides; an agent or pipeline never does")
	case !s.knows(approver):
		return errors.New("the policy does not know the identity provider that you signed in with")
	case requester.Same(approver):
		return errors.New("nobody decides on their own request")
	case requester.OwnedBy(approver):
		return errors.New("nobody decides on a request of a pipeline that they set going")
	case s.persons > 1 && (approver.Person == "" || requester.Kind == identity.Person && requester.Person == ""):
		return errors.New("one of the two accounts does not say whose it is, so it could be the requester's own")
	case !stage.From.Has(approver):
		return fmt.Errorf("this waits for %s, and you are not among them", stage)
	default:
		return nil
	}
}
