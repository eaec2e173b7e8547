package policy

import (
	"slices"

	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/policy/strict"
)

// A right is one `right` block. Several blocks of one right add up.
type right struct {
	right  Right
	who    who
	target selector
	all    bool // no target is named: everything
}

var rightWords = []string{string(RightReview), string(RightCut), string(RightAudit), string(RightUsers)}

func (s *set) readRight(f *strict.Findings, b *hclsyntax.Block) {
	name, ok := f.Label(b, 1)
	if !ok {
		return
	}
	what := "right " + name
	if !slices.Contains(rightWords, name) {
		f.Bad(b.LabelRanges[0], "Unknown right", "A right is one of %q.%s", rightWords, strict.DidYouMean(name, rightWords))
		return
	}
	f.Blocks(b, what)
	r := f.Block(b, what)
	if !r.Has("who") {
		f.Bad(r.At, "Missing", "%s needs who.", what)
	}
	x := &right{right: Right(name), who: s.readWho(f, r), all: !r.Has("target")}
	if x.right == RightUsers {
		if r.Has("target") {
			f.Bad(r.Where("target"), "No target here", "Users belong to no target.")
		}
	} else {
		x.target = s.readSelector(f, r)
	}
	r.Done()
	if x.who.everybody {
		f.Bad(r.Where("who"), "Everybody", "A right over what is not theirs is some people's, not everybody's.")
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
