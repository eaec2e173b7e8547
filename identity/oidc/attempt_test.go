package oidc

import (
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
		if len(a.byState) != 1 || len(a.order) != 1 {
			t.Errorf("%d attempts and %d states are kept; want the new one alone", len(a.byState), len(a.order))
		}
	})
}

func TestFloodOfAttemptsIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAttempts()
		for range maxAttempts + 500 {
			a.put(secret(), attempt{began: time.Now()})
		}
		if len(a.byState) > maxAttempts || len(a.order) > maxAttempts {
			t.Errorf("%d attempts and %d states are kept", len(a.byState), len(a.order))
		}
		for range maxAttempts { // taken ones leave too
			state := secret()
			a.put(state, attempt{began: time.Now()})
			_, _ = a.take(state, "", time.Now())
		}
		if len(a.order) > maxAttempts {
			t.Errorf("%d states are kept", len(a.order))
		}
	})
}
