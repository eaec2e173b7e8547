package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/internal/demorun"
)

// gate is a running demo in a folder of its own.
type gate struct {
	*demorun.Demo
	dir string
}

// startGate starts a demo where PostgreSQL's user can enter.
func startGate(ctx context.Context, binary string) (*gate, error) {
	dir, err := os.MkdirTemp("", "sallyport-bench-")
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		return nil, err
	}
	demo, err := demorun.Start(ctx, binary, filepath.Join(dir, "demo"))
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return &gate{demo, dir}, nil
}

func (g *gate) stop() {
	_ = g.Stop() // how it ends is not what is measured
	_ = os.RemoveAll(g.dir)
}

var targetAddress = regexp.MustCompile(`address\s*=\s*"([^"]+)"`)

// path is a way to the same database.
type path struct{ host, port, user, password, ca string }

// paths gets Alice a grant for an hour and a token, and finds the way around the gate.
func (g *gate) paths(ctx context.Context) (direct, gated path, err error) {
	alice, err := g.Person("alice@example.com")
	if err != nil {
		return direct, gated, err
	}
	bob, err := g.Person("bob@example.com")
	if err != nil {
		return direct, gated, err
	}
	var request, decided struct{ ID, Grant string }
	if err := alice.Post(ctx, "/api/v1/requests", map[string]string{"target": "orders", "role": "reader", "reason": "benchmark", "duration": "1h"}, &request); err != nil {
		return direct, gated, err
	}
	if err := bob.Post(ctx, "/api/v1/requests/"+request.ID+"/approve", map[string]string{}, &decided); err != nil {
		return direct, gated, err
	}
	var token struct{ Token string }
	if err := alice.Post(ctx, "/api/v1/grants/"+decided.Grant+"/token", map[string]string{}, &token); err != nil {
		return direct, gated, err
	}
	_, port, err := net.SplitHostPort(g.Postgres)
	if err != nil {
		return direct, gated, err
	}
	gated = path{"localhost", port, "reader+token", token.Token, g.CA}
	dir := filepath.Join(g.dir, "demo")
	targets, err := os.ReadFile(filepath.Join(dir, "policy", "policy", "targets.hcl"))
	if err != nil {
		return direct, gated, err
	}
	password, err := os.ReadFile(filepath.Join(dir, "credentials", "orders-reader"))
	if err != nil {
		return direct, gated, err
	}
	m := targetAddress.FindSubmatch(targets)
	if m == nil {
		return direct, gated, errors.New("no address in targets.hcl")
	}
	host, port, err := net.SplitHostPort(string(m[1]))
	return path{host, port, "reader", strings.TrimSpace(string(password)), g.CA}, gated, err
}

// cpu is what the gate's process has used so far (proc_pid_stat(5), utime and stime).
func (g *gate) cpu() time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", g.PID()))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100
}

// memory is the gate's resident set in KiB.
func (g *gate) memory() (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", g.PID()))
	if err != nil {
		return 0, err
	}
	pages, err := strconv.Atoi(strings.Fields(string(text))[1])
	return float64(pages) * float64(os.Getpagesize()) / 1024, err
}
