package policy

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // a decision must not depend on the zones that a machine happens to have

	"github.com/sallyport/sallyport/policy/strict"
	"github.com/sallyport/sallyport/policy/when"
)

// facts are what a condition is about.
type facts struct {
	in     *Input
	target *Target
	local  time.Time // in.Time in the policy's zone
	// duration is in.Duration, and for a rule that of its default where none is asked for.
	duration time.Duration
}

var weekdays = []string{"monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"}

// words is all that a condition can read. What is not there is a typed zero value,
// save a label: whoever asks for one means targets that have it.
func (s *set) words() when.Words[*facts] {
	text := func(get func(*facts) string, domain ...string) when.Operand[*facts] {
		return when.Text(func(f *facts) (string, error) { return get(f), nil }, domain...)
	}
	return when.Words[*facts]{
		Plain: map[string]when.Operand[*facts]{
			"request.time":         text(func(f *facts) string { return f.local.Format("15:04") }),
			"request.date":         text(func(f *facts) string { return f.local.Format(time.DateOnly) }),
			"request.hour":         when.Whole(func(f *facts) int { return f.local.Hour() }, 0, 23),
			"request.minute":       when.Whole(func(f *facts) int { return f.local.Minute() }, 0, 59),
			"request.weekday":      text(func(f *facts) string { return strings.ToLower(f.local.Weekday().String()) }, weekdays...),
			"request.minutes":      when.Whole(func(f *facts) int { return int((f.duration + time.Minute - 1) / time.Minute) }, 0, math.MaxInt),
			"request.reason":       text(func(f *facts) string { return f.in.Reason }),
			"request.ticket":       text(func(f *facts) string { return f.in.Ticket }),
			"request.object":       text(func(f *facts) string { return f.in.Object }),
			"request.role":         text(func(f *facts) string { return f.in.Role }),
			"request.proof":        text(func(f *facts) string { return string(f.in.Proof) }, proofWords...),
			"request.client":       text(func(f *facts) string { return f.in.Client.Unmap().String() }),
			"request.same_address": when.Flag(func(f *facts) bool { return f.in.SameAddress() }),
			"user.email":           when.Lower(func(f *facts) (string, error) { return lowerASCII(f.in.User.Email), nil }),
			"user.name":            text(func(f *facts) string { return f.in.User.Name }),
			"user.subject":         text(func(f *facts) string { return f.in.User.Subject }),
			"user.issuer":          text(func(f *facts) string { return f.in.User.Issuer }, strict.SortedKeys(s.issuers)...),
			"user.kind":            text(func(f *facts) string { return string(f.in.User.Kind) }, "person", "workload"),
			"user.groups":          when.List(func(f *facts) []string { return f.in.User.Groups }),
			"target.name":          text(func(f *facts) string { return f.target.Name }, s.names...),
			"target.protocol":      text(func(f *facts) string { return f.target.Protocol }, protocolWords...),
		},
		Open: map[string]func(string) (when.Operand[*facts], string){
			"target.labels": s.label,
			"user.claims":   s.claim,
		},
	}
}

func (s *set) label(name string) (when.Operand[*facts], string) {
	return when.Text(func(f *facts) (string, error) {
		v, ok := f.target.Labels[name]
		if !ok {
			return "", fmt.Errorf("target %s has no label %s", f.target.Name, name)
		}
		return v, nil
	}), ""
}

func (s *set) claim(name string) (when.Operand[*facts], string) {
	if !slices.Contains(s.claims, name) {
		return when.Operand[*facts]{}, fmt.Sprintf("No issuer maps a claim %q.%s", name, strict.DidYouMean(name, s.claims))
	}
	return when.Text(func(f *facts) (string, error) { return f.in.User.Claims[name], nil }), ""
}
