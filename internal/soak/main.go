// Command soak keeps a gate busy for as long as it is told and looks whether it grows:
// make soak. PostgreSQL, SSH and HTTP sessions come and go under grants that are asked for,
// approved and end; some are held and hang up; the gate is stopped and killed and started
// again. At the end memory, file descriptors, threads, goroutines and the size of the store's
// write-ahead log must be what they were in the first tenth of the last life. Then crowds stand before it,
// and it is killed at random points under the same load, and the record must verify.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sallyport/sallyport/internal/demorun"
)

func main() {
	binary := flag.String("binary", "bin/sallyport", "the program to try")
	length := flag.Duration("for", time.Hour, "how long")
	rounds := flag.Int("kills", 200, "how often to kill the gate at random points afterwards")
	docs := flag.String("docs", "docs", "folder for soak.md and its plots; empty: print only")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *binary, *length, *rounds, *docs); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, binary string, length time.Duration, rounds int, docs string) error {
	dir, err := os.MkdirTemp("", "sallyport-soak-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
	if err := os.Chmod(dir, 0o711); err != nil {
		return err
	}
	s := &soak{binary: binary, dir: filepath.Join(dir, "demo"), length: length, begun: time.Now()}
	var verified string
	for _, part := range []struct {
		name string
		do   func(context.Context) error
	}{
		{fmt.Sprintf("sessions come and go for %v", length), s.lives},
		{"crowds", s.crowds},
		{"the record of all that is verified", func(ctx context.Context) (err error) { verified, err = s.verify(ctx); return err }},
		{fmt.Sprintf("%d kills", rounds), func(ctx context.Context) error { return s.killed(ctx, rounds, filepath.Join(dir, "kills")) }},
	} {
		s.say(part.name)
		err := part.do(ctx)
		if ctx.Err() != nil {
			return errors.New("interrupted")
		}
		if err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	r := s.report(verified)
	fmt.Print(r.text)
	if docs != "" {
		if err := r.write(docs); err != nil {
			return err
		}
	}
	return r.err
}

// A soak is one run.
type soak struct {
	binary, dir string
	length      time.Duration
	begun       time.Time

	crowded []crowd
	kills   *kills      // nil until they begin
	dying   atomic.Bool // by kill -9, now

	mu      sync.Mutex
	last    time.Duration // when the last life began, since the soak did
	samples []sample
	counts  map[string]int
	latest  time.Duration // of a cut behind its grant's end
	errs    map[string]met
}

// met is how often an error came, and when first, since the soak began.
type met struct {
	times int
	first time.Duration
}

// say tells whoever waits for the end how far it is.
func (s *soak) say(what string) {
	fmt.Fprintf(os.Stderr, "%7s  %s\n", time.Since(s.begun).Round(time.Second), what)
}

// restarts is how often the gate ends and starts again: in turn by Ctrl-C and by kill -9.
// Each life before has a part of the time, and the last all the rest: what grows over hours
// grows in one process.
const (
	restarts = 4
	part     = 20
)

// lives runs the gate several times over the same folder.
func (s *soak) lives(ctx context.Context) error {
	for life := range restarts + 1 {
		until := s.begun.Add(s.length)
		if life < restarts {
			until = s.begun.Add(s.length * time.Duration(life+1) / part)
		}
		s.mu.Lock()
		s.last = time.Since(s.begun)
		s.mu.Unlock()
		d, err := demorun.Start(ctx, s.binary, s.dir)
		if err != nil {
			return err
		}
		work, cancel := context.WithDeadline(ctx, until)
		err = s.work(work, d)
		cancel()
		if life%2 == 1 && life < restarts {
			d.Kill()
		} else if stopped := d.Stop(); stopped != nil && ctx.Err() == nil {
			err = errors.Join(err, fmt.Errorf("stop: %w; it said: %s", stopped, d.Said()))
		}
		if err != nil || ctx.Err() != nil {
			return err
		}
		s.count(lives)
		s.mu.Lock()
		n := s.counts
		s.say(fmt.Sprintf("life %d of %d: %d PostgreSQL and %d SSH sessions, %d grants", life+1, restarts+1, n[postgresSessions], n[sshSessions], n["grants"]))
		s.mu.Unlock()
	}
	return nil
}

// What is counted and told of elsewhere too.
const (
	postgresSessions = "PostgreSQL sessions"
	sshSessions      = "SSH sessions"
	lives            = "lives of the gate"
)

// count counts what the churn did; what a killed life did stands with the kills.
func (s *soak) count(what string) {
	if s.kills != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.counts == nil {
		s.counts = map[string]int{}
	}
	s.counts[what]++
}

var identifier = regexp.MustCompile(`/[0-9A-Za-z]{22}/`)

// failed notes an error of a worker. Around a stop they are no surprise.
func (s *soak) failed(ctx context.Context, what string, err error) {
	if ends, ok := ctx.Deadline(); ctx.Err() != nil || s.dying.Load() || ok && time.Until(ends) < time.Second {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.errs == nil {
		s.errs = map[string]met{}
	}
	said := what + ": " + identifier.ReplaceAllString(err.Error(), "/ID/")
	m, again := s.errs[said]
	if !again {
		m.first = time.Since(s.begun)
	}
	m.times++
	s.errs[said] = m
}

// cutWithin is how long after its end a grant's session may live, on a machine on which
// everybody else is at work too.
const cutWithin = 3 * time.Second

// cut notes how a session ended that was to be cut at an instant with these words.
func (s *soak) cut(ctx context.Context, at time.Time, words string, err error) {
	late := time.Since(at)
	const what = "a session that is to be cut"
	switch {
	case err == nil:
		s.failed(ctx, what, errors.New("it was not"))
		return
	case !strings.Contains(err.Error(), words):
		s.failed(ctx, what, fmt.Errorf("not by %q: %w", words, err))
		return
	case late < 0, late > cutWithin:
		s.failed(ctx, what, fmt.Errorf("it is cut %v late", late))
	}
	s.count("sessions cut with words: " + words)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.latest = max(s.latest, late)
}
