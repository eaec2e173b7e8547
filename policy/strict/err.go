package strict

import (
	"errors"
	"fmt"

	"github.com/hashicorp/hcl/v2"
)

// Findings that are an error: its sentence is the first of them.
type failed struct {
	error
	diags hcl.Diagnostics
}

// DiagsOf are the findings that an error of Err's is made of; nil where it is none.
func DiagsOf(err error) hcl.Diagnostics {
	var f failed
	errors.As(err, &f)
	return f.diags
}

// Err is the sentence for the first of some findings.
func Err(diags hcl.Diagnostics) error {
	var errs hcl.Diagnostics
	for _, d := range diags {
		if d.Severity == hcl.DiagError {
			errs = append(errs, d)
		}
	}
	if len(errs) == 0 {
		return nil
	}
	say := errs[0].Summary + ": " + errs[0].Detail
	if at := errs[0].Subject; at != nil {
		say = fmt.Sprintf("%s:%d: %s", at.Filename, at.Start.Line, say)
	}
	if len(errs) > 1 {
		say += fmt.Sprintf(" (and %d more)", len(errs)-1)
	}
	return failed{errors.New(say), errs}
}
