// Command run turns the guards off one by one and demands that their tests notice.
//
//	go run ./internal/guards/run [--all | --untried | --changed BASE --tenth N | NAME ...] [--write PAGE]
//
// A check has --within for the tenth, and --most for all of it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sallyport/sallyport/internal/guards"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "guards:", err)
		os.Exit(1)
	}
}

type options struct {
	all     bool
	untried bool
	changed string
	tenth   int
	within  time.Duration // for the rotating tenth
	most    time.Duration // for all
	jobs    int
	write   string
	names   []string
}

func parse(args []string) (options, error) {
	var o options
	f := flag.NewFlagSet("guards", flag.ContinueOnError)
	f.BoolVar(&o.all, "all", false, "try every guard")
	f.BoolVar(&o.untried, "untried", false, "try the guards that nobody has noticed yet by the page of --write")
	f.StringVar(&o.changed, "changed", "", "try the guards that changed since this commit")
	f.IntVar(&o.tenth, "tenth", -1, "try every tenth guard, beginning with this one (of ten); with --changed, these too")
	f.DurationVar(&o.within, "within", 0, "begin no trial of the tenth after this time; which ones are reached differs from day to day")
	f.DurationVar(&o.most, "most", 0, "begin no trial after this time, of those that changed neither")
	f.IntVar(&o.jobs, "jobs", runtime.NumCPU(), "trials at once")
	f.StringVar(&o.write, "write", "", "write the outcomes to this page, whose other rows stay")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	o.names = f.Args()
	if !o.all && !o.untried && o.changed == "" && o.tenth < 0 && len(o.names) == 0 {
		return o, errors.New("say which: --all, --untried, --changed BASE, --tenth N, or names")
	}
	if o.untried && o.write == "" {
		return o, errors.New("--untried needs --write PAGE")
	}
	return o, nil
}

// chosen are the guards of a run: those that must be tried come first.
type chosen struct {
	guards []guards.Guard
	must   int
}

func choose(o options) (chosen, error) {
	all := guards.All()
	if o.changed != "" || o.tenth >= 0 {
		return changedAndTenth(all, o)
	}
	some, err := named(all, o)
	return chosen{some, len(some)}, err
}

func named(all []guards.Guard, o options) ([]guards.Guard, error) {
	switch {
	case o.all:
		return all, nil
	case o.untried:
		page, err := os.ReadFile(o.write)
		return guards.Untried(page, all), err
	}
	var some []guards.Guard
	for _, name := range o.names {
		found := guards.Named(all, name)
		if len(found) == 0 {
			return nil, fmt.Errorf("no guard is called %s", name)
		}
		some = append(some, found...)
	}
	return some, nil
}

// changedAndTenth is what a check tries: what was touched, then some of the rest.
func changedAndTenth(all []guards.Guard, o options) (chosen, error) {
	var c chosen
	if o.changed != "" {
		changed, err := guards.Changed(all, ".", o.changed)
		if err != nil {
			return c, err
		}
		inADaysOrder(changed, o.most)
		c = chosen{changed, len(changed)}
	}
	if o.tenth >= 0 {
		var rest []guards.Guard
		for _, g := range guards.Tenth(all, o.tenth) {
			if !slices.Contains(c.guards, g) {
				rest = append(rest, g)
			}
		}
		inADaysOrder(rest, o.within)
		c.guards = append(c.guards, rest...)
	}
	return c, nil
}

// inADaysOrder puts them in another order each day, where there may be no time for all.
func inADaysOrder(some []guards.Guard, limit time.Duration) {
	if limit > 0 {
		guards.Shuffle(some, uint64(time.Now().Unix()/86400))
	}
}

func run(ctx context.Context, args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	some, err := choose(o)
	if err != nil {
		return err
	}
	if len(some.guards) == 0 && o.write == "" {
		fmt.Println("guards: none changed")
		return nil
	}
	trial := &guards.Trial{Root: ".", Guards: some.guards}
	if err := trial.Survives(ctx, guards.Canary()); err != nil {
		return fmt.Errorf("canary: %w", err)
	}
	fmt.Println("canary: survives")
	began := time.Now()
	outcomes := try(ctx, trial, some, o)
	var bad []guards.Outcome
	for _, out := range outcomes {
		if out.Err != nil {
			bad = append(bad, out)
		}
	}
	if o.write != "" {
		before, err := os.ReadFile(o.write)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if err := os.WriteFile(o.write, guards.Page(before, guards.All(), outcomes, time.Since(began)), 0o644); err != nil {
			return err
		}
	}
	if missed := some.must - len(outcomes); missed > 0 {
		fmt.Printf("guards: there was no time for %d; make guards tries all\n", missed)
	}
	fmt.Printf("guards: %d of %d tried in %s, %d bad\n", len(outcomes), len(some.guards), time.Since(began).Round(time.Second), len(bad))
	if len(bad) > 0 {
		for _, out := range bad {
			say(out) // again, since of a long log only the end is read
		}
		return fmt.Errorf("%d guards are not noticed by their tests", len(bad))
	}
	return ctx.Err()
}

// try runs the trials, some at once, and prints each as it ends. The outcomes are in the
// guards' own order.
func try(ctx context.Context, trial *guards.Trial, some chosen, o options) []guards.Outcome {
	began := time.Now()
	next := make(chan guards.Guard)
	var mu sync.Mutex
	outcomes := map[string]guards.Outcome{}
	var wait sync.WaitGroup
	for range max(1, o.jobs) {
		wait.Go(func() {
			for g := range next {
				out := trial.Run(ctx, g)
				mu.Lock()
				outcomes[g.Name] = out
				say(out)
				mu.Unlock()
			}
		})
	}
	for i, g := range some.guards {
		if ctx.Err() != nil || o.most > 0 && time.Since(began) > o.most {
			break
		}
		if i >= some.must && o.within > 0 && time.Since(began) > o.within {
			break
		}
		next <- g
	}
	close(next)
	wait.Wait()
	var out []guards.Outcome
	for _, g := range some.guards {
		if o, ok := outcomes[g.Name]; ok {
			out = append(out, o)
		}
	}
	return out
}

func say(o guards.Outcome) {
	if o.Err == nil {
		fmt.Printf("ok    %-50s %s %s (%.1f s)\n", o.Guard.Name, o.Guard.Test, o.How, o.Took.Seconds())
		return
	}
	fmt.Printf("BAD   %-50s %s\n", o.Guard.Name, strings.ReplaceAll(strings.TrimSpace(o.Err.Error()), "\n", "\n      "))
}
