package policy

import (
	"slices"

	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/sallyport/sallyport/identity"
)

// A right is one `right` block. Several blocks of one right add up.
type right struct {
	right  Right
	who    who
	target selector
	all    bool // no target is named: everything
}

var rightWords = []string{string(RightReview), string(RightCut), string(RightAudit), string(RightUsers)}

func (s *set) readRight(f *findings, b *hclsyntax.Block) {
	name, ok := f.labels(b, 1)
	if !ok {
		return
	}
	what := "right " + name
	if !slices.Contains(rightWords, name) {
		f.bad(b.LabelRanges[0], "Unknown right", "A right is one of %q.%s", rightWords, didYouMean(name, rightWords))
		return
	}
	f.blocks(b, what)
	r := f.block(b, what)
	if !r.has("who") {
		f.bad(r.at, "Missing", "%s needs who.", what)
	}
	x := &right{right: Right(name), who: s.readWho(f, r), all: !r.has("target")}
	if x.right == RightUsers {
		if r.has("target") {
			f.bad(r.where("target"), "No target here", "Users belong to no target.")
		}
	} else {
		x.target = s.readSelector(f, r)
	}
	r.done()
	if x.who.everybody {
		f.bad(r.where("who"), "Everybody", "A right over what is not theirs is some people's, not everybody's.")
	}
	s.rights = append(s.rights, x)
}

func (s *set) hasRight(want Right, u identity.User, target string) bool {
	if u.Kind != identity.Person || !s.knows(u) {
		return false
	}
	for _, r := range s.rights {
		if r.right != want || !r.who.matches(&u) {
			continue
		}
		if r.all {
			return true
		}
		if t := s.targets[target]; t != nil && r.target.matches(t) {
			return true
		}
	}
	return false
}

// knows reports that the user comes from an issuer of this policy, as what that issuer vouches for.
func (s *set) knows(u identity.User) bool {
	i := s.issuers[u.Issuer]
	return i != nil && i.Kind == u.Kind && u.Subject != ""
}
