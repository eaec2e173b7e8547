package netsource

import (
	"net/netip"
	"testing"
)

func TestOf(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.7":            "192.0.2.7",
		"::ffff:192.0.2.7":     "192.0.2.7",
		"2001:db8:1:2:3:4:5:6": "2001:db8:1:2::",
		"fe80::1:2:3:4%eth0":   "fe80::",
		"2001:db8:1:3::":       "2001:db8:1:3::",
	} {
		if got := Of(netip.MustParseAddr(addr)); got != netip.MustParseAddr(want) {
			t.Errorf("%s counts as %s, want %s", addr, got, want)
		}
	}
	if Of(netip.Addr{}).IsValid() {
		t.Error("no address counts as one")
	}
}
