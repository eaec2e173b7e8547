//go:build !race

package ssh_test

import (
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/gatetest"
	"github.com/sallyport/sallyport/session"
)

// atOnce is how soon after a grant's end everything that it opened is over.
const atOnce = 250 * time.Millisecond

// behind measures, until it is asked, by how much this machine wakes up too late what
// has nothing to do with the gate. A loaded one does everything late.
func behind() (worst func() time.Duration) {
	const every = 10 * time.Millisecond
	stop, found := make(chan struct{}), make(chan time.Duration)
	go func() {
		var most time.Duration
		tick := time.NewTicker(every)
		defer tick.Stop()
		last := time.Now()
		for {
			select {
			case <-stop:
				found <- most
				return
			case now := <-tick.C:
				most = max(most, now.Sub(last)-every)
				last = now
			}
		}
	}()
	return func() time.Duration { close(stop); return <-found }
}

// cutAt waits for the client's end, and for that of what ran at the target, and checks
// that both came soon enough after a moment.
func (w *world) cutAt(t *testing.T, c *client, end time.Time) {
	t.Helper()
	<-time.After(time.Until(end))
	late := behind()
	c.done()
	took := c.over.Sub(end)
	until(t, "the end of the target's programs", func() bool { return len(w.sshd.Running(t)) == 0 })
	all := time.Since(end)
	slow := 4 * late() // timer, gate, client, and this test
	t.Logf("client gone after %s, the target's programs after %s; this machine is up to %s late", took.Round(time.Millisecond), all.Round(time.Millisecond), slow.Round(time.Millisecond))
	if took < 0 || took > atOnce+slow {
		t.Errorf("cut %s after the end", took)
	}
	if all > 5*time.Second { // for sshd to end them, and /proc to tell, under the race detector too
		t.Errorf("the target's programs ended %s after the end", all)
	}
}

// kill cuts the live session.
func (w *world) kill(t *testing.T, c *client) {
	t.Helper()
	sam := w.SignIn(t, gatetest.Sam)
	id := w.session(t, "live").ID
	since := time.Now()
	must(t, w.Kill(t.Context(), sam, id, "enough"))
	w.cutAt(t, c, since)
}

// What a grant opened ends with it, whatever it is doing: at once, with words, and with
// nothing left running at the target. All of these run side by side, so transfers are
// held to 5 MB/s; TestKillCutsTransfersAtFullSpeed has the others.
func TestGrantsEndCutsWhateverRuns(t *testing.T) {
	const long = 6 * time.Second // for a client to be in the middle of things, on a slow machine too
	echo := echoServer(t)
	for name, words := range map[string][]string{
		"a command":       {"ssh", "deploy@web-1@gate", "echo up; exec sleep 1000"},
		"a terminal":      {"ssh", "-tt", "deploy@web-1@gate", "echo up; exec sleep 1000"},
		"a shell":         {"ssh", "-tt", "deploy@web-1@gate"},
		"output":          {"ssh", "deploy@web-1@gate", "while :; do head -c 50k /dev/zero; sleep 0.05; done"},
		"scp up":          {"scp", "-l", "40000", "BIG", "deploy@web-1@gate:THERE"},
		"scp -O up":       {"scp", "-O", "-l", "40000", "BIG", "deploy@web-1@gate:THERE"},
		"a forward":       {"ssh", "-v", "-N", "-L", "LOCAL:" + echo, "deploy@web-1@gate"},
		"a jump":          {"ssh", "deploy@web-1", "echo up; exec sleep 1000"},
		"a jump's shell":  {"ssh", "-tt", "deploy@web-1"},
		"a channel of it": {"ssh", "-W", echo, "deploy@web-1@gate"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, setup{})
			if strings.Contains(name, "jump") {
				w.jumps(t)
			}
			local := listenNowhere(t)
			c := w.transfer(t, words, local)
			c.stderr.wait(t, "waiting for 1 of: dba")
			w.decide(t, session.Verdict{Yes: true, Duration: long})
			through := io.Reader(nil)
			switch {
			case strings.HasSuffix(name, "shell"):
				_, err := io.WriteString(c.stdin, "sleep 1000\n")
				must(t, err)
			case name == "a forward":
				c.stderr.wait(t, "Entering interactive session")
				conn, err := net.Dial("tcp", local)
				must(t, err)
				defer conn.Close()
				_, err = io.WriteString(conn, "hello")
				must(t, err)
				_, err = io.ReadFull(conn, make([]byte, 5))
				must(t, err)
				through = conn
			}
			w.busy(t)
			ends := w.session(t, "live").Ends
			w.cutAt(t, c, ends)
			if through != nil {
				if _, err := through.Read(make([]byte, 1)); err == nil {
					t.Error("the forward lives on")
				}
			}
			if strings.Contains(name, "forward") || strings.Contains(name, "channel") {
				// No channel is there to say it on; the record has it.
				if list := w.recorded(t); !said(list, "query", "forward", echo) || !said(list, "note", "your access to web-1 ended at ") {
					t.Errorf("recorded: %+v", list)
				}
				return
			}
			w.wantCut(t, c, "your access to web-1 ended at ", "expired")
			// People are told before, on terminals; programs read what is on a stderr.
			told := strings.Contains(c.stdout.String()+c.stderr.String(), "sallyport: 2 seconds left")
			if terminal := slices.Contains(words, "-tt"); told != terminal {
				t.Errorf("told of the last seconds: %t; stdout %q, stderr:\n%s", told, tail(c.stdout.String()), c.stderr)
			}
		})
	}
}

func TestGrantsEndCutsADownloadAtFullSpeed(t *testing.T) {
	w := newWorld(t, setup{})
	c := w.transfer(t, []string{"scp", "deploy@web-1@gate:BIG", "HERE"}, "")
	c.stderr.wait(t, "waiting for 1 of: dba")
	w.decide(t, session.Verdict{Yes: true, Duration: 3 * time.Second})
	w.busy(t)
	w.cutAt(t, c, w.session(t, "live").Ends)
	w.wantCut(t, c, "your access to web-1 ended at ", "expired")
}

func TestKillCuts(t *testing.T) {
	w := newWorld(t, setup{})
	c := w.ssh(t, append(w.certificate(t, gatetest.Alice), "ops@web-1@gate", "echo up; exec sleep 1000")...)
	c.stdout.wait(t, "up")
	w.kill(t, c)
	w.wantCut(t, c, "ended by sam@example.com", "killed")
	if code := c.done(); code != 255 {
		t.Errorf("exit %d", code)
	}
	if n := w.Count(t, audit.SessionAlarm); n != 0 {
		t.Errorf("%d alarms", n)
	}
}

func TestKillCutsTransfersAtFullSpeed(t *testing.T) {
	for name, words := range map[string][]string{
		"output":      {"ssh", "ops@web-1@gate", "cat /dev/zero"},
		"scp up":      {"scp", "BIG", "ops@web-1@gate:THERE"},
		"scp down":    {"scp", "ops@web-1@gate:BIG", "HERE"},
		"scp -O up":   {"scp", "-O", "BIG", "ops@web-1@gate:THERE"},
		"scp -O down": {"scp", "-O", "ops@web-1@gate:BIG", "HERE"},
		"sftp get":    {"sftp", "ops@web-1@gate:BIG", "HERE"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, setup{})
			c := w.transfer(t, words, "")
			w.busy(t)
			w.kill(t, c)
			w.wantCut(t, c, "ended by sam@example.com", "killed")
		})
	}
}
