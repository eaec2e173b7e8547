package tally

import (
	"maps"
	"testing"
)

func TestTally(t *testing.T) {
	c := Tally{Most: 2}
	for want := 1; want <= 3; want++ {
		if got := c.Add("a"); got != want {
			t.Errorf("a is counted %d, want %d", got, want)
		}
	}
	if got := c.Add("b"); got != 1 {
		t.Errorf("b is counted %d", got)
	}
	if got := c.Add("c"); got != 0 {
		t.Errorf("a third name is counted %d", got)
	}
	if got := c.Take(1); !maps.Equal(got, map[string]int{"a": 2}) {
		t.Errorf("beyond one are %v", got)
	}
	if got := c.Take(0); len(got) != 0 {
		t.Errorf("after Take there are %v", got)
	}
	if got := c.Add("c"); got != 1 {
		t.Errorf("c is counted %d", got)
	}
}
