package lossy

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// reader is one that can be deaf, or gone.
type reader struct {
	hears chan struct{} // closed: it reads
	mu    sync.Mutex
	takes int // bytes until it fails; below 0: it does not fail
	got   bytes.Buffer
}

var errGone = errors.New("gone")

func (r *reader) Write(p []byte) (int, error) {
	<-r.hears
	r.mu.Lock()
	defer r.mu.Unlock()
	n := len(p)
	if r.takes >= 0 {
		n = min(n, r.takes)
		r.takes -= n
	}
	r.got.Write(p[:n])
	if n < len(p) {
		return n, errGone
	}
	return n, nil
}

func (r *reader) set(takes int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.takes = takes
}

func gap(n int) []byte { return fmt.Appendf(nil, "missing %d\n", n) }

// told keeps what was said of losses.
type told struct {
	mu   sync.Mutex
	whys []error
	more chan struct{}
}

func (t *told) hears(why error) {
	t.mu.Lock()
	t.whys = append(t.whys, why)
	t.mu.Unlock()
	t.more <- struct{}{}
}

func (t *told) all() []error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.whys)
}

// Nobody waits for a reader that does not read; what it missed is counted where it is missing.
func TestDeafReaderBlocksNobody(t *testing.T) {
	r, said := &reader{hears: make(chan struct{}), takes: -1}, &told{more: make(chan struct{}, 8)}
	l := New(r, gap, said.hears)
	const many = Most + 200
	wrote := make(chan struct{})
	go func() {
		defer close(wrote)
		for i := range many {
			if _, err := fmt.Fprintf(l, "line %d\n", i); err != nil {
				t.Error(err)
			}
		}
	}()
	select {
	case <-wrote:
	case <-time.After(20 * time.Second):
		close(r.hears)
		<-wrote
		t.Fatal("whoever writes waits for the reader")
	}
	close(r.hears)
	if !l.Close(time.Minute) {
		t.Fatal("what waited is not written")
	}
	if _, err := l.Write([]byte("late\n")); err != nil {
		t.Error(err)
	}
	lines := strings.Split(strings.TrimSuffix(r.got.String(), "\n"), "\n")
	whole := len(lines) - 1
	for i, line := range lines[:whole] {
		if line != fmt.Sprintf("line %d", i) {
			t.Fatalf("line %d is %q", i, line)
		}
	}
	if want := fmt.Sprintf("missing %d", many-whole); whole < Most || lines[whole] != want {
		t.Errorf("after %d lines comes %q, want %q", whole, lines[whole], want)
	}
	if whys := said.all(); !slices.Equal(whys, []error{ErrDeaf, nil}) {
		t.Errorf("told %v", whys)
	}
}

// A write that fails is not the last: when it works again it goes on, on a line of its own.
func TestReaderThatComesBack(t *testing.T) {
	hears := make(chan struct{})
	close(hears)
	r, said := &reader{hears: hears, takes: len("one\ntw")}, &told{more: make(chan struct{}, 8)}
	l := New(r, gap, said.hears)
	for _, line := range []string{"one\n", "two\n"} {
		_, _ = l.Write([]byte(line)) // never an error
	}
	<-said.more
	_, _ = l.Write([]byte("three\n"))
	for begun := time.Now(); len(l.wait) > 0; {
		if time.Since(begun) > time.Minute {
			t.Fatal("nothing is written")
		}
		<-time.After(time.Millisecond)
	}
	r.set(-1)
	_, _ = l.Write([]byte("four\n"))
	if !l.Close(time.Minute) {
		t.Fatal("what waited is not written")
	}
	// "three" may have found the reader back.
	got := r.got.String()
	if got != "one\ntw\nmissing 2\nfour\n" && got != "one\ntw\nmissing 1\nthree\nfour\n" {
		t.Errorf("the reader has %q", got)
	}
	if whys := said.all(); len(whys) != 2 || !errors.Is(whys[0], errGone) || whys[1] != nil {
		t.Errorf("told %v", whys)
	}
}

// Close does not wait for ever, and says what became of the rest.
func TestCloseGivesUp(t *testing.T) {
	r := &reader{hears: make(chan struct{}), takes: -1}
	l := New(r, gap, nil)
	_, _ = l.Write([]byte("one\n"))
	if l.Close(0) {
		t.Error("a deaf reader has taken everything")
	}
	close(r.hears)
	if !l.Close(time.Minute) {
		t.Error("what waited is not written")
	}
}
