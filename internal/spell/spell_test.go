package spell

import (
	"testing"
	"time"
)

func TestLengths(t *testing.T) {
	for d, want := range map[time.Duration][2]string{
		0:                             {"no time", "0s"},
		time.Second:                   {"1 second", "1s"},
		90 * time.Minute:              {"1 hour 30 minutes", "1h30m"},
		2 * time.Hour:                 {"2 hours", "2h"},
		25*time.Hour + 4*time.Second:  {"1 day 1 hour 4 seconds", "25h0m4s"},
		1500 * time.Millisecond:       {"2 seconds", "1.5s"},
		48*time.Hour + 30*time.Second: {"2 days 30 seconds", "48h0m30s"},
	} {
		if got := Span(d); got != want[0] {
			t.Errorf("Span(%s) is %q, not %q", d, got, want[0])
		}
		if got := Compact(d); got != want[1] {
			t.Errorf("Compact(%s) is %q, not %q", d, got, want[1])
		}
	}
	if got := Choices(20 * time.Minute); len(got) != 3 || got[0] != 20*time.Minute || got[1] != 15*time.Minute || got[2] != 5*time.Minute {
		t.Errorf("choices up to 20m: %v", got)
	}
	if got := Choices(0); got != nil {
		t.Errorf("choices up to nothing: %v", got)
	}
}
