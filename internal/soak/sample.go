package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// A sample is what the gate takes at one moment.
type sample struct {
	at     time.Duration // since the soak began
	values [7]float64    // as in measures
}

// measures are what is watched, and how much more it may be at the end than in the first
// tenth: so many times as much, and so much on top.
var measures = [7]struct {
	name, unit string
	times, on  float64
}{
	{"memory (resident set)", "MiB", 1.25, 16},
	{"file descriptors", "", 1.25, 20},
	{"threads", "", 1.5, 8},
	{"write-ahead log of the store", "MiB", 1.25, 8},
	{"temporary files", "", 1, 4},
	{"goroutines, the most there were at once", "", 1.25, 50},
	{"memory in use (live heap)", "MiB", 1.25, 8},
}

// sample watches the process until ctx ends. The first seconds of a life are left out:
// until everybody is at work they say nothing.
func (s *soak) sample(ctx context.Context, pid int) {
	pause(ctx, min(10*time.Second, s.length/50))
	tick := time.NewTicker(max(250*time.Millisecond, s.length/1000))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		v, err := s.measure(pid)
		if err != nil {
			s.failed(ctx, "sample", err)
			continue
		}
		s.mu.Lock()
		s.samples = append(s.samples, sample{time.Since(s.begun), v})
		s.mu.Unlock()
	}
}

func (s *soak) measure(pid int) (v [7]float64, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return v, err
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		n, _ := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 64)
		switch name {
		case "VmRSS":
			v[0] = n / 1024
		case "Threads":
			v[2] = n
		}
	}
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return v, err
	}
	v[1] = float64(len(fds))
	if info, err := os.Stat(filepath.Join(s.dir, "gate.db-wal")); err == nil {
		v[3] = float64(info.Size()) / (1 << 20)
	}
	if v[5], v[6], err = inside(pid); err != nil {
		return v, err
	}
	err = filepath.WalkDir(s.dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && strings.Contains(d.Name(), ".tmp") {
			v[4]++
		}
		if d != nil && d.IsDir() && d.Name() == "postgres" {
			return fs.SkipDir // not ours
		}
		return nil // what goes away meanwhile is no temporary file any more
	})
	return v, err
}
