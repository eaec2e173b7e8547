// Package spell writes times and lengths of time as people and forms do.
package spell

import (
	"fmt"
	"strings"
	"time"
)

// Span writes a duration in words: "1 hour 30 minutes".
func Span(d time.Duration) string {
	d = d.Round(time.Second)
	var words []string
	for _, unit := range []struct {
		of   time.Duration
		name string
	}{{24 * time.Hour, "day"}, {time.Hour, "hour"}, {time.Minute, "minute"}, {time.Second, "second"}} {
		n := d / unit.of
		d -= n * unit.of
		switch {
		case n == 1:
			words = append(words, "1 "+unit.name)
		case n > 1:
			words = append(words, fmt.Sprintf("%d %ss", n, unit.name))
		}
	}
	if len(words) == 0 {
		return "no time"
	}
	return strings.Join(words, " ")
}

// Short writes a duration in a line of text: 30m, 1h30m, 2d, 45s.
func Short(d time.Duration) string {
	d = d.Round(time.Second)
	var b strings.Builder
	for _, unit := range []struct {
		of   time.Duration
		name string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "m"}, {time.Second, "s"}} {
		if n := d / unit.of; n > 0 {
			fmt.Fprintf(&b, "%d%s", n, unit.name)
			d -= n * unit.of
		}
	}
	if b.Len() == 0 {
		return "0s"
	}
	return b.String()
}

// Compact writes a duration as forms send it: "30m", "1h30m", "4s".
func Compact(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// Choices are the durations to pick from, longest first, up to and with the longest;
// none where there is no longest, because the policy says no so far.
func Choices(longest time.Duration) []time.Duration {
	if longest <= 0 {
		return nil
	}
	all := []time.Duration{longest}
	for _, d := range []time.Duration{8 * time.Hour, 4 * time.Hour, 2 * time.Hour, time.Hour, 30 * time.Minute, 15 * time.Minute, 5 * time.Minute} {
		if d < longest {
			all = append(all, d)
		}
	}
	return all
}

// Clock is a time of day as all doors write it: always UTC, said so.
func Clock(t time.Time) string { return t.UTC().Format("15:04:05 UTC") }

// Day is a day of UTC: "30 November".
func Day(t time.Time) string { return t.UTC().Format("2 January") }
