// Command bench compares the gate with a direct connection to the same PostgreSQL,
// both by TLS, in one run in which the two take turns: make bench.
//
// It starts `sallyport demo` as a person would, gets a grant by the JSON API, and
// drives both paths with pgbench and psql. Absolute numbers say little on a shared
// machine; what is printed is the ratio of each round and their median.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"
)

func main() {
	binary := flag.String("binary", "bin/sallyport", "the program to measure")
	rounds := flag.Int("rounds", 5, "rounds; each drives both paths once; 0: only weigh")
	seconds := flag.Int("seconds", 4, "length of one pgbench run")
	idle := flag.Int("idle", 100, "idle sessions to weigh")
	held := flag.Int("held", 1000, "held connections to weigh")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *binary, *rounds, time.Duration(*seconds)*time.Second, *idle, *held); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, binary string, rounds int, length time.Duration, idle, held int) error {
	g, err := startGate(ctx, binary)
	if err != nil {
		return err
	}
	defer g.stop()
	direct, gated, err := g.paths(ctx)
	if err != nil {
		return err
	}
	script, err := writeScript(g.dir)
	if err != nil {
		return err
	}
	if rounds == 0 {
		return g.weigh(ctx, gated, idle, held)
	}
	fmt.Printf("gate against direct TLS, %d rounds; median ratio [min, max]; more is better but for latency and CPU\n\n", rounds)
	for _, w := range workloads(script, length) {
		r := result{name: w.name, unit: w.unit, lower: w.lower}
		for range rounds {
			d, err := w.drive(ctx, direct)
			if err != nil {
				return fmt.Errorf("%s, direct: %w", w.name, err)
			}
			before := g.cpu()
			v, err := w.drive(ctx, gated)
			if err != nil {
				return fmt.Errorf("%s, gate: %w", w.name, err)
			}
			r.add(d.value, v.value)
			if v.work > 0 {
				r.cpu = append(r.cpu, (g.cpu()-before).Seconds()*1e6/v.work)
			}
		}
		fmt.Println(r.line(w.cpuUnit))
	}
	return g.weigh(ctx, gated, idle, held)
}
