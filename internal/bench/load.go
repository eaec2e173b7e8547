package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"time"
)

// A measure is one run's figure, and how much work the gate's CPU time is spread over.
type measure struct{ value, work float64 }

// A workload drives one path once.
type workload struct {
	name, unit string
	lower      bool // less is better
	cpuUnit    string
	drive      func(ctx context.Context, p path) (measure, error)
}

// writeScript is pgbench's -S on the demo's own table.
func writeScript(dir string) (string, error) {
	name := filepath.Join(dir, "select.sql")
	return name, os.WriteFile(name, []byte("\\set id random(1, 500)\nselect state from orders where id = :id;\n"), 0o600)
}

func workloads(script string, length time.Duration) []workload {
	rows := "select i, md5(i::text), i * 2 from generate_series(1, 400000) i"
	wide := "select i, repeat('x', 50000) from generate_series(1, 2000) i"
	return []workload{
		pgbench("select, simple, 8 clients", script, length, "tps", "-c8", "-j2"),
		pgbench("select, prepared, 8 clients", script, length, "tps", "-c8", "-j2", "-Mprepared"),
		pgbench("select, simple, 1 client", script, length, "latency average", "-c1"),
		pgbench("select, prepared, 1 client", script, length, "latency average", "-c1", "-Mprepared"),
		pgbench("new connections, 2 clients", script, length, "tps", "-C", "-c2", "-j2"),
		copyOut("COPY out, small rows", rows),
		copyOut("COPY out, 50 kB rows", wide),
		copyIn("COPY in, small rows", rows),
	}
}

var (
	pgbenchTPS     = regexp.MustCompile(`(?m)^tps = ([0-9.]+)`)
	pgbenchLatency = regexp.MustCompile(`(?m)^latency average = ([0-9.]+) ms`)
	pgbenchCount   = regexp.MustCompile(`(?m)^number of transactions actually processed: ([0-9]+)`)
)

func pgbench(name, script string, length time.Duration, of string, args ...string) workload {
	w := workload{name: name, unit: "/s", cpuUnit: "us CPU/tx"}
	figure := pgbenchTPS
	if of != "tps" {
		w.unit, w.lower, figure = "ms", true, pgbenchLatency
	}
	args = append([]string{"-n", "-f", script, "-T", strconv.Itoa(int(length.Seconds()))}, args...)
	w.drive = func(ctx context.Context, p path) (measure, error) {
		out, err := p.command(ctx, "pgbench", append(args, "orders")...).CombinedOutput()
		if err != nil {
			return measure{}, fmt.Errorf("pgbench: %w: %s", err, out)
		}
		value, err1 := number(figure, out)
		count, err2 := number(pgbenchCount, out)
		if err1 != nil || err2 != nil {
			return measure{}, fmt.Errorf("pgbench said %s", out)
		}
		return measure{value, count}, nil
	}
	return w
}

func number(r *regexp.Regexp, text []byte) (float64, error) {
	m := r.FindSubmatch(text)
	if m == nil {
		return 0, fmt.Errorf("no %s", r)
	}
	return strconv.ParseFloat(string(m[1]), 64)
}

// copyOut counts the bytes that arrive.
func copyOut(name, query string) workload {
	w := workload{name: name, unit: "MB/s", cpuUnit: "us CPU/MB"}
	w.drive = func(ctx context.Context, p path) (measure, error) {
		cmd := p.command(ctx, "psql", "-Xqd", "orders", "-c", "copy ("+query+") to stdout")
		counted := &counter{}
		cmd.Stdout = counted
		began := time.Now()
		if err := cmd.Run(); err != nil {
			return measure{}, fmt.Errorf("psql: %w", err)
		}
		mb := float64(counted.n) / 1e6
		return measure{mb / time.Since(began).Seconds(), mb}, nil
	}
	return w
}

type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}

// copyIn loads what copyOut of the same path gives into a temporary table.
func copyIn(name, query string) workload {
	w := workload{name: name, unit: "MB/s", cpuUnit: "us CPU/MB"}
	w.drive = func(ctx context.Context, p path) (measure, error) {
		out, err := p.command(ctx, "psql", "-Xqd", "orders", "-c", "copy ("+query+") to stdout").Output()
		if err != nil {
			return measure{}, fmt.Errorf("psql: %w", err)
		}
		file, err := os.CreateTemp("", "sallyport-bench-copy-")
		if err != nil {
			return measure{}, err
		}
		defer os.Remove(file.Name()) //nolint:errcheck // a temporary file
		if _, err := file.Write(out); err != nil {
			return measure{}, err
		}
		if err := file.Close(); err != nil {
			return measure{}, err
		}
		began := time.Now()
		said, err := p.command(ctx, "psql", "-Xqd", "orders", "-c", "create temp table t (a bigint, b text, c bigint)",
			"-c", "\\copy t from '"+file.Name()+"'").CombinedOutput()
		if err != nil {
			return measure{}, fmt.Errorf("psql: %w: %s", err, said)
		}
		mb := float64(len(out)) / 1e6
		return measure{mb / time.Since(began).Seconds(), mb}, nil
	}
	return w
}

// command is a client's, with the path in its environment.
func (p path) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "PGHOST="+p.host, "PGPORT="+p.port, "PGUSER="+p.user, "PGPASSWORD="+p.password,
		"PGSSLMODE=verify-full", "PGSSLROOTCERT="+p.ca)
	return cmd
}
