package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/sallyport/sallyport/internal/demorun"
)

// kills are lives of the gate that kill -9 ends at a random point, under load of all
// protocols. After each the record verifies, and what was acknowledged is there.
type kills struct {
	rounds, acknowledged, lost int
	latest                     time.Duration // start of the gate after a kill

	mu   sync.Mutex
	asks []string // requests whose withdrawal was acknowledged in this life
}

// perFolder is how many kills one folder sees. After each its record is verified from the
// first entry on, which takes longer the longer it is.
const perFolder = 20

// killed kills the gate so often, in folders below dir.
func (s *soak) killed(ctx context.Context, rounds int, dir string) error {
	s.kills = &kills{}
	if err := os.Mkdir(dir, 0o711); err != nil {
		return err
	}
	for s.kills.rounds < rounds {
		s.dir = filepath.Join(dir, strconv.Itoa(s.kills.rounds))
		if err := s.killedIn(ctx, min(perFolder, rounds-s.kills.rounds)); err != nil {
			return fmt.Errorf("after %d kills: %w", s.kills.rounds, err)
		}
		if err := os.RemoveAll(s.dir); err != nil {
			return err
		}
		s.say(fmt.Sprintf("%d kills: %d acknowledged requests were looked for, %d lost", s.kills.rounds, s.kills.acknowledged, s.kills.lost))
	}
	return nil
}

// killedIn kills the gate so often over one folder, and looks at the end whether it serves.
func (s *soak) killedIn(ctx context.Context, rounds int) error {
	for range rounds {
		began := time.Now()
		d, err := demorun.Start(ctx, s.binary, s.dir)
		if err != nil {
			return err
		}
		if s.kills.rounds%perFolder > 0 { // the first start makes the folder
			s.kills.latest = max(s.kills.latest, time.Since(began))
		}
		if err := s.oneLife(ctx, d); err != nil {
			return err
		}
		s.kills.rounds++
		if out, err := s.verify(ctx); err != nil {
			return fmt.Errorf("the record: %w\n%s", err, out)
		}
	}
	d, err := demorun.Start(ctx, s.binary, s.dir)
	if err != nil {
		return err
	}
	return errors.Join(s.kills.look(ctx, d), d.Stop())
}

// oneLife looks for what the life before acknowledged, and works until the kill.
func (s *soak) oneLife(ctx context.Context, d *demorun.Demo) error {
	if err := s.kills.look(ctx, d); err != nil {
		d.Kill()
		return err
	}
	work, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.work(work, d) }) // it may be killed before everybody has signed in
	wg.Go(func() { s.kills.ask(work, d) })
	pause(ctx, 500*time.Millisecond+rand.N(3*time.Second)) //nolint:gosec // when, not what
	s.dying.Store(true)                                    // what workers meet from here on is the kill's
	d.Kill()
	cancel()
	wg.Wait()
	s.dying.Store(false)
	return ctx.Err()
}

// ask makes requests and takes them back, one by one.
func (k *kills) ask(ctx context.Context, d *demorun.Demo) {
	alice, err := d.Person("alice@example.com")
	for err == nil && ctx.Err() == nil {
		var r request
		body := map[string]string{"target": "orders", "role": "writer", "reason": "kill", "ticket": "OPS-3", "duration": "8m"}
		if err = alice.Post(ctx, "/api/v1/requests", body, &r); err != nil || r.Grant != "" {
			pause(ctx, 100*time.Millisecond)
			continue
		}
		if err = alice.Post(ctx, "/api/v1/requests/"+r.ID+"/withdraw", map[string]string{}, nil); err == nil {
			k.mu.Lock()
			k.asks = append(k.asks, r.ID)
			k.mu.Unlock()
		}
	}
}

// look counts what was acknowledged and is not there.
func (k *kills) look(ctx context.Context, d *demorun.Demo) error {
	if len(k.asks) == 0 {
		return nil
	}
	alice, err := d.Person("alice@example.com")
	if err != nil {
		return err
	}
	for _, id := range k.asks[max(0, len(k.asks)-20):] {
		var r struct{ State string }
		if err := alice.Get(ctx, "/api/v1/requests/"+id, &r); err != nil || r.State != "withdrawn" {
			k.lost++
		}
		k.acknowledged++
	}
	k.asks = nil
	if k.lost > 0 {
		return fmt.Errorf("%d acknowledged requests are lost", k.lost)
	}
	return nil
}

func (s *soak) verify(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, s.binary, "audit", "verify", "--config", filepath.Join(s.dir, "proxy.hcl")).CombinedOutput()
	return string(out), err
}
