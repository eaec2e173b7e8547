package postgres

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/proxy"
	"github.com/sallyport/sallyport/session"
)

// kept is a recorder that keeps lines as text.
type kept struct {
	lines []string
	err   error
}

func (k *kept) Write(line audit.Track) error {
	switch q := line.(type) {
	case *audit.Query:
		s := fmt.Sprintf("%d %s %q %s", q.N, q.Kind, q.Name, q.SQL)
		for _, b := range q.Binds {
			if b == nil {
				s += " NULL"
			} else {
				s += fmt.Sprintf(" %q", b)
			}
		}
		k.lines = append(k.lines, s)
	case *audit.QueryDone:
		k.lines = append(k.lines, fmt.Sprintf("%d done %q rows=%d bytes=%d %s %s", q.N, q.Tag, q.Rows, q.Bytes, q.SQLState, q.Message))
	}
	return k.err
}

func frontend(t testing.TB, messages ...pgproto3.FrontendMessage) []byte {
	t.Helper()
	var b []byte
	for _, m := range messages {
		var err error
		if b, err = m.Encode(b); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func backend(t testing.TB, messages ...pgproto3.BackendMessage) []byte {
	t.Helper()
	var b []byte
	for _, m := range messages {
		var err error
		if b, err = m.Encode(b); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// feed shows bytes to an observer as Relay does, in runs cut at random places, and
// returns what goes on.
func feed(t testing.TB, o proxy.Observer, p []byte, cut func() int) []byte {
	t.Helper()
	var passed, held []byte
	for len(p) > 0 {
		n := min(cut(), len(p))
		run := append(append([]byte(nil), held...), p[:n]...)
		p = p[n:]
		verdict, err := o.Observe(run)
		if err != nil {
			t.Fatal(err)
		}
		keep := 0
		if verdict != proxy.Pass {
			keep = min(o.Tail(), len(run))
		}
		if keep > proxy.MaxHold {
			t.Fatalf("%d bytes are held", keep)
		}
		passed = append(passed, run[:len(run)-keep]...)
		held = run[len(run)-keep:]
		if verdict == proxy.EndAtBoundary {
			break
		}
	}
	return passed
}

func whole() int { return 1 << 30 }

type talk struct {
	t  testing.TB
	k  *kept
	up *up
	dn *down
}

func newTalk(t testing.TB) *talk {
	k := &kept{}
	tr := &traffic{rec: k}
	return &talk{t, k, &up{t: tr}, &down{t: tr}}
}

func (k *talk) client(m ...pgproto3.FrontendMessage) { feed(k.t, k.up, frontend(k.t, m...), whole) }
func (k *talk) target(m ...pgproto3.BackendMessage)  { feed(k.t, k.dn, backend(k.t, m...), whole) }

func (k *talk) recorded(want ...string) {
	k.t.Helper()
	if got := strings.Join(k.k.lines, "\n"); got != strings.Join(want, "\n") {
		k.t.Errorf("recorded:\n%s\nnot:\n%s", got, strings.Join(want, "\n"))
	}
	k.k.lines = nil
}

var (
	complete = func(tag string) *pgproto3.CommandComplete { return &pgproto3.CommandComplete{CommandTag: []byte(tag)} }
	row      = func(v string) *pgproto3.DataRow { return &pgproto3.DataRow{Values: [][]byte{[]byte(v)}} }
	ready    = &pgproto3.ReadyForQuery{TxStatus: 'I'}
	failure  = &pgproto3.ErrorResponse{Severity: "ERROR", Code: "42P01", Message: "no such table"}
)

func TestSimpleQueryIsRecorded(t *testing.T) {
	k := newTalk(t)
	k.client(&pgproto3.Query{String: "select 1; select 2; bad"})
	k.target(&pgproto3.RowDescription{}, row("1"), complete("SELECT 1"), row("22"), complete("SELECT 1"), failure, ready)
	k.recorded(`1 simple "" select 1; select 2; bad`, `1 done "SELECT 1" rows=1 bytes=7 `+" ", `1 done "SELECT 1" rows=1 bytes=8 `+" ", `1 done "" rows=0 bytes=0 42P01 no such table`)
	if k.up.t.busy() {
		t.Error("busy after the answer")
	}
}

func TestExtendedQueryIsRecorded(t *testing.T) {
	k := newTalk(t)
	k.client(&pgproto3.Parse{Name: "s1", Query: "select $1, $2"}, &pgproto3.Sync{})
	k.target(&pgproto3.ParseComplete{}, ready)
	k.recorded(`1 parse "s1" select $1, $2`)
	k.client(&pgproto3.Bind{PreparedStatement: "s1", ParameterFormatCodes: []int16{0, 1}, Parameters: [][]byte{[]byte("a"), {0, 255}}}, &pgproto3.Execute{}, &pgproto3.Sync{})
	k.target(&pgproto3.BindComplete{}, row("a"), complete("SELECT 1"), ready)
	k.recorded(`2 execute "s1" select $1, $2 "a" "\\x00ff"`, `2 done "SELECT 1" rows=1 bytes=7 `+" ")
	// A Bind without its Execute in the same run is recorded before it goes on.
	k.client(&pgproto3.Bind{DestinationPortal: "p", PreparedStatement: "s1", Parameters: [][]byte{nil, []byte("b")}}, &pgproto3.Flush{})
	k.recorded(`3 bind "s1" select $1, $2 NULL "b"`)
	k.client(&pgproto3.Execute{Portal: "p", MaxRows: 1}, &pgproto3.Execute{Portal: "p"}, &pgproto3.Sync{})
	k.target(&pgproto3.BindComplete{}, row("x"), &pgproto3.PortalSuspended{}, row("y"), complete("SELECT 1"), ready)
	k.recorded(`4 execute "p" select $1, $2`, `5 execute "p" select $1, $2`, `4 done "suspended" rows=1 bytes=7 `+" ", `5 done "SELECT 1" rows=1 bytes=7 `+" ")
	// After an error the target passes over everything up to the Sync.
	k.client(&pgproto3.Parse{Query: "bad"}, &pgproto3.Bind{}, &pgproto3.Execute{}, &pgproto3.Sync{}, &pgproto3.Query{String: "select 3"})
	k.target(failure, ready, complete("SELECT 1"), ready)
	k.recorded(`6 parse "" bad`, `7 execute "" bad`, `8 simple "" select 3`, `6 done "" rows=0 bytes=0 42P01 no such table`, `8 done "SELECT 1" rows=0 bytes=0 `+" ")
}

func TestSyncInsideCopyHasNoAnswer(t *testing.T) {
	k := newTalk(t)
	k.client(&pgproto3.Parse{Query: "copy t from stdin"}, &pgproto3.Bind{}, &pgproto3.Describe{ObjectType: 'P'}, &pgproto3.Execute{}, &pgproto3.Sync{})
	k.target(&pgproto3.ParseComplete{}, &pgproto3.BindComplete{}, &pgproto3.NoData{}, &pgproto3.CopyInResponse{})
	k.client(&pgproto3.CopyData{Data: []byte("1\n2\n")}, &pgproto3.CopyDone{}, &pgproto3.Sync{})
	k.target(complete("COPY 2"), ready)
	k.client(&pgproto3.Query{String: "select 1"})
	k.target(complete("SELECT 1"), ready)
	k.recorded(`1 parse "" copy t from stdin`, `2 execute "" copy t from stdin`, `2 done "COPY 2" rows=0 bytes=4 `+" ", `3 simple "" select 1`, `3 done "SELECT 1" rows=0 bytes=0 `+" ")
}

func TestFunctionCallIsRecorded(t *testing.T) {
	k := newTalk(t)
	k.client(&pgproto3.FunctionCall{Function: 2880, ArgFormatCodes: []uint16{1}, Arguments: [][]byte{{0, 0, 0, 7}}})
	k.target(&pgproto3.FunctionCallResponse{}, ready)
	k.recorded(`1 function "" function 2880 "\\x00000007"`, `1 done "FUNCTION" rows=0 bytes=0 `+" ")
}

func TestLongMessagesAreRecordedInParts(t *testing.T) {
	k := newTalk(t)
	sql := "select '" + strings.Repeat("long ", 20_000) + "'"
	p := frontend(t, &pgproto3.Query{String: sql}, &pgproto3.Parse{Name: "s", Query: sql}, &pgproto3.Bind{PreparedStatement: "s", Parameters: [][]byte{[]byte(sql)}})
	if got := feed(t, k.up, p, func() int { return 10_000 }); string(got) != string(p) {
		t.Fatal("the bytes that go on are others")
	}
	var texts [4]string
	for _, line := range k.k.lines {
		var n int
		var kind, part string
		_, _ = fmt.Sscanf(line, "%d %s %s", &n, &kind, &part)
		_, text, _ := strings.Cut(line, `" `)
		texts[n] += text
	}
	if texts[1] != sql || texts[2] != sql || !strings.Contains(texts[3], "long long") {
		t.Errorf("recorded %d, %d and %d bytes of %d", len(texts[1]), len(texts[2]), len(texts[3]), len(sql))
	}
}

func TestEveryCutOfTheStreamIsTheSame(t *testing.T) {
	messages := []pgproto3.FrontendMessage{
		&pgproto3.Query{String: "select 1"}, &pgproto3.Parse{Name: "a", Query: "select $1"}, &pgproto3.Bind{PreparedStatement: "a", Parameters: [][]byte{[]byte("v")}},
		&pgproto3.Execute{}, &pgproto3.Sync{}, &pgproto3.CopyData{Data: []byte(strings.Repeat("d", 5000))}, &pgproto3.CopyDone{}, &pgproto3.Query{String: strings.Repeat("q", 3000)},
	}
	p := frontend(t, messages...)
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // a test's choice
		k := newTalk(t)
		if got := feed(t, k.up, p, func() int { return 1 + random.IntN(1+int(seed)*20) }); string(got) != string(p) {
			t.Fatalf("seed %d: the bytes that go on are others", seed)
		}
		if k.up.Tail() != 0 || len(k.k.lines) < 4 {
			t.Fatalf("seed %d: tail %d, recorded %q", seed, k.up.Tail(), k.k.lines)
		}
	}
}

func TestMessagesThatEndASession(t *testing.T) {
	for name, c := range map[string]struct {
		p    []byte
		want string
	}{
		"unknown type":     {[]byte("!\x00\x00\x00\x04"), "has no place in a session"},
		"password":         {[]byte("p\x00\x00\x00\x05\x00"), "has no place in a session"},
		"negative length":  {[]byte("Q\xff\xff\xff\xff"), "has the length"},
		"short length":     {[]byte("Q\x00\x00\x00\x03"), "has the length"},
		"long sync":        {[]byte("S\x00\x10\x00\x00"), "has the length"},
		"bind cut short":   {[]byte("B\x00\x00\x00\x08\x00\x00\x00\x01"), "cannot be read"},
		"bind of too much": {[]byte("B\x00\x00\x00\x10\x00\x00\x00\x00\x00\x01\x00\x00\x00\x09a\x00"), "cannot be read"},
		"parse unended":    {[]byte("P\x00\x00\x00\x06ab"), "cannot be read"},
	} {
		_, err := newTalk(t).up.Observe(c.p)
		var invalid *session.Invalid
		if !errors.As(err, &invalid) || !strings.Contains(invalid.Hint, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// What a target says wrong is not the user's mistake.
	for p, want := range map[string]string{
		"R\x00\x00\x00\x08\x00\x00\x00\x03":                 "in the middle of a session",
		"K\x00\x00\x00\x0c\x00\x00\x00\x01\x00\x00\x00\x02": "in the middle of a session",
		"D\x7f\xff\xff\xff":                                 "has the length",
		"D\x00\x00\x00\x03":                                 "has the length",
		"E\x00\x00\x00\x06SF":                               "read the target's error",
		"Z\x00\x10\x00\x00":                                 "too long",
	} {
		_, err := newTalk(t).dn.Observe([]byte(p))
		var failed *session.Failed
		if !errors.As(err, &failed) || !strings.Contains(failed.Say, "the target does not answer as it should") || !strings.Contains(failed.Err.Error(), want) {
			t.Errorf("%q: %v", p, err)
		}
	}
}

func TestNothingPassesBehindTerminate(t *testing.T) {
	k := newTalk(t)
	p := frontend(t, &pgproto3.Terminate{}, &pgproto3.Query{String: "select 1"})
	if got := feed(t, k.up, p, whole); len(got) != 5 || len(k.k.lines) != 0 {
		t.Errorf("%q passes, recorded %q", got, k.k.lines)
	}
}

func TestWithoutRecordNothingPasses(t *testing.T) {
	k := newTalk(t)
	k.k.err = errors.New("disk full")
	if _, err := k.up.Observe(frontend(t, &pgproto3.Query{String: "select 1"})); !errors.Is(err, session.ErrRecorder) {
		t.Errorf("%v", err)
	}
	k = newTalk(t)
	k.k.err = errors.New("disk full")
	if _, err := k.up.Observe(frontend(t, &pgproto3.Bind{})); !errors.Is(err, session.ErrRecorder) {
		t.Errorf("%v", err)
	}
}

func TestOutstandingMessagesAreBounded(t *testing.T) {
	tr := &traffic{rec: &kept{}}
	tr.queue = make([]item, maxOutstanding)
	if _, err := (&up{t: tr}).Observe(frontend(t, &pgproto3.Sync{})); err == nil || !strings.Contains(err.Error(), "more than the target can answer") {
		t.Errorf("%v", err)
	}
}

func TestRememberedStatementsAreBounded(t *testing.T) {
	k := newTalk(t)
	long := strings.Repeat("x", 10_000)
	for i := range 100 {
		k.client(&pgproto3.Parse{Name: fmt.Sprint(i), Query: long}, &pgproto3.Bind{DestinationPortal: fmt.Sprint(i), PreparedStatement: fmt.Sprint(i)}, &pgproto3.Sync{})
		k.target(&pgproto3.ParseComplete{}, &pgproto3.BindComplete{}, ready)
	}
	if k.up.remembered > maxRemembered || len(k.up.statements) > 30 {
		t.Errorf("%d bytes are kept of %d statements", k.up.remembered, len(k.up.statements))
	}
	for i := range 100 {
		k.client(&pgproto3.Close{ObjectType: 'S', Name: fmt.Sprint(i)})
	}
	if k.up.remembered != 0 {
		t.Errorf("%d bytes are kept of none", k.up.remembered)
	}
}

func FuzzUp(f *testing.F) {
	f.Add(frontend(f, &pgproto3.Query{String: "select 1"}, &pgproto3.Terminate{}), uint64(1))
	f.Add(frontend(f, &pgproto3.Parse{Name: "a", Query: "b"}, &pgproto3.Bind{PreparedStatement: "a", Parameters: [][]byte{nil}}, &pgproto3.Execute{}, &pgproto3.Sync{}), uint64(7))
	f.Add(frontend(f, &pgproto3.CopyData{Data: make([]byte, 20_000)}, &pgproto3.CopyDone{}), uint64(3))
	for _, p := range fromTranscripts(f, '>') {
		f.Add(p, uint64(4))
	}
	f.Fuzz(func(t *testing.T, p []byte, seed uint64) { fuzzFraming(t, newTalk(t).up, newTalk(t).up, p, seed) })
}

func FuzzDown(f *testing.F) {
	f.Add(backend(f, row("x"), complete("SELECT 1"), ready), uint64(1))
	f.Add(backend(f, failure, &pgproto3.NoticeResponse{Message: "n"}, ready), uint64(2))
	for _, p := range fromTranscripts(f, '<') {
		f.Add(p, uint64(4))
	}
	f.Fuzz(func(t *testing.T, p []byte, seed uint64) { fuzzFraming(t, newTalk(t).dn, newTalk(t).dn, p, seed) })
}

// fuzzFraming demands that what goes on is what came, wherever the runs are cut.
func fuzzFraming(t *testing.T, a, b proxy.Observer, p []byte, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 2)) //nolint:gosec // a test's choice
	one, oneErr := try(a, p, whole)
	two, twoErr := try(b, p, func() int { return 1 + random.IntN(100) })
	if (oneErr == nil) != (twoErr == nil) {
		t.Fatalf("whole: %v, in pieces: %v", oneErr, twoErr)
	}
	if oneErr == nil && string(one) != string(two) {
		t.Fatalf("whole: %q, in pieces: %q", one, two)
	}
	if !strings.HasPrefix(string(p), string(two)) {
		t.Fatalf("%q became %q", p, two)
	}
}

func try(o proxy.Observer, p []byte, cut func() int) (passed []byte, err error) {
	var held []byte
	for len(p) > 0 {
		n := min(cut(), len(p))
		run := append(append([]byte(nil), held...), p[:n]...)
		p = p[n:]
		verdict, err := o.Observe(run)
		if err != nil {
			return passed, err
		}
		keep := 0
		if verdict != proxy.Pass {
			keep = min(o.Tail(), len(run))
		}
		passed = append(passed, run[:len(run)-keep]...)
		held = run[len(run)-keep:]
		if verdict == proxy.EndAtBoundary {
			break
		}
	}
	return passed, nil
}

func BenchmarkObserveExtended(b *testing.B) {
	p := frontend(b, &pgproto3.Bind{PreparedStatement: "a", Parameters: [][]byte{[]byte("12345")}}, &pgproto3.Execute{}, &pgproto3.Sync{})
	answer := backend(b, &pgproto3.BindComplete{}, row("12345"), complete("SELECT 1"), ready)
	tr := &traffic{rec: discard{}}
	u, d := &up{t: tr}, &down{t: tr}
	u.remember("a", "select abalance from pgbench_accounts where aid = $1")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := u.Observe(p); err != nil {
			b.Fatal(err)
		}
		if _, err := d.Observe(answer); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkObserveRows(b *testing.B) {
	one := backend(b, row("1234567890"))
	p := []byte(strings.Repeat(string(one), 32<<10/len(one)))
	d := &down{t: &traffic{rec: discard{}}}
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.Observe(p); err != nil {
			b.Fatal(err)
		}
	}
}

type discard struct{}

func (discard) Write(audit.Track) error { return nil }

// A part of a small row does not go on: whoever reads it stands at a message's end when
// the target breaks, and can be told. A long row passes as it comes.
func TestSmallRowsPassWhole(t *testing.T) {
	for _, c := range []struct {
		size    int // of the row's text, in bytes
		verdict proxy.Verdict
	}{
		{1, proxy.Hold},
		{8<<10 - 11, proxy.Hold}, // with a header and the field's, a buffer of PostgreSQL
		{9 << 10, proxy.Pass},
	} {
		k := newTalk(t)
		row := backend(t, &pgproto3.DataRow{Values: [][]byte{make([]byte, c.size)}})
		part := row[:len(row)-1]
		verdict, err := k.dn.Observe(part)
		if err != nil || verdict != c.verdict || k.dn.Tail() != len(part) {
			t.Errorf("a part of a row of %d bytes: verdict %v, a tail of %d of %d bytes, %v", c.size, verdict, k.dn.Tail(), len(part), err)
		}
		rest := row
		if c.verdict == proxy.Pass {
			rest = row[len(part):]
		}
		if verdict, err := k.dn.Observe(rest); err != nil || verdict != proxy.Pass || k.dn.Tail() != 0 {
			t.Errorf("the end of a row of %d bytes: verdict %v, a tail of %d, %v", c.size, verdict, k.dn.Tail(), err)
		}
	}
}

func TestTargetEndsByAFatalErrorOnly(t *testing.T) {
	k := newTalk(t)
	if err := k.dn.Ended(); !errors.Is(err, errNoWord) {
		t.Errorf("without a word: %v", err)
	}
	for severity, want := range map[string]error{"ERROR": errNoWord, "FATAL": nil} {
		k := newTalk(t)
		if _, err := k.dn.Observe(backend(t, &pgproto3.ErrorResponse{Severity: severity, SeverityUnlocalized: severity, Code: "57P01", Message: "x"})); err != nil {
			t.Fatal(err)
		}
		if err := k.dn.Ended(); !errors.Is(err, want) {
			t.Errorf("behind %s: %v", severity, err)
		}
	}
}
