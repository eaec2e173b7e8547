package guards

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
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
	How  string // "fails", "hangs" where only the time limit ended the test, or "fails at times"
	Took time.Duration
}

// A Trial turns guards off in one copy of the tree.
type Trial struct {
	Root   string        // of the module
	Guards []Guard       // all that may be tried: their tests are first run as the tree is
	Limit  time.Duration // for one test with a guard off; 0 means 90 s

	mu       sync.Mutex
	baseline map[string]*baseline // by package
}

// baseline is what a package's tests do as the tree is, found once.
type baseline struct {
	once  sync.Once
	tests map[string]result // those that ran
	said  string
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
	case r.hung:
		return "hangs", nil
	case r.failed:
		return "fails", nil
	}
	// What two goroutines race for may be lost once, on a busy machine. The page says so.
	if r, err = t.off(ctx, g); err == nil && r.failed {
		return "fails at times", nil
	}
	return "", errors.Join(err, fmt.Errorf("nobody notices: %s passes twice with it off", g.Test))
}

// passes says whether the named test runs and passes as the tree is: among its package's
// others or, where it did not, once more by itself.
func (t *Trial) passes(ctx context.Context, g Guard) error {
	t.mu.Lock()
	if t.baseline == nil {
		t.baseline = map[string]*baseline{}
	}
	b := t.baseline[g.Package]
	if b == nil {
		b = &baseline{}
		t.baseline[g.Package] = b
	}
	t.mu.Unlock()
	b.once.Do(func() {
		var names []string
		for _, other := range t.Guards {
			if name, _, _ := strings.Cut(other.Test, "/"); other.Package == g.Package && !slices.Contains(names, regexp.QuoteMeta(name)) {
				names = append(names, regexp.QuoteMeta(name))
			}
		}
		b.tests, b.said = t.test(ctx, g.Package, "^("+strings.Join(names, "|")+")$", "", len(names))
	})
	r, ran := b.tests[g.Test]
	said := b.said
	if r.failed {
		var again map[string]result
		if again, said = t.test(ctx, g.Package, pattern(g.Test), "", 1); ctx.Err() == nil {
			r, ran = again[g.Test]
		}
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case !ran:
		return fmt.Errorf("%s did not run: it does not compile, or there is no such test:\n%s", g.Test, said)
	case r.failed:
		return fmt.Errorf("%s fails with every guard on:\n%s", g.Test, said)
	}
	return nil
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
	tests, said := t.test(ctx, g.Package, pattern(g.Test), "-overlay="+file, 1)
	if ctx.Err() != nil {
		return result{}, ctx.Err()
	}
	r, ran := tests[g.Test]
	if !ran {
		return result{}, fmt.Errorf("%s did not run with it off: it does not compile, or there is no such test:\n%s", g.Test, said)
	}
	r.output = said
	return r, nil
}

// result is what one test did.
type result struct {
	failed bool
	hung   bool
	output string
}

// test runs some tests of a package and gives what each that ran did, and what was said.
func (t *Trial) test(ctx context.Context, pkg, pattern, overlay string, n int) (map[string]result, string) {
	limit := t.Limit
	if limit == 0 {
		limit = 90 * time.Second
	}
	args := []string{"test", "-json", "-count=1", "-vet=off", "-ldflags=-w", "-timeout=" + (limit * time.Duration(n)).String(), "-run=" + pattern}
	if overlay != "" {
		args = append(args, overlay)
	}
	cmd := exec.CommandContext(ctx, "go", append(args, pkg)...)
	cmd.Dir = t.Root
	// End-to-end tests build the binary themselves, with these flags.
	cmd.Env = append(os.Environ(), "SALLYPORT_TEST_BUILDFLAGS="+overlay)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	tests, said := read(out)
	if err != nil {
		said = err.Error() + "\n" + complaint.String() + said
	}
	return tests, said
}

// read takes what go test -json says. A test that began and of which nothing more is
// said has failed: its process ended under it.
func read(out []byte) (map[string]result, string) {
	var text strings.Builder
	tests := map[string]result{}
	hung := false
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e struct{ Action, Test, Output string }
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			continue
		}
		switch e.Action {
		case "output", "build-output":
			if text.Len() < 4000 {
				text.WriteString(e.Output)
			}
			hung = hung || strings.HasPrefix(e.Output, "panic: test timed out")
		case "run", "fail":
			tests[e.Test] = result{failed: true}
		case "pass":
			tests[e.Test] = result{}
		case "skip":
			delete(tests, e.Test)
		}
	}
	for name, r := range tests {
		r.hung = hung && r.failed
		tests[name] = r
	}
	return tests, text.String()
}

// pattern makes a test's name match itself alone.
func pattern(test string) string {
	parts := strings.Split(test, "/")
	for i, p := range parts {
		parts[i] = "^" + regexp.QuoteMeta(p) + "$"
	}
	return strings.Join(parts, "/")
}
