package policy

import (
	"fmt"
	"slices"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/policy/bundle"
)

// A Policy is a signed bundle that Load accepted. It is safe for many goroutines.
type Policy struct {
	set    *set
	bundle *bundle.Bundle
	config string
}

// Decide says what the policy says of in, and why. It is pure: the same Policy and
// Input give the same Decision for ever. Whatever no rule allows is denied, and what a
// forbid matches is denied whatever else allows it.
func (p *Policy) Decide(in Input) Decision {
	d := p.set.decide(in)
	if expires := p.Expires(); !in.Time.Before(expires) {
		d = Decision{Effect: Deny, Why: fmt.Sprintf("the policy expired at %s", expires.UTC().Format("15:04:05 UTC on 2006-01-02")), Hint: expiredHint}
	}
	d.Version, d.Digest, d.Config = p.Version(), p.Digest(), p.config
	return d
}

const expiredHint = "ask its signers for a new version"

// Expired reports that no rule decided: the policy was over.
func (d Decision) Expired() bool { return d.Effect == Deny && d.Hint == expiredHint }

// MayApprove says why approver may not say yes or no in this stage of requester's
// request, in a sentence for them; nil where they may. Both users are as of now:
// whoever left a group since has no say any more. It never lets the requester decide,
// by whichever account, nor a workload.
func (p *Policy) MayApprove(stage Stage, requester, approver identity.User) error {
	return p.set.mayApprove(stage, requester, approver)
}

// Has reports that u has a right over a target. With target "" it asks for the right
// over everything. Workloads have none.
func (p *Policy) Has(right Right, u identity.User, target string) bool {
	return p.set.hasRight(right, u, target)
}

// Offers lists what u can ask for, sorted by target, role and rule.
func (p *Policy) Offers(u identity.User) []Offer { return p.set.offers(u) }

// Targets lists all targets by name.
func (p *Policy) Targets() []Target { return p.set.list() }

// Target finds a target by its exact name.
func (p *Policy) Target(name string) (Target, bool) {
	t := p.set.targets[name]
	if t == nil {
		return Target{}, false
	}
	return *t, true
}

// Identity is who may say who somebody is.
func (p *Policy) Identity() Identity { return p.set.identity }

// Name is the policy's, the same in all versions.
func (p *Policy) Name() string { return p.bundle.Manifest.Name }

// Version is the release's number.
func (p *Policy) Version() int { return p.bundle.Manifest.Version }

// Digest is "sha256:<hex>" of the signed MANIFEST, which names everything else.
func (p *Policy) Digest() string { return p.bundle.Digest }

// Config is Options.Config: under which configuration of the machine it decides.
func (p *Policy) Config() string { return p.config }

// Expires is when the policy stops allowing anything new. Sessions that run then go
// on to their grant's end.
func (p *Policy) Expires() time.Time { return p.bundle.Manifest.Expires }

// Commit is the source's, hexadecimal; empty where the release names none.
func (p *Policy) Commit() string { return p.bundle.Manifest.Commit }

// Manifest is the MANIFEST as it was signed.
func (p *Policy) Manifest() []byte { return slices.Clone(p.bundle.Text) }

// Signatures are all signature files beside the MANIFEST.
func (p *Policy) Signatures() []bundle.Signature { return slices.Clone(p.bundle.Signatures) }

// Signers are the distinct people whose signatures count, sorted.
func (p *Policy) Signers() []string { return slices.Clone(p.bundle.People) }

// Root is the version and digest of the trust root that they are in.
func (p *Policy) Root() (version int, digest string) {
	return p.bundle.Root.Version, p.bundle.RootDigest
}
