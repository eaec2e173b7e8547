package policy

import (
	"time"

	"github.com/sallyport/sallyport/policy/strict"
)

// ParseSpan reads a length of time as people write it: "90d", or as time.ParseDuration has it.
func ParseSpan(s string) (time.Duration, error) { return strict.ParseSpan(s) }

// FormatSpan writes a length of time as people read it: "1h30m", "90d".
func FormatSpan(d time.Duration) string { return strict.FormatSpan(d) }
