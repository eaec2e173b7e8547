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
	"strings"
	"sync"
	"time"

	"github.com/sallyport/sallyport/internal/demorun"
)

// kills are lives of the gate that kill -9 ends at a random point, under load of all
// protocols. After each the record verifies, and what was acknowledged is there.
type kills struct {
	rounds, acknowledged, lost int
	latest                     time.Duration // start of the gate after a kill
	promised                   promises      // in this life
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
		s.say(fmt.Sprintf("%d kills: %d acknowledged outcomes were looked for, %d lost", s.kills.rounds, s.kills.acknowledged, s.kills.lost))
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
	return errors.Join(s.kills.kept(ctx, d), d.Stop())
}

// oneLife looks for what the life before acknowledged, and works until the kill.
func (s *soak) oneLife(ctx context.Context, d *demorun.Demo) error {
	if err := s.kills.kept(ctx, d); err != nil {
		d.Kill()
		return err
	}
	work, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.work(work, d) }) // it may be killed before everybody has signed in
	wg.Go(func() { s.kills.promised.make(work, d) })
	pause(ctx, 500*time.Millisecond+rand.N(3*time.Second)) //nolint:gosec // when, not what
	s.dying.Store(true)                                    // what workers meet from here on is the kill's
	d.Kill()
	cancel()
	wg.Wait()
	s.dying.Store(false)
	return ctx.Err()
}

// kept looks for what the life before promised.
func (k *kills) kept(ctx context.Context, d *demorun.Demo) error {
	looked, lost, err := k.promised.look(ctx, d)
	k.acknowledged += looked
	k.lost += len(lost)
	if len(lost) > 0 {
		err = fmt.Errorf("lost: %s", strings.Join(lost, "; "))
	}
	return err
}

func (s *soak) verify(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, s.binary, "audit", "verify", "--config", filepath.Join(s.dir, "proxy.hcl")).CombinedOutput()
	return string(out), err
}
