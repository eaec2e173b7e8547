package policy

import (
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/sallyport/sallyport/policy/bundle"
	"github.com/sallyport/sallyport/policy/strict"
)

// A RootPin is "sha256:<hex>" of the trust root's file that the configuration pins.
type RootPin string

// Options are what the gate knows beside the bundle.
type Options struct {
	Root      RootPin    // of the trust root where trust begins; there is no default
	RootFloor int        // the lowest version of the trust root that is accepted
	Floor     int        // the lowest version that is accepted: min_version, the store's, the log's
	Running   bundle.Pin // what runs now; zero: nothing
	Release   int        // which release to load; 0: the highest
	Now       time.Time
	Config    string // "sha256:..." of the machine's proxy.hcl, for the decisions
	// Scopes says which parts of a scope each protocol enforces. A rule that limits
	// more than its targets' protocols enforce is refused: nothing declared is decoration.
	Scopes map[string][]string
	// Check looks at the targets' options; nil: nobody knows them.
	Check Checker
}

// A Refused says at which step and why a bundle was not loaded, and what to do.
type Refused = bundle.Refused

// Load reads the bundle in dir and judges it in a fixed order: who signed, then the
// MANIFEST, its version, expiry and ancestry, then the files, then their meaning, then
// the bundle's own tests. Its errors are *Refused. There is no other way to a Policy.
func Load(dir string, o Options) (*Policy, error) {
	b, err := bundle.Open(dir, bundle.Options{Root: string(o.Root), RootFloor: o.RootFloor, Floor: o.Floor, Running: o.Running, Release: o.Release, Now: o.Now})
	if err != nil {
		return nil, err
	}
	s, tests, f := compile(b.Files)
	s.enforceable(f, o.Scopes)
	s.checkOptions(f, o.Check)
	s.whole(f)
	if err := strict.Err(f.Diags); err != nil {
		return nil, b.Refused(&Refused{Code: bundle.BadPolicy, Say: fmt.Sprintf("release %d does not hold together", b.Manifest.Version), Err: err, Do: "type: sallyport policy check " + filepath.Clean(dir)})
	}
	for _, t := range tests {
		if o := t.run(s); o.Failed != "" {
			return nil, b.Refused(&Refused{Code: bundle.FailedTest, Say: fmt.Sprintf("its own test %q fails: %s", t.name, o.Failed), Do: "type: sallyport policy test " + filepath.Clean(dir)})
		}
	}
	return &Policy{set: s, bundle: b, config: o.Config}, nil
}

// enforceable refuses scopes that a covered target's protocol cannot enforce.
func (s *set) enforceable(f *strict.Findings, scopes map[string][]string) {
	for _, r := range s.rules {
		for _, t := range r.covered {
			if part := beyond(r.scope, scopes[t.Protocol]); part != "" {
				f.Bad(r.at, "Not enforced", "%s %s limits %s, but for target %s (%s) nothing would enforce it.", r.kind, r.name, part, t.Name, t.Protocol)
				break
			}
		}
	}
}

// beyond returns the first part of a scope that is not enforced; empty: all are.
func beyond(scope Scope, enforced []string) string {
	for _, part := range scope.Parts() {
		if !slices.Contains(enforced, part) {
			return part
		}
	}
	return ""
}

// whole refuses a policy without which nobody could sign in or ask.
func (s *set) whole(f *strict.Findings) {
	if len(s.issuers) == 0 {
		f.Bad(hcl.Range{Filename: "policy/identity.hcl"}, "No issuer", "Nobody could sign in: write issuer \"name\" { url = \"...\" client_id = \"...\" }.")
	}
	if len(s.names) == 0 {
		f.Bad(hcl.Range{Filename: "policy/targets.hcl"}, "No target", "There is nothing behind the gate: write target \"name\" { ... }.")
	}
}
