package oidc

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestAttemptEndsAfterTenMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAttempts()
		a.put("s", attempt{began: time.Now()})
		a.put("late", attempt{began: time.Now()})
		time.Sleep(attemptLife)
		if _, err := a.take("late", "", time.Now()); err == nil || !strings.Contains(err.Error(), "longer than 10 minutes") {
			t.Errorf("err = %v", err)
		}
		a.put("new", attempt{began: time.Now()})
		if len(a.byState) != 1 || a.order.Len() != 1 {
			t.Errorf("%d attempts and %d states are kept; want the new one alone", len(a.byState), a.order.Len())
		}
	})
}

func TestFloodOfAttemptsIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAttempts()
		for range maxAttempts + 500 {
			a.put(secret(), attempt{began: time.Now()})
		}
		if len(a.byState) > maxAttempts || a.order.Len() > maxAttempts {
			t.Errorf("%d attempts and %d states are kept", len(a.byState), a.order.Len())
		}
		for range maxAttempts { // taken ones leave too
			state := secret()
			a.put(state, attempt{began: time.Now()})
			_, _ = a.take(state, "", time.Now())
		}
		if a.order.Len() > maxAttempts {
			t.Errorf("%d states are kept", a.order.Len())
		}
	})
}

// Nobody pushes another's sign-in out: not by many attempts, and not from the many
// addresses of one IPv6 network.
func TestFloodOfOneNetworkLeavesOthersAttempts(t *testing.T) {
	for _, flood := range []string{"198.51.100.%d", "2001:db8:0:1::%d"} {
		synctest.Test(t, func(t *testing.T) {
			a := newAttempts()
			a.put("victim", attempt{began: time.Now(), source: netip.MustParseAddr("192.0.2.7")})
			for i := range maxAttempts + 500 {
				host := 7
				if strings.Contains(flood, ":") {
					host = i % 10_000
				}
				a.put(secret(), attempt{began: time.Now(), source: netip.MustParseAddr(fmt.Sprintf(flood, host))})
			}
			if len(a.byState) != maxPerSource+1 || a.order.Len() != maxPerSource+1 || len(a.bySource) != 2 {
				t.Errorf("%d attempts of %d networks are kept", len(a.byState), len(a.bySource))
			}
			if _, err := a.take("victim", "", time.Now()); err == nil || !strings.Contains(err.Error(), "in another browser") {
				t.Errorf("the other sign-in: %v; want only its cookie missed", err)
			}
			time.Sleep(attemptLife)
			a.put("new", attempt{began: time.Now()})
			if len(a.byState) != 1 || a.order.Len() != 1 || len(a.bySource) != 1 {
				t.Errorf("%d attempts of %d networks are kept after their time", len(a.byState), len(a.bySource))
			}
		})
	}
}
