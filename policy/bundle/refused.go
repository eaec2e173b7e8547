package bundle

import (
	"errors"
	"fmt"
	"strings"
)

// A Code names the step of the loader that refused, for logs and tests.
type Code string

// The steps, in the order in which they are taken.
const (
	Unreadable Code = "unreadable" // a file or folder cannot be read
	BadPin     Code = "pin"        // no trust root has the pinned digest
	BadRoot    Code = "root"       // a trust root is malformed, or its succession is not signed
	Unsigned   Code = "unsigned"   // too few distinct people signed
	Malformed  Code = "manifest"   // the MANIFEST is not exactly as it must be
	TooOld     Code = "version"    // below the version floor, or another policy of the same version
	Expired    Code = "expired"
	Unchained  Code = "chain" // previous or root is not the one that is there
	BadFiles   Code = "files" // a file is changed, missing, extra, or no plain file
	BadPolicy  Code = "policy"
	FailedTest Code = "tests"
)

// A Refused says why a bundle is not loaded: one sentence, and what to do.
type Refused struct {
	Code Code
	Say  string // a sentence without its full stop
	Do   string // what to type or change; may be empty
	Err  error  // the cause, where there is one
	// Manifest and Signatures are what was refused, as it was found, for the record; nil
	// where it was not read. Nobody vouches for them.
	Manifest   []byte
	Signatures []Signature
}

func (r *Refused) Error() string {
	say := "policy refused: " + r.Say
	if r.Err != nil {
		say += ": " + r.Err.Error()
	}
	if r.Do != "" {
		say += "; " + r.Do
	}
	return say
}

// Unwrap returns the cause.
func (r *Refused) Unwrap() error { return r.Err }

// Is makes errors.Is(err, &Refused{Code: Unsigned}) true of every Refused with that code.
func (r *Refused) Is(target error) bool {
	t, ok := target.(*Refused)
	return ok && t.Code == r.Code
}

// Refused adds what was found in the folder to a refusal of it.
func (b *Bundle) Refused(err error) error {
	var r *Refused
	if errors.As(err, &r) {
		r.Manifest, r.Signatures = b.Text, b.Signatures
	}
	return err
}

func refuse(code Code, do, format string, args ...any) *Refused {
	return &Refused{Code: code, Say: fmt.Sprintf(format, args...), Do: do}
}

// clean makes bytes of an unverified file fit for a sentence: a name in a bundle
// that nobody signed may hold terminal escapes.
func clean(s string) string {
	if len(s) > 80 {
		s = s[:80] + "..."
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}
