package guards

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"
)

// An Outcome is what became of one guard.
type Outcome struct {
	Guard Guard
	// Err is nil where the test noticed. Otherwise it says what is wrong: a hole, or a
	// trial that proves nothing.
	Err  error
	How  string // "fails", or "hangs" where only the time limit ended the test
	Took time.Duration
}

// A Trial turns guards off in one copy of the tree.
type Trial struct {
	Root  string        // of the module
	Limit time.Duration // for one test with a guard off; 0 means 90 s

	mu       sync.Mutex
	baseline map[string]*baseline
}

// baseline is a test's result as the tree is, found once.
type baseline struct {
	once sync.Once
	err  error
}

// Run tries one guard.
func (t *Trial) Run(ctx context.Context, g Guard) Outcome {
	began := time.Now()
	how, err := t.try(ctx, g)
	return Outcome{Guard: g, Err: err, How: how, Took: time.Since(began)}
}

// Survives tries a change that nobody may notice.
func (t *Trial) Survives(ctx context.Context, g Guard) error {
	switch r, err := t.off(ctx, g); {
	case err != nil:
		return err
	case r.failed:
		return fmt.Errorf("%s fails on a change that changes nothing:\n%s", g.Test, r.output)
	}
	return nil
}

func (t *Trial) try(ctx context.Context, g Guard) (string, error) {
	if err := t.passes(ctx, g); err != nil {
		return "", err
	}
	r, err := t.off(ctx, g)
	switch {
	case err != nil:
		return "", err
	case !r.failed:
		return "", fmt.Errorf("nobody notices: %s passes with it off", g.Test)
	case r.hung:
		return "hangs", nil
	}
	return "fails", nil
}

// passes says whether the named test runs and passes as the tree is.
func (t *Trial) passes(ctx context.Context, g Guard) error {
	key := g.Package + " " + g.Test
	t.mu.Lock()
	if t.baseline == nil {
		t.baseline = map[string]*baseline{}
	}
	b := t.baseline[key]
	if b == nil {
		b = &baseline{}
		t.baseline[key] = b
	}
	t.mu.Unlock()
	b.once.Do(func() {
		r, err := t.test(ctx, g, "")
		switch {
		case err != nil:
			b.err = err
		case r.failed:
			b.err = fmt.Errorf("%s fails with every guard on:\n%s", g.Test, r.output)
		}
	})
	return b.err
}

// off runs the named test with the guard off.
func (t *Trial) off(ctx context.Context, g Guard) (result, error) {
	data, err := g.Find(t.Root)
	if err != nil {
		return result{}, err
	}
	dir, err := os.MkdirTemp("", "guard-")
	if err != nil {
		return result{}, err
	}
	defer os.RemoveAll(dir)
	changed := filepath.Join(dir, filepath.Base(g.File))
	if err := os.WriteFile(changed, data, 0o600); err != nil {
		return result{}, err
	}
	root, err := filepath.Abs(t.Root)
	if err != nil {
		return result{}, err
	}
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {filepath.Join(root, filepath.FromSlash(g.File)): changed}})
	if err != nil {
		return result{}, err
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, overlay, 0o600); err != nil {
		return result{}, err
	}
	return t.test(ctx, g, "-overlay="+file)
}

// result is what one test did. It ran: what did not is an error.
type result struct {
	failed bool
	hung   bool
	output string
}

// test runs the guard's test and nothing else.
func (t *Trial) test(ctx context.Context, g Guard, overlay string) (result, error) {
	limit := t.Limit
	if limit == 0 {
		limit = 90 * time.Second
	}
	args := []string{"test", "-json", "-count=1", "-vet=off", "-timeout=" + limit.String(), "-run=" + pattern(g.Test)}
	if overlay != "" {
		args = append(args, overlay)
	}
	cmd := exec.CommandContext(ctx, "go", append(args, g.Package)...)
	cmd.Dir = t.Root
	// End-to-end tests build the binary themselves, with these flags.
	cmd.Env = append(os.Environ(), "SALLYPORT_TEST_BUILDFLAGS="+overlay)
	var errors bytes.Buffer
	cmd.Stderr = &errors
	out, err := cmd.Output()
	if ctx.Err() != nil {
		return result{}, ctx.Err()
	}
	r, ran := read(out, g.Test)
	if !ran {
		return result{}, fmt.Errorf("%s did not run: it does not compile, or there is no such test:\n%s%s", g.Test, errors.Bytes(), r.output)
	}
	r.failed = r.failed || err != nil
	return r, nil
}

// read takes one test's part out of go test -json.
func read(out []byte, test string) (r result, ran bool) {
	var text strings.Builder
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e struct{ Action, Test, Output string }
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			continue
		}
		switch {
		case e.Action == "output" || e.Action == "build-output":
			if text.Len() < 4000 {
				text.WriteString(e.Output)
			}
			r.hung = r.hung || strings.HasPrefix(e.Output, "panic: test timed out")
		case e.Test == test && e.Action == "run":
			ran = true
		case e.Test == test && e.Action == "fail":
			r.failed = true
		case e.Test == test && e.Action == "skip":
			ran = false
		}
	}
	r.output = text.String()
	return r, ran
}

// pattern makes a test's name match itself alone.
func pattern(test string) string {
	parts := strings.Split(test, "/")
	for i, p := range parts {
		parts[i] = "^" + regexp.QuoteMeta(p) + "$"
	}
	return strings.Join(parts, "/")
}
