package e2e

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport/sallyport/session"
)

// acknowledged are requests whose withdrawal the gate has answered for.
type acknowledged struct {
	mu  sync.Mutex
	ids []string
	all map[string]int // what went through, by protocol
}

func (a *acknowledged) counts(what string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.all == nil {
		a.all = map[string]int{}
	}
	a.all[what]++
}

func (a *acknowledged) had(what string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.all[what]
}

func (a *acknowledged) add(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ids = append(a.ids, id)
}

// tokens are of one grant for each protocol.
type tokens struct{ psql, ssh, web string }

func (d *demo) granted(t *testing.T, target, role string) string {
	t.Helper()
	return d.grantedFor(t, target, role, "15m")
}

// grantedFor has Bob say yes to Alice, and makes a token.
func (d *demo) grantedFor(t *testing.T, target, role, lasts string) string {
	t.Helper()
	alice, bob := d.signedIn(t, "alice@example.com"), d.signedIn(t, "bob@example.com")
	var r session.Request
	if err := alice.call(http.MethodPost, "/api/v1/requests", fmt.Sprintf(`{"target":%q,"role":%q,"reason":"load","duration":%q}`, target, role, lasts), &r); err != nil {
		t.Fatal(err)
	}
	if err := bob.call(http.MethodPost, "/api/v1/requests/"+r.ID+"/approve", "{}", &r); err != nil {
		t.Fatal(err)
	}
	var made struct{ Token string }
	if err := alice.call(http.MethodPost, "/api/v1/grants/"+r.Grant+"/token", "{}", &made); err != nil {
		t.Fatal(err)
	}
	return made.Token
}

// until does something again and again, until it fails or stop is closed: around a crash
// an error is no surprise.
func until(busy *sync.WaitGroup, stop <-chan struct{}, do func() error) {
	busy.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if do() != nil {
				return
			}
		}
	})
}

// load makes requests, and sessions of every protocol, until stop is closed or the gate
// has gone.
func (d *demo) load(t *testing.T, alice *browser, by tokens, done *acknowledged, stop <-chan struct{}) *sync.WaitGroup {
	t.Helper()
	var busy sync.WaitGroup
	for range 3 {
		term := d.psql(t, "writer+token", []string{"PGPASSWORD=" + by.psql})
		until(&busy, stop, func() error {
			_, err := fmt.Fprintln(term.in, "UPDATE outbox SET sent = now() WHERE id = 1; SELECT count(*) FROM orders;")
			return err
		})
	}
	home := t.TempDir()
	env := append(os.Environ(), "HOME="+home, "SSH_ASKPASS_REQUIRE=force", "DISPLAY=none", "SSH_ASKPASS="+script(t, "echo "+by.ssh))
	host, port, err := net.SplitHostPort(d.SSH)
	if err != nil {
		t.Fatalf("the demo has no web-1: %v", err)
	}
	until(&busy, stop, func() error {
		cmd := exec.Command("ssh", "-F", "/dev/null", "-p", port, "-o", "UserKnownHostsFile="+filepath.Join(d.Dir, "known_hosts"), "-o", "StrictHostKeyChecking=yes",
			"-o", "PubkeyAuthentication=no", "deploy+token@web-1@"+host, "head -c 100000 /dev/zero")
		cmd.Env = env
		if err := cmd.Run(); err != nil {
			return err
		}
		done.counts("ssh")
		return nil
	})
	until(&busy, stop, func() error {
		request, err := http.NewRequest(http.MethodPost, d.App+"/api/echo", strings.NewReader(strings.Repeat("x", 10_000)))
		if err != nil {
			return err
		}
		request.Header.Set("Authorization", "Bearer "+by.web)
		answer, err := alice.http.Do(request)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, answer.Body)
		if err = errors.Join(err, answer.Body.Close()); err == nil && answer.StatusCode == http.StatusOK {
			done.counts("http")
		}
		return err
	})
	until(&busy, stop, func() error {
		id, err := alice.askAndWithdraw()
		if err == nil {
			done.add(id)
		}
		return err
	})
	return &busy
}

// askAndWithdraw returns once the gate has acknowledged both.
func (b *browser) askAndWithdraw() (string, error) {
	var r session.Request
	if err := b.call(http.MethodPost, "/api/v1/requests", `{"target":"orders","role":"reader","reason":"load","duration":"7m"}`, &r); err != nil {
		return "", err
	}
	return r.ID, b.call(http.MethodPost, "/api/v1/requests/"+r.ID+"/withdraw", "", nil)
}

// After kill -9 at random points under load of all protocols: the record is clean, nothing that was
// acknowledged is lost, requests and grants are as they were, and what was live is
// closed in the record.
func TestKillNineAndRestart(t *testing.T) {
	t.Parallel()
	d := ownDemo(t)
	d.crashes(t, 3, func(d *demo) {
		_ = d.cmd.Process.Kill()
		<-d.ended
		out, err := exec.Command(binary, "audit", "verify", "--config", filepath.Join(d.Dir, "proxy.hcl")).CombinedOutput()
		if err != nil {
			t.Errorf("verify before the restart: %v\n%s", err, out)
		}
	})
}

// The same where the machine's power fails: what was not synced has never come to the disk
// that log, store and recordings are on.
func TestPowerFails(t *testing.T) {
	t.Parallel()
	dir, disk := withExt4(t, "audit", "gate.db", "recordings")
	demoIn(t, dir).crashes(t, 3, func(d *demo) {
		disk.LosePower(t)
		_ = d.cmd.Process.Kill() // it may have stopped by itself
		<-d.ended
		disk.Restart(t)
	})
}

