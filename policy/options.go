package policy

import "github.com/sallyport/sallyport/policy/strict"

// A Checker looks at the options of all targets of one protocol, as the program that
// speaks it would read them.
type Checker func(protocol string, targets []Target) []Problem

// CheckOptions adds to Diags what check finds.
func (d *Draft) CheckOptions(check Checker) {
	f := &strict.Findings{Diags: d.Diags}
	d.set.checkOptions(f, check)
	d.Diags = f.Diags
}

// checkOptions places what check finds; nil: nobody knows the options.
func (s *set) checkOptions(f *strict.Findings, check Checker) {
	if check == nil {
		return
	}
	of := map[string][]Target{}
	for _, name := range s.names {
		t := *s.targets[name]
		of[t.Protocol] = append(of[t.Protocol], t)
	}
	for _, protocol := range strict.SortedKeys(of) {
		for _, p := range check(protocol, of[protocol]) {
			if diags := strict.DiagsOf(p.Err); diags != nil {
				f.Diags = append(f.Diags, diags...)
				continue
			}
			f.Bad(s.targets[p.Target].Where(p.Role, p.Option), "Not an option", "%s", p.Say)
		}
	}
}
