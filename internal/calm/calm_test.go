package calm

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestFloodIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := slog.New(Handler(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})))
		child := log.With("conn", 1)
		for i := range 1000 {
			child.Info("sign-in failed", "n", i)
		}
		log.Info("another")
		for range 200 {
			log.Error("broken")
			log.Debug("connection")
		}
		text := out.String()
		if n := strings.Count(text, `msg="sign-in failed"`); n != Most {
			t.Errorf("%d of 1000 lines pass, want %d", n, Most)
		}
		if n := strings.Count(text, `msg="more lines like this are left out"`); n != 1 || !strings.Contains(text, `line="sign-in failed" for=1m0s`) {
			t.Errorf("it is said %d times that lines are left out", n)
		}
		if strings.Count(text, "msg=another") != 1 || strings.Count(text, "msg=broken") != 200 || strings.Count(text, "msg=connection") != 200 {
			t.Error("other lines, errors or debug lines are left out too")
		}
		out.Reset()
		time.Sleep(Span)
		log.Info("sign-in failed")
		log.Info("sign-in failed")
		if got := out.String(); strings.Count(got, `msg="sign-in failed"`) != 2 || strings.Count(got, "left_out_before=950") != 1 {
			t.Errorf("a minute later: %s", got)
		}
	})
}

// A flood of one error hides no other, and errors that strangers make differ are no way
// around the bound.
func TestFloodHidesNothingElse(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(Handler(slog.NewTextHandler(&out, nil)))
	for range 1000 {
		log.Info("sign-in failed", "err", "no such state")
	}
	log.Info("sign-in failed", "err", "the client's secret is wrong")
	if text := out.String(); !strings.Contains(text, "secret is wrong") || strings.Count(text, "no such state") != Most {
		t.Errorf("it says\n%s", text)
	}
	out.Reset()
	for i := range 20_000 {
		log.Info("sign-in failed", "err", fmt.Sprintf("code %d", i))
	}
	if n := strings.Count(out.String(), "\n"); n > kinds+2*Most {
		t.Errorf("%d lines of 20,000 that differ pass", n)
	}
}