// crashes has the gate crash so often at a random point under load, and looks each time
// whether the next life has what was acknowledged.
func (d *demo) crashes(t *testing.T, rounds int, crash func(*demo)) {
	t.Helper()
	grant := d.asked(t, "writer", "20m", "bob@example.com", "carol@example.com")
	by := tokens{psql: d.token(t), ssh: d.granted(t, "web-1", "deploy"), web: d.granted(t, "app", "user")}
	alice := d.signedIn(t, "alice@example.com")
	var pending session.Request
	if err := alice.call(http.MethodPost, "/api/v1/requests", `{"target":"orders","role":"reader","reason":"stays","duration":"30m"}`, &pending); err != nil {
		t.Fatal(err)
	}
	done := &acknowledged{}
	for range rounds {
		stop := make(chan struct{})
		before := map[string]int{"ssh": done.had("ssh"), "http": done.had("http")}
		busy := d.load(t, alice, by, done, stop)
		sam := d.signedIn(t, "sam@example.com")
		eventually(t, "everybody to be at work", func() bool {
			n := 0
			for _, s := range list[session.Record](t, sam, "sessions", "?state=live") {
				if s.Key.Target == "orders" {
					n++
				}
			}
			return n == 3 && done.had("ssh") > before["ssh"] && done.had("http") > before["http"]
		})
		<-time.After(time.Duration(rand.IntN(700)) * time.Millisecond)
		crash(d)
		close(stop)
		busy.Wait()
		web := d.Web
		d = demoIn(t, d.Dir)
		if d.Web != web {
			t.Fatalf("the pages moved from %s to %s", web, d.Web)
		}
		alice.d = d
		d.afterCrash(t, alice, grant, pending, done)
	}
	d.verifies(t)
	// The grant still serves.
	shown, err := d.psql(t, "writer+token", []string{"PGPASSWORD=" + by.psql}, "-c", "SELECT 'after the crash'").ends(t)
	if err != nil || !strings.Contains(shown, "after the crash") {
		t.Errorf("(%v) it shows:\n%s", err, shown)
	}
}

func (d *demo) afterCrash(t *testing.T, alice *browser, grant session.Grant, pending session.Request, done *acknowledged) {
	t.Helper()
	sam := d.signedIn(t, "sam@example.com")
	if live := list[session.Record](t, sam, "sessions", "?state=live"); len(live) != 0 {
		t.Errorf("sessions live after the crash: %+v", live)
	}
	crashed := 0
	for _, s := range list[session.Record](t, sam, "sessions", "?state=ended") {
		if s.Cause == "crashed" {
			crashed++
		}
	}
	if crashed == 0 {
		t.Error("no session is closed as crashed")
	}
	var now session.Grant
	if err := alice.call(http.MethodGet, "/api/v1/grants/"+grant.ID, "", &now); err != nil || now.State != session.GrantActive || !now.Ends.Equal(grant.Ends) {
		t.Errorf("the grant was active until %v, and is %s until %v (%v)", grant.Ends, now.State, now.Ends, err)
	}
	var r session.Request
	if err := alice.call(http.MethodGet, "/api/v1/requests/"+pending.ID, "", &r); err != nil || r.State != session.RequestPending || !r.TimesOut.Equal(pending.TimesOut) {
		t.Errorf("the pending request is %v until %v (%v)", r.State, r.TimesOut, err)
	}
	if len(done.ids) == 0 {
		t.Error("nothing was acknowledged before the crash: there was no load")
	}
	for _, id := range done.ids[max(0, len(done.ids)-20):] {
		if err := alice.call(http.MethodGet, "/api/v1/requests/"+id, "", &r); err != nil || r.State != session.RequestWithdrawn {
			t.Errorf("the acknowledged withdrawal of %s is lost: %v, %v", id, r.State, err)
		}
	}
}

func TestNobodyAnswers(t *testing.T) {
	t.Parallel()
	d := ownDemo(t, "--timeout", "1m")
	term := d.psql(t, "reader", nil, "-c", "SELECT 1")
	link, phrase := term.link(t)
	d.browser(t, "alice@example.com").confirm(t, link, phrase, nil)
	term.says(t, "waiting for 1 of")
	select {
	case <-term.ended:
	case <-time.After(2 * time.Minute):
	}
	shown, err := term.ends(t)
	if err == nil || !strings.Contains(shown, "FATAL:  sallyport: nobody answered") {
		t.Fatalf("(%v) it shows:\n%s", err, shown)
	}
}

// Class: handshake stall. Clients that connect and say nothing, or stop inside TLS,
// hold up nobody.
func TestSilentClientsHoldUpNobody(t *testing.T) {
	d := sharedDemo(t)
	d.asked(t, "reader", "5m", "bob@example.com")
	token := d.token(t)
	for _, address := range []string{d.Postgres, strings.TrimPrefix(d.Web, "https://")} {
		silent(t, address, 400, nil)
		silent(t, address, 400, []byte{0, 0, 0, 8, 4, 210, 22, 47})         // SSLRequest, then nothing
		silent(t, address, 200, []byte{22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3}) // half a ClientHello
	}
	took := stopwatch()
	shown, err := d.psql(t, "reader+token", []string{"PGPASSWORD=" + token}, "-c", "SELECT 'through'").ends(t)
	if err != nil || !strings.Contains(shown, "through") || took() > 15*time.Second {
		t.Fatalf("after %v (%v) it shows:\n%s", took(), err, shown)
	}
	d.signedIn(t, "alice@example.com")
}
