package proxytest

import (
	"errors"
	"net"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/gatetest"
	"github.com/sallyport/sallyport/session"
)

// nobody is nobody: the client shows no proof.
var nobody identity.SignIn

var waitsFor = regexp.MustCompile(`signed in as alice@example\.com; waiting for .*dba.* until \d\d:\d\d:\d\d UTC`)

// Conformance runs every trial against the harness.
func Conformance(t *testing.T, h Harness) {
	for _, trial := range []struct {
		name string
		run  func(*testing.T, Harness)
	}{
		{"hold/nothing reaches the target before the yes", nothingBeforeTheYes},
		{"hold/what is opened during the wait is refused", openedDuringTheWait},
		{"hold/waiting is not idling", waitingIsNotIdling},
		{"hold/hanging up withdraws", hangUpWithdraws},
		{"hold/a yes names its question", aYesNamesItsQuestion},
		{"hold/there is one ending", oneEnding},
		{"hold/a grant serves its own user, target and role", aGrantServesItsOwn},
		{"hold/nobody decides on their own", nobodyDecidesOnTheirOwn},
		{"hold/nobody answered is not no", nobodyAnsweredIsNotNo},
		{"hold/a rule's own hold leaves the request open", holdOfARule},
		{"hold/a yes is pushed", aYesIsPushed},
		{"hold/the client is told", theClientIsTold},
		{"cut/the grant's end comes in mid-transfer", expiryInMidTransfer},
		{"cut/revoke", revokeCuts},
		{"cut/kill", killCuts},
		{"cut/the recorder fails", recorderFails},
		{"cut/shutdown", shutdownDrains},
		{"start and end pair", startAndEndPair},
		{"a silent client blocks nobody", silentClientBlocksNobody},
		{"no goroutine is left", noGoroutineIsLeft},
	} {
		t.Run(trial.name, func(t *testing.T) { trial.run(t, h) })
	}
}

// pour has a transfer going, and returns where its end will be told.
func pour(t *testing.T, c Client) <-chan error {
	t.Helper()
	flows, told := make(chan struct{}), make(chan error, 1)
	go func() { told <- c.Pour(t.Context(), func() { close(flows) }) }()
	select {
	case <-flows:
	case err := <-told:
		t.Fatalf("nothing flows: %v", err)
	case <-time.After(15 * time.Second):
		t.Fatal("nothing flows")
	}
	return told
}

// cutWithin checks that a transfer was cut soon after begun, with the words, and that
// the session ended with the cause.
func (b *bench) cutWithin(t *testing.T, told <-chan error, begun time.Time, words, cause string, by identity.SignIn, id string) {
	t.Helper()
	var err error
	select {
	case err = <-told:
	case <-time.After(15 * time.Second):
		t.Fatal("the transfer goes on")
	}
	if took := time.Since(begun); took > time.Second {
		t.Errorf("cut after %v", took)
	}
	refused(t, err, words)
	if record := b.ended(t, by, id); record.Cause != cause {
		t.Errorf("the record's cause is %q, not %q", record.Cause, cause)
	}
}

func expiryInMidTransfer(t *testing.T, h Harness) {
	b := newBench(t, h, options{})
	alice := b.SignIn(t, gatetest.Alice)
	_, err := b.Gate.Ask(t.Context(), alice, loopback, session.NewRequest{Target: "orders", Role: "writer", Duration: 2 * time.Second})
	must(t, err)
	c := b.connect(t, "writer", alice)
	must(t, c.Ready(t.Context()))
	live := b.live(t, alice)
	b.cutWithin(t, pour(t, c), live.Ends, "your access to orders ended at", "expired", alice, live.ID)
}

func revokeCuts(t *testing.T, h Harness) {
	b := newBench(t, h, options{})
	c, alice, live := b.open(t)
	told := pour(t, c)
	begun := time.Now()
	must(t, b.Revoke(t.Context(), b.SignIn(t, gatetest.Sam), live.Grant, "enough"))
	b.cutWithin(t, told, begun, "revoked", "revoked", alice, live.ID)
}

func killCuts(t *testing.T, h Harness) {
	b := newBench(t, h, options{})
	c, alice, live := b.open(t)
	told := pour(t, c)
	begun := time.Now()
	must(t, b.Kill(t.Context(), b.SignIn(t, gatetest.Sam), live.ID, "enough"))
	b.cutWithin(t, told, begun, "ended", "killed", alice, live.ID)
}

func recorderFails(t *testing.T, h Harness) {
	b := newBench(t, h, options{})
	c, alice, live := b.open(t)
	b.broken.Store(true)
	err := c.Ask(t.Context())
	refused(t, err, "recorded")
	if record := b.ended(t, alice, live.ID); record.Cause != "recorder" {
		t.Errorf("the record's cause is %q", record.Cause)
	}
}

func shutdownDrains(t *testing.T, h Harness) {
	b := newBench(t, h, options{})
	c, alice, live := b.open(t)
	told := pour(t, c)
	begun := time.Now()
	stopped := make(chan error, 1)
	go func() { stopped <- b.Gate.Stop(t.Context(), 0) }()
	b.cutWithin(t, told, begun, "the gate is stopping", "stopping", alice, live.ID)
	must(t, <-stopped)
}

func startAndEndPair(t *testing.T, h Harness) {
	b := newBench(t, h, options{})
	c, alice, live := b.open(t)
	c.HangUp()
	if record := b.ended(t, alice, live.ID); record.Cause != "closed" {
		t.Errorf("the record's cause is %q", record.Cause)
	}
	eventually(t, "the end is not in the log", func() bool { return b.Count(t, audit.SessionEnded) == 1 })
	if n := b.Count(t, audit.SessionStarted); n != 1 {
		t.Errorf("%d starts", n)
	}
	b.Verify(t)
}

func silentClientBlocksNobody(t *testing.T, h Harness) {
	b := newBench(t, h, options{})
	for range 200 {
		conn, err := net.Dial("tcp", b.server.Addrs()[0].String())
		must(t, err)
		t.Cleanup(func() { _ = conn.Close() })
	}
	begun := time.Now()
	b.open(t)
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("let in after %v", took)
	}
}

// noGoroutineIsLeft has connections end in several ways, and looks for what is left.
func noGoroutineIsLeft(t *testing.T, h Harness) {
	b := newBench(t, h, options{})
	held := b.connect(t, "reader", nobody)
	shown(t, held)
	held.HangUp()
	c, alice, live := b.open(t)
	must(t, b.Kill(t.Context(), b.SignIn(t, gatetest.Sam), live.ID, "enough"))
	b.ended(t, alice, live.ID)
	c.HangUp()
	must(t, b.server.Close())
	eventually(t, "goroutines are left", func() bool { return left(h.Protocol.Name()) == 0 })
	if err := b.Ready(); err != nil && !errors.Is(err, session.ErrStopping) {
		t.Error(err)
	}
}

// left counts goroutines in the protocol's package and in proxy's.
func left(protocol string) int {
	buf := make([]byte, 1<<20)
	n := 0
	for _, stack := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		for _, line := range strings.Split(stack, "\n") {
			if strings.HasPrefix(line, "github.com/sallyport/sallyport/protocols/"+protocol+".(*conn)") || strings.HasPrefix(line, "github.com/sallyport/sallyport/proxy.(*") {
				n++
				break
			}
		}
	}
	return n
}
