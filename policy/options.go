package policy

import (
	"errors"
	"fmt"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/gohcl"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// options returns the decoder of an `options` block; b may be nil.
func options(b *hclsyntax.Block) func(any) error {
	if b == nil {
		return func(any) error { return nil }
	}
	return func(into any) error { return oneError(gohcl.DecodeBody(b.Body, nil, into)) }
}

// oneError is the sentence for the first of some findings.
func oneError(diags hcl.Diagnostics) error {
	var errs []*hcl.Diagnostic
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
	return errors.New(say)
}
