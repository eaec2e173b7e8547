package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport/sallyport/internal/lossy"
)

const testOrigin = "gate.test/audit"

func newLogDir(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "audit")
	if err := Init(dir, testOrigin); err != nil {
		t.Fatal(err)
	}
	return dir
}

func openLog(t testing.TB, c Config) *Log {
	t.Helper()
	if c.Node == "" {
		c.Node = "a"
	}
	l, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func encode(t testing.TB, l *Log, counter uint64, e Event) Pending {
	t.Helper()
	p, err := l.Encode(e, counter)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// fill appends n entries to the outbox stream, one call each.
func fill(t testing.TB, l *Log, n int) {
	t.Helper()
	for range n {
		c := l.Counter() + 1
		p := encode(t, l, c, Event{Type: SignedIn, Actor: "iss#alice", Body: map[string]any{"n": c, "name": "Alice"}})
		if _, err := l.Append(t.Context(), []Pending{p}); err != nil {
			t.Fatal(err)
		}
	}
}

func verify(t testing.TB, dir string, o VerifyOptions) Report {
	t.Helper()
	r, err := Verify(t.Context(), dir, o)
	if err != nil {
		t.Fatalf("%v; %v", err, r.Findings)
	}
	return r
}

func mustVerify(t testing.TB, dir string, o VerifyOptions) Report {
	t.Helper()
	r := verify(t, dir, o)
	if r.Exit() != 0 {
		t.Fatalf("verdict %s: %v %v", r.Verdict(), r.Findings, r.Problems)
	}
	return r
}

func TestLogKeepsWhatIsAppended(t *testing.T) {
	dir := newLogDir(t)
	l := openLog(t, Config{Dir: dir})
	ps := []Pending{
		encode(t, l, 1, Event{Type: RequestCreated, Actor: "iss#alice", Request: "r1", Policy: PolicyRef{Version: 7, Digest: "sha256:00", Rule: "orders-read", At: "prod.hcl:3"}, Body: map[string]string{"reason": "INC-42 <stuck> order"}}),
		encode(t, l, 2, Event{Type: ApprovalGiven, Actor: "iss#bob", Request: "r1"}),
		encode(t, l, 3, Event{Type: RequestApproved, Actor: "iss#bob", Request: "r1"}),
	}
	first, err := l.Append(t.Context(), ps)
	if err != nil || first != 0 {
		t.Fatalf("Append = %d, %v", first, err)
	}
	index, err := l.Record(t.Context(), Event{Type: NodeAlive, Actor: "gate"})
	if err != nil || index != 3 {
		t.Fatalf("Record = %d, %v", index, err)
	}
	check := func(l *Log) {
		t.Helper()
		entries, err := l.Entries(t.Context(), 0, 10)
		if err != nil || len(entries) != 4 {
			t.Fatalf("%d entries, %v", len(entries), err)
		}
		e := entries[0]
		if e.Type != RequestCreated || e.Request != "r1" || e.Node != "a" || e.Counter != 1 || e.Policy.Rule != "orders-read" ||
			e.Actor != l.Pseudonym("iss#alice") || !bytes.Equal(e.Raw, ps[0].Leaf) {
			t.Errorf("entry 0 is %+v", e)
		}
		var body struct{ Reason string }
		if err := json.Unmarshal(e.Body, &body); err != nil || body.Reason != "INC-42 <stuck> order" {
			t.Errorf("body %s, %v", e.Body, err)
		}
		if entries[3].Node != "a/direct" || entries[3].Counter != 1 {
			t.Errorf("entry 3 is %+v", entries[3])
		}
		if s := l.State(); s.Size != 4 || s.Origin != testOrigin {
			t.Errorf("state %+v", s)
		}
	}
	check(l)
	if strings.Contains(string(ps[0].Leaf), "alice") || strings.Contains(string(ps[0].Leaf), "INC") {
		t.Errorf("the leaf holds personal data: %s", ps[0].Leaf)
	}
	root := l.State().Root
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	r := mustVerify(t, dir, VerifyOptions{})
	if r.Size != 4 || r.Root != root {
		t.Errorf("report %+v", r)
	}
	l = openLog(t, Config{Dir: dir})
	check(l)
	if l.Counter() != 3 {
		t.Errorf("counter %d", l.Counter())
	}
}

func TestNothingIsLoggedTwice(t *testing.T) {
	l := openLog(t, Config{Dir: newLogDir(t)})
	var ps []Pending
	for c := range uint64(5) {
		ps = append(ps, encode(t, l, c+1, Event{Type: SignedIn}))
	}
	for _, step := range []struct {
		from, to int
		first    int64
	}{{0, 3, 0}, {0, 3, -1}, {1, 5, 3}, {0, 5, -1}} {
		first, err := l.Append(t.Context(), ps[step.from:step.to])
		if err != nil || first != step.first {
			t.Errorf("rows %d to %d: first %d, %v; want %d", step.from, step.to, first, err, step.first)
		}
	}
	if s := l.State(); s.Size != 5 {
		t.Errorf("%d entries for 5 rows", s.Size)
	}
}

func TestGapInOutboxIsRefused(t *testing.T) {
	dir := newLogDir(t)
	l := openLog(t, Config{Dir: dir})
	fill(t, l, 2)
	_, err := l.Append(t.Context(), []Pending{encode(t, l, 4, Event{Type: SignedIn})})
	if !errors.Is(err, ErrGap) {
		t.Errorf("a gap gives %v", err)
	}
	fill(t, l, 1)
	if s := l.State(); s.Size != 3 || l.Err() != nil {
		t.Errorf("the log stands at %d, %v", s.Size, l.Err())
	}
	_ = l.Close()
	mustVerify(t, dir, VerifyOptions{})
}

func TestForgedOutboxRowIsRefused(t *testing.T) {
	l := openLog(t, Config{Dir: newLogDir(t)})
	other := openLog(t, Config{Dir: newLogDir(t), Node: "b"})
	good := encode(t, l, 1, Event{Type: SignedIn, Body: "x"})
	forged := map[string]Pending{
		"body":      {1, good.Leaf, append(bytes.Clone(good.Body[:len(good.Body)-1]), '!')},
		"no salt":   {1, bytes.Replace(good.Leaf, []byte(bodyHash(good.Body)), []byte(bodyHash(good.Body[:10])), 1), good.Body[:10]},
		"counter":   {1, encode(t, l, 2, Event{Type: SignedIn}).Leaf, good.Body},
		"node":      encode(t, other, 1, Event{Type: SignedIn}),
		"spaces":    {1, bytes.Replace(good.Leaf, []byte(`,"time"`), []byte(`, "time"`), 1), good.Body},
		"unknown":   {1, bytes.Replace(good.Leaf, []byte(`{"id"`), []byte(`{"x":1,"id"`), 1), good.Body},
		"order":     {1, bytes.Replace(good.Leaf, []byte(`"counter":1,"type":"user.signed-in"`), []byte(`"type":"user.signed-in","counter":1`), 1), good.Body},
		"no object": {1, []byte("null"), good.Body},
	}
	for name, p := range forged {
		if _, err := l.Append(t.Context(), []Pending{p}); !errors.Is(err, ErrForged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := l.Append(t.Context(), []Pending{good}); err != nil {
		t.Error(err)
	}
}

func TestLogIsWrittenByOneProcess(t *testing.T) {
	dir := newLogDir(t)
	l := openLog(t, Config{Dir: dir})
	if _, err := Open(Config{Dir: dir, Node: "a"}); !errors.Is(err, ErrLocked) {
		t.Errorf("the second Open gives %v", err)
	}
	_ = l.Close()
	openLog(t, Config{Dir: dir})
}

func TestOpenRefusesWhatIsNoLog(t *testing.T) {
	if _, err := Open(Config{Dir: filepath.Join(t.TempDir(), "x"), Node: "a"}); !errors.Is(err, ErrNoLog) || !strings.Contains(err.Error(), "sallyport audit init") {
		t.Error(err)
	}
	if _, err := Open(Config{Dir: t.TempDir(), Node: "a"}); !errors.Is(err, ErrNoLog) {
		t.Error(err)
	}
	dir := newLogDir(t)
	if _, err := Open(Config{Dir: dir, Node: "a", Origin: "other"}); err == nil || !strings.Contains(err.Error(), "origin") {
		t.Error(err)
	}
	if _, err := Open(Config{Dir: dir, Node: "a/b"}); err == nil || !strings.Contains(err.Error(), "no name for a node") {
		t.Error(err)
	}
	if err := Init(dir, testOrigin); err == nil || !strings.Contains(err.Error(), "there is a log already") {
		t.Error(err)
	}
	meta := readFile(t, dir, fileMeta)
	writeFile(t, bytes.Replace(meta, []byte(`"version":1`), []byte(`"version":2`), 1), dir, fileMeta)
	if _, err := Open(Config{Dir: dir, Node: "a"}); err == nil || !strings.Contains(err.Error(), "this program reads version 1") {
		t.Error(err)
	}
	if err := os.Remove(filepath.Join(dir, fileMeta)); err != nil {
		t.Fatal(err)
	}
	if err := Init(dir, testOrigin); err == nil || !strings.Contains(err.Error(), "there is a log's key already") {
		t.Error(err)
	}
	for _, origin := range []string{"", "a b", "a+b", "a\nb"} {
		if err := Init(filepath.Join(t.TempDir(), "l"), origin); err == nil || !strings.Contains(err.Error(), "is no origin") {
			t.Errorf("origin %q: %v", origin, err)
		}
	}
}

func TestKeysAreForTheOwnerAlone(t *testing.T) {
	for _, name := range []string{fileKey, filePseudonym} {
		dir := newLogDir(t)
		chmod(t, filepath.Join(dir, name), 0o640)
		if _, err := Open(Config{Dir: dir, Node: "a"}); err == nil || !strings.Contains(err.Error(), "can be read by others") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEncodeRefuses(t *testing.T) {
	l := openLog(t, Config{Dir: newLogDir(t)})
	for name, e := range map[string]Event{
		"no type":         {},
		"type":            {Type: "a b"},
		"session":         {Type: SignedIn, Session: "../x"},
		"newline":         {Type: SignedIn, Request: "a\nb"},
		"long identifier": {Type: SignedIn, Grant: strings.Repeat("a", 200)},
		"long leaf":       {Type: SignedIn, Policy: PolicyRef{Rule: strings.Repeat("r", MaxLeaf)}},
		"long body":       {Type: SignedIn, Body: strings.Repeat("b", MaxBody)},
		"no JSON":         {Type: SignedIn, Body: func() {}},
	} {
		if _, err := l.Encode(e, 1); err == nil || !strings.Contains(err.Error(), "audit event") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBodyIsSafeOnTerminals(t *testing.T) {
	l := openLog(t, Config{Dir: newLogDir(t)})
	p := encode(t, l, 1, Event{Type: SignedIn, Body: map[string]string{"reason": "a\x1b[2J\u009b2J\x7f\u00e9\u00c2"}})
	text := string(p.Body[saltSize:])
	for _, c := range []string{"\x1b", "\u009b", "\x7f"} {
		if strings.Contains(text, c) {
			t.Errorf("%q is in %q", c, text)
		}
	}
	var got map[string]string
	if err := json.Unmarshal([]byte(text), &got); err != nil || got["reason"] != "a\x1b[2J\u009b2J\x7f\u00e9\u00c2" {
		t.Errorf("%q reads as %q, %v", text, got["reason"], err)
	}
}

func TestManyWritersAtOnce(t *testing.T) {
	dir := newLogDir(t)
	l := openLog(t, Config{Dir: dir})
	var wg sync.WaitGroup
	seen := make([]int64, 400)
	for w := range 8 {
		wg.Go(func() {
			for i := range 50 {
				index, err := l.Record(t.Context(), Event{Type: RefusalsCounted, Body: i})
				if err != nil {
					t.Error(err)
					return
				}
				seen[w*50+i] = index
			}
		})
	}
	wg.Wait()
	found := map[int64]bool{}
	for _, index := range seen {
		found[index] = true
	}
	if len(found) != 400 {
		t.Errorf("%d different places for 400 entries", len(found))
	}
	_ = l.Close()
	if r := mustVerify(t, dir, VerifyOptions{}); r.Size != 400 || r.Tiles == 0 {
		t.Errorf("%+v", r)
	}
}

func TestAppendAfterCloseAndCancel(t *testing.T) {
	l := openLog(t, Config{Dir: newLogDir(t)})
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("gone"))
	if _, err := l.Record(ctx, Event{Type: NodeAlive}); err != nil && err.Error() != "gone" {
		t.Error(err)
	}
	_ = l.Close()
	if _, err := l.Record(t.Context(), Event{Type: NodeAlive}); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	if _, err := l.Entries(t.Context(), 0, 1); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}

func TestSilenceIsSealed(t *testing.T) {
	dir := newLogDir(t)
	synctest.Test(t, func(t *testing.T) {
		l, err := Open(Config{Dir: dir, Node: "a", Alive: 10 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(35 * time.Second) // of the bubble's clock
		synctest.Wait()
		entries, err := l.Entries(t.Context(), 0, 10)
		if err != nil || len(entries) != 3 || entries[2].Type != NodeAlive || !strings.Contains(string(entries[2].Body), `"counter":0`) {
			t.Errorf("%v, %v", entries, err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
}

// deaf is a collector that does not read until it is told to.
type deaf struct {
	listen chan struct{}
	mu     sync.Mutex
	got    bytes.Buffer
}

func (d *deaf) Write(p []byte) (int, error) {
	<-d.listen
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.got.Write(p)
}

func TestDeafCollectorBlocksNobody(t *testing.T) {
	d := &deaf{listen: make(chan struct{})}
	l := openLog(t, Config{Dir: newLogDir(t), Mirror: d})
	const more = 100
	var ps []Pending
	for c := range uint64(lossy.Most + more) {
		ps = append(ps, encode(t, l, c+1, Event{Type: SignedIn, Body: map[string]string{"who": "alice"}}))
	}
	if _, err := l.Append(t.Context(), ps); err != nil {
		t.Fatal(err)
	}
	close(d.listen)
	_ = l.Close()
	if !l.mirror.lines.Close(time.Minute) { // a slow machine takes longer than Close waits
		t.Fatal("the collector has not read everything")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(d.got.String()), "\n")
	var gap int
	for i, line := range lines {
		var e struct {
			Index int64
			Gap   int
			Type  string
			Body  map[string]any
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("line %d: %v: %s", i, err, line)
		}
		gap += e.Gap
		if i == 0 && (e.Index != 0 || e.Type != SignedIn || e.Body["who"] != "alice") {
			t.Errorf("the first line is %s", line)
		}
	}
	if gap == 0 || gap+len(lines)-1 != lossy.Most+more {
		t.Errorf("%d lines and a gap of %d", len(lines), gap)
	}
}

func TestLeafReadersAgree(t *testing.T) {
	l := openLog(t, Config{Dir: newLogDir(t)})
	for i, e := range []Event{
		{Type: NodeAlive},
		{Type: SignedIn, Actor: "x", Session: "s", Request: "r", Grant: "g", Policy: PolicyRef{Version: 1, Digest: "d", Rule: "r", At: "f:1"}},
		{Type: SignedIn, Policy: PolicyRef{Rule: "ünï"}},
		{Type: SignedIn, Policy: PolicyRef{Rule: "a\"b\\c<d>"}},
		{Type: SignedIn, Policy: PolicyRef{At: "f:1"}},
	} {
		p := encode(t, l, uint64(i+1), e)
		f, err := parseLeaf(p.Leaf)
		if err != nil {
			t.Fatalf("%s: %v", p.Leaf, err)
		}
		again, err := json.Marshal(f)
		if err != nil || !bytes.Equal(again, p.Leaf) {
			t.Errorf("%s\nreads as\n%s", p.Leaf, again)
		}
		if fast, ok := scanLeaf(p.Leaf); ok && fmt.Sprint(fast.Policy) != fmt.Sprint(f.Policy) {
			t.Errorf("%s: %v and %v", p.Leaf, fast, f)
		}
	}
}

func TestChangedBodyIsNotShown(t *testing.T) {
	dir := newLogDir(t)
	l := openLog(t, Config{Dir: dir})
	fill(t, l, 1)
	name := l.bodies.at.file()
	p := readFile(t, dir, name)
	_, data, _, err := readFrame(p)
	if err != nil {
		t.Fatal(err)
	}
	data = bytes.Replace(bytes.Clone(data), []byte("Alice"), []byte("Malic"), 1)
	writeFile(t, appendFrame(nil, frameBody, data), dir, name)
	e, err := l.Entries(t.Context(), 0, 1)
	if err != nil || len(e) != 1 || e[0].Body != nil {
		t.Errorf("%+v, %v", e, err)
	}
}

func TestKeyAndMetadataBelongTogether(t *testing.T) {
	dir := newLogDir(t)
	writeFile(t, readFile(t, newLogDir(t), fileMeta), dir, fileMeta)
	if _, err := Open(Config{Dir: dir, Node: "a"}); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "are not those of log.key") {
		t.Errorf("%v", err)
	}
}
