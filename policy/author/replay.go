package author

import (
	"bytes"
	"encoding/json"
	"strings"
	"time"

	"github.com/sallyport/sallyport/policy"
)

// MaxDiffering is how many differences a Replay keeps; the rest is counted.
const MaxDiffering = 1000

// A Replay decides logged inputs again, by a draft, and compares with what was decided.
// A decision depends on its input alone, so nothing else is needed.
type Replay struct {
	Decisions int         `json:"decisions"`
	Differ    int         `json:"differ"`
	Wrong     int         `json:"wrong"`   // of those that this very policy decided: it cannot have
	Expired   int         `json:"expired"` // refused because the policy was over, by no rule
	List      []Differing `json:"differing"`

	draft *policy.Draft
}

// A Differing is one decision that comes out otherwise.
type Differing struct {
	Entry  int64     `json:"entry"`
	Time   time.Time `json:"time"`
	User   string    `json:"user"`
	Target string    `json:"target"`
	Role   string    `json:"role"`
	Then   string    `json:"then"`
	Now    string    `json:"now"`
	Wrong  bool      `json:"wrong,omitempty"`
}

// NewReplay makes a Replay by a draft that is without errors.
func NewReplay(d *policy.Draft) *Replay { return &Replay{draft: d, List: []Differing{}} }

// Add decides one input again. own says that the draft is the policy that decided then.
func (r *Replay) Add(entry int64, in policy.Input, then policy.Decision, own bool) error {
	r.Decisions++
	if then.Expired() {
		r.Expired++
		return nil
	}
	now := r.draft.Decide(in)
	same, err := alike(then, now)
	if err != nil || same {
		return err
	}
	r.Differ++
	if own {
		r.Wrong++
	}
	if len(r.List) < MaxDiffering {
		r.List = append(r.List, Differing{
			Entry: entry, Time: in.Time, User: in.User.String(), Target: in.Target, Role: in.Role, Then: outcome(then), Now: outcome(now), Wrong: own,
		})
	}
	return nil
}

// alike compares all that a decision says but its sentences and where in the files its
// rule stands: those change without anything being decided otherwise.
func alike(a, b policy.Decision) (bool, error) {
	plain := func(d policy.Decision) ([]byte, error) {
		d.Why, d.Hint, d.At, d.Version, d.Digest, d.Config, d.Errors = "", "", "", 0, "", "", nil
		return json.Marshal(d)
	}
	x, err := plain(a)
	if err != nil {
		return false, err
	}
	y, err := plain(b)
	return bytes.Equal(x, y), err
}

func outcome(d policy.Decision) string {
	if d.Effect == policy.Deny {
		return "deny: " + d.Why
	}
	parts := []string{"at once"}
	if len(d.Stages) > 0 {
		parts = nil
		for _, s := range d.Stages {
			parts = append(parts, s.String())
		}
	}
	for _, p := range d.Scope.Parts() {
		parts = append(parts, "limited by "+p)
	}
	return "allow by " + d.Rule + ": " + strings.Join(parts, ", ") + ", " + policy.FormatSpan(d.Duration) + " of " + policy.FormatSpan(d.Longest)
}
