package policy

import (
	"slices"

	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/policy/catalog"
	"github.com/sallyport/sallyport/policy/strict"
)

func (s *set) readIssuers(f *strict.Findings, blocks []*hclsyntax.Block, src sources) {
	slices.SortFunc(blocks, func(a, b *hclsyntax.Block) int { return slices.Compare(a.Labels, b.Labels) })
	for _, b := range blocks {
		name, ok := f.Label(b, 1)
		if !ok || !s.unique(f, b, name) {
			continue
		}
		i := catalog.ReadIssuer(f, b, name, src)
		if other, twice := s.issuers[i.URL]; twice {
			f.Bad(b.DefRange(), "One issuer", "Issuer %s has this url already.", other.Name)
			continue
		}
		s.identity.Issuers = append(s.identity.Issuers, i)
		s.issuers[i.URL] = &i
		if i.Kind == identity.Person {
			s.persons++
		}
		s.claims = append(s.claims, strict.SortedKeys(i.Claims)...)
	}
	slices.Sort(s.claims)
	s.claims = slices.Compact(s.claims)
	for _, i := range s.identity.Issuers {
		if s.persons > 1 && i.Kind == identity.Person && i.PersonClaim == "" {
			f.Bad(s.places["issuer "+i.Name], "Who is one person?", "With several issuers one person has several accounts, and could approve their own request: issuer %s needs person_claim, a claim that is the same for one person at all of them.", i.Name)
		}
	}
}
