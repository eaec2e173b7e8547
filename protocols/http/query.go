package http

import (
	"net/url"
	"strings"
)

// inQuery holds a query, as it came, to a scope's patterns. A name that no pattern has is
// refused, and so is one that is missing without a question mark in its pattern, or there
// twice: targets differ in which of two they take. limits may be empty: all is in it.
func inQuery(limits []string, raw string) error {
	if len(limits) == 0 {
		return nil
	}
	patterns, missing := map[string][]string{}, map[string]bool{}
	for _, limit := range limits {
		name, pattern, _ := strings.Cut(limit, "=")
		name, optional := strings.CutSuffix(name, "?")
		patterns[name] = append(patterns[name], pattern)
		if _, known := missing[name]; !known || optional {
			missing[name] = !optional
		}
	}
	if strings.Contains(raw, ";") {
		return bad("the query has a semicolon, which some read as the end of a parameter; write %3B")
	}
	seen := map[string]bool{}
	for part := range strings.SplitSeq(raw, "&") {
		if part == "" {
			continue
		}
		name, value, _ := strings.Cut(part, "=")
		plainName, err := url.QueryUnescape(name)
		if err != nil {
			return bad("the query is not encoded as it should be")
		}
		if seen[plainName] {
			return outside("your grant has each parameter of the query once")
		}
		seen[plainName] = true
		if err := fits(patterns[plainName], value); err != nil {
			return err
		}
		delete(missing, plainName)
	}
	for name, needed := range missing {
		if needed {
			return outside("your grant is only for requests with the parameter " + name)
		}
	}
	return nil
}

// fits reports whether every reading of a value is in one of the patterns: a target may
// take a plus for a space or not, and may decode twice.
func fits(patterns []string, value string) error {
	plus, err := url.PathUnescape(value)
	if err != nil {
		return bad("the query is not encoded as it should be")
	}
	space, _ := url.QueryUnescape(value)
	readings := []string{plus, space}
	for _, reading := range readings {
		if twice, err := url.PathUnescape(reading); err == nil {
			readings = append(readings, twice)
		}
	}
	for _, reading := range readings {
		in := false
		for _, pattern := range patterns {
			in = in || glob(pattern, reading)
		}
		if !in {
			return outside("your grant does not have this query")
		}
	}
	return nil
}
