package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"github.com/sallyport/sallyport/internal/durable"
)

type recorded struct {
	dir, rec string
	log      *Log
	*Recordings
}

func newRecorded(t testing.TB, faults *durable.Faults) *recorded {
	t.Helper()
	r := &recorded{dir: newLogDir(t), rec: filepath.Join(t.TempDir(), "recordings")}
	r.open(t, faults)
	return r
}

func (r *recorded) open(t testing.TB, faults *durable.Faults) {
	t.Helper()
	r.log = openLog(t, Config{Dir: r.dir})
	var err error
	if r.Recordings, err = OpenRecordings(r.rec, r.log, RecordingOptions{Faults: faults}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.closeBoth)
	if err := r.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (r *recorded) closeBoth() { _, _ = r.Close(), r.log.Close() }

func start(t testing.TB, r *recorded, session string) *Recorder {
	t.Helper()
	rec, err := r.Start(t.Context(), Meta{Session: session, Target: "orders", Role: "reader", Email: "alice@example.com"})
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

// begun logs what comes before a session's recording: its grant and its start.
func begun(t testing.TB, r *recorded, session string) {
	t.Helper()
	for _, e := range beginning(session) {
		if _, err := r.log.Record(t.Context(), e); err != nil {
			t.Error(err)
		}
	}
}

func beginning(session string) []Event {
	request, grant := "r-"+session, "g-"+session
	return []Event{
		{Type: RequestCreated, Request: request},
		{Type: ApprovalGiven, Request: request},
		{Type: RequestApproved, Request: request},
		{Type: GrantActive, Request: request, Grant: grant},
		{Type: SessionStarted, Request: request, Grant: grant, Session: session},
	}
}

func write(t testing.TB, r *Recorder, lines ...Track) {
	t.Helper()
	for _, line := range lines {
		if err := r.Write(line); err != nil {
			t.Fatal(err)
		}
	}
}

func seal(t testing.TB, r *Recorder, cause string) Summary {
	t.Helper()
	s, err := r.Seal(t.Context(), cause)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func lines(t testing.TB, r Recording) []Line {
	t.Helper()
	var all []Line
	for line, err := range r.Lines(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, line)
	}
	return all
}

func types(t testing.TB, l *Log) string {
	t.Helper()
	entries, err := l.Entries(t.Context(), 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Type)
	}
	return strings.Join(all, " ")
}

func TestRecordingKeepsEveryTrackExactly(t *testing.T) {
	r := newRecorded(t, nil)
	at := time.Date(2026, 11, 25, 1, 2, 3, 456789000, time.UTC)
	tracks := []Track{
		Query{At: at, N: 1, Kind: "simple", SQL: "select 'ü\u2028\u009b\x7f', \"x\" -- <&>\n\t\\"},
		Query{At: at, N: 2, Kind: "execute", Name: "s1", SQL: "select $1,$2,$3,$4", Binds: [][]byte{nil, {}, []byte("text \u00e9"), {0, 0, 0, 7}}},
		Query{At: at, N: 3, Kind: "simple", SQL: "select '\xff\xfe'", Name: "\xff"},
		Query{At: at, N: 4, Kind: "simple"},
		Query{At: at, N: 5, Kind: "simple", SQL: strings.Repeat("select 1; ", 30000)},
		QueryDone{At: at, N: 1, Tag: "SELECT 5", Rows: 5, Bytes: 100, Took: 1500 * time.Microsecond},
		QueryDone{At: at, N: 2, SQLState: "42P01", Message: "relation \"\xff\" does not exist"},
		Terminal{At: at, Code: "o", Data: []byte("\x1b[1mhi\xff")},
		Request{At: at, N: 1, Method: "GET", Host: "grafana", Path: "/a?b=c"},
		RequestDone{At: at, N: 1, Status: 404, Sent: 1, Bytes: 2, Took: time.Second},
		Request{At: at, N: 2, Method: "POST", Host: "grafana", Path: "/", Headers: []Header{{"Accept", "*/*"}, {"X-\"", "\xff\u009b"}}},
		Body{At: at, N: 2, Direction: "up", Type: "text/plain", Encoding: "gzip", Text: "a\n\x1b\xff", Size: 9, SHA256: "00", Hidden: 1, Cut: true},
		Message{At: at, N: 2, Direction: "down", Kind: "text", Text: "hi", Size: 2, Hidden: 1, Cut: true},
		RequestDone{At: at, N: 2, Status: 200, Call: "7", Up: 1, Down: 2, Cut: true, Headers: []Header{{"Server", "x"}}},
		File{At: at, Name: "x\n", Direction: "up", Size: 9, SHA256: "00"},
		File{At: at, Name: "x", Direction: "down", Size: 4, N: 7},
		Piece{At: at, N: 7, Offset: 3, Data: []byte{0, 0xff, '\n'}},
		Piece{At: at, N: 7, Data: []byte("text")},
		Note{At: at, Text: "your access ended"},
	}
	rec := start(t, r, "s1")
	write(t, rec, tracks...)
	s := seal(t, rec, "expired")
	if s.Statements != 7 || s.Errors != 3 || s.Rows != 5 || s.Cause != "expired" || s.Lines != int64(len(tracks)) || s.Chunks == 0 {
		t.Errorf("%+v", s)
	}
	got, err := r.Read("s1")
	if err != nil || got.Summary == nil || *got.Summary != s || got.Meta.Email != "alice@example.com" {
		t.Fatalf("%+v, %v", got, err)
	}
	for i, line := range lines(t, got) {
		if !reflect.DeepEqual(line.Track, tracks[i]) {
			t.Errorf("line %d: %#v\nwas %#v", i, line.Track, tracks[i])
		}
		if strings.ContainsFunc(string(line.Raw), unicode.IsControl) {
			t.Errorf("line %d has a control character", i)
		}
	}
	r.closeBoth()
	if rep := mustVerify(t, r.dir, VerifyOptions{Recordings: r.rec}); rep.Recordings != 1 || rep.Chunks != int64(s.Chunks) {
		t.Errorf("%+v", rep)
	}
}

func TestStatementIsInTheFileBeforeWriteReturns(t *testing.T) {
	r := newRecorded(t, nil)
	rec := start(t, r, "s1")
	write(t, rec, Query{N: 1, SQL: "drop table orders"})
	got, err := r.Read("s1")
	if err != nil {
		t.Fatal(err)
	}
	if all := lines(t, got); len(all) != 1 || all[0].Track.(Query).SQL != "drop table orders" || got.Summary != nil {
		t.Errorf("%v", all)
	}
	seal(t, rec, "closed")
}

func TestChunkIsLoggedWithinASecondAndWhenFull(t *testing.T) {
	dir, folder := newLogDir(t), filepath.Join(t.TempDir(), "rec")
	synctest.Test(t, func(t *testing.T) {
		l, err := Open(Config{Dir: dir, Node: "a"})
		if err != nil {
			t.Fatal(err)
		}
		r, err := OpenRecordings(folder, l, RecordingOptions{})
		if err != nil {
			t.Fatal(err)
		}
		rec, err := r.Start(t.Context(), Meta{Session: "s1"})
		if err != nil {
			t.Fatal(err)
		}
		write(t, rec, Query{SQL: "select 1"})
		synctest.Wait()
		if l.State().Size != 0 {
			t.Error("a chunk after one line")
		}
		time.Sleep(time.Second) // of the bubble's clock
		synctest.Wait()
		if l.State().Size != 1 {
			t.Errorf("%d entries after a second", l.State().Size)
		}
		write(t, rec, Query{SQL: strings.Repeat("x", chunkSize)})
		synctest.Wait()
		if l.State().Size != 2 {
			t.Errorf("%d entries after a full chunk", l.State().Size)
		}
		time.Sleep(time.Minute)
		if l.State().Size != 2 {
			t.Error("chunks of nothing")
		}
		if s := seal(t, rec, "closed"); s.Chunks != 2 {
			t.Errorf("%+v", s)
		}
		if err := errors.Join(r.Close(), l.Close()); err != nil {
			t.Error(err)
		}
	})
	mustVerify(t, dir, VerifyOptions{Recordings: folder})
}

func TestRecorderThatCannotWriteFails(t *testing.T) {
	for name, breakIt := range map[string]func(*disk){
		"write": func(d *disk) { d.write.Store(true) },
		"full":  func(d *disk) { d.full.Store(10) },
	} {
		d, faults := newDisk("2")
		r := newRecorded(t, faults)
		rec := start(t, r, "s1")
		write(t, rec, Query{SQL: "select 1"})
		breakIt(d)
		if err := rec.Write(Query{SQL: "select 2"}); !errors.Is(err, ErrRecorder) {
			t.Fatalf("%s: %v", name, err)
		}
		select {
		case <-rec.Failed():
		default:
			t.Errorf("%s: Failed is not closed", name)
		}
		d.write.Store(false)
		d.full.Store(-1)
		if err := rec.Write(Query{SQL: "select 3"}); !errors.Is(err, ErrRecorder) {
			t.Errorf("%s: it records again: %v", name, err)
		}
		if _, err := rec.Seal(t.Context(), "recorder"); !errors.Is(err, ErrRecorder) {
			t.Errorf("%s: Seal says %v", name, err)
		}
		if got := types(t, r.log); got != "recording.sealed" {
			t.Errorf("%s: %s", name, got)
		}
		r.closeBoth()
		mustVerify(t, r.dir, VerifyOptions{Recordings: r.rec})
	}
}

func TestChunkThatIsNotDurableEndsTheSession(t *testing.T) {
	d, faults := newDisk("2")
	r := newRecorded(t, faults)
	rec := start(t, r, "s1")
	d.sync.Store(true)
	write(t, rec, Query{SQL: strings.Repeat("x", chunkSize)})
	await(t, rec.Failed(), "the recorder fails")
	if err := rec.Write(Note{Text: "x"}); !errors.Is(err, ErrRecorder) {
		t.Error(err)
	}
	if got := types(t, r.log); got != "" {
		t.Errorf("logged: %s", got)
	}
}

// A recorder that failed before its first chunk was on disk, and a disk that has nothing of
// it after a repair: that is no tampering, but what the log knows of it still holds.
func TestRecordingThatNeverReachedTheDisk(t *testing.T) {
	for name, leave := range map[string]struct {
		change func(root, folder string)
		want   string // a finding; none: a note
	}{
		"nothing":     {func(root, folder string) { _ = os.RemoveAll(filepath.Join(root, folder)) }, ""},
		"empty meta":  {func(root, folder string) { writeFile(t, nil, root, folder, fileMetaData) }, ""},
		"zeros":       {func(root, folder string) { writeFile(t, make([]byte, 100), root, folder, fileMetaData) }, ""},
		"no meta":     {func(root, folder string) { _ = os.Remove(filepath.Join(root, folder, fileMetaData)) }, ""},
		"another one": {func(root, folder string) { writeFile(t, []byte(`{"session":"s1"}`), root, folder, fileMetaData) }, "is not the one that was logged"},
	} {
		d, faults := newDisk("2")
		r := newRecorded(t, faults)
		begun(t, r, "s1")
		rec := start(t, r, "s1")
		d.sync.Store(true)
		write(t, rec, Query{SQL: "select 1"})
		if _, err := rec.Seal(t.Context(), "recorder"); !errors.Is(err, ErrRecorder) {
			t.Fatal(err)
		}
		r.closeBoth()
		leave.change(r.rec, rec.folder)
		got := verify(t, r.dir, VerifyOptions{Recordings: r.rec})
		switch said := fmt.Sprint(got.Findings, got.Notes); {
		case leave.want == "" && (got.Exit() != 0 || !strings.Contains(said, "before anything of it was on disk")):
			t.Errorf("%s: %s", name, said)
		case leave.want != "" && (got.Exit() != 1 || !strings.Contains(said, leave.want)):
			t.Errorf("%s: %s", name, said)
		}
		r.open(t, nil) // and the gate starts
	}
}

func TestChunkThatCannotBeLoggedEndsTheSession(t *testing.T) {
	d, faults := newDisk("wal/")
	r := &recorded{dir: newLogDir(t), rec: filepath.Join(t.TempDir(), "recordings")}
	r.log = openLog(t, Config{Dir: r.dir, Faults: faults})
	var err error
	if r.Recordings, err = OpenRecordings(r.rec, r.log, RecordingOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.closeBoth)
	rec := start(t, r, "s1")
	d.full.Store(0)
	write(t, rec, Query{SQL: strings.Repeat("x", chunkSize)})
	await(t, rec.Failed(), "the recorder fails")
	if err := rec.Err(); !errors.Is(err, ErrFull) {
		t.Error(err)
	}
}

func TestCrashedRecordingIsSealedUpToItsLastByte(t *testing.T) {
	r := newRecorded(t, nil)
	rec := start(t, r, "s1")
	write(t, rec, Query{N: 1, SQL: strings.Repeat("x", chunkSize)})
	untilSize(t, r.log, 1)
	write(t, rec, Query{N: 2, SQL: "select 2"}, QueryDone{N: 2, Rows: 1})
	begun(t, r, "s2")
	nothing := start(t, r, "s2")
	_ = nothing
	// A line that the crash cut in the middle.
	if _, err := rec.file.File.WriteString(`{"k":"query","sql":"sel`); err != nil {
		t.Fatal(err)
	}
	r.closeBoth()
	rep := mustVerify(t, r.dir, VerifyOptions{Recordings: r.rec})
	if !strings.Contains(strings.Join(rep.Notes, "\n"), "s1 is not sealed") {
		t.Errorf("%v", rep.Notes)
	}
	r.open(t, nil)
	got, err := r.Read("s1")
	if err != nil || got.Summary == nil || got.Summary.Cause != "crashed" || got.Summary.Chunks != 2 || got.Summary.Statements != 2 || got.Summary.Rows != 1 {
		t.Fatalf("%+v, %v", got.Summary, err)
	}
	if all := lines(t, got); len(all) != 3 {
		t.Errorf("%d lines", len(all))
	}
	if got, err := r.Read("s2"); err != nil || got.Summary == nil || got.Summary.Cause != "crashed" {
		t.Errorf("%+v, %v", got, err)
	}
	size := r.log.State().Size
	r.closeBoth()
	mustVerify(t, r.dir, VerifyOptions{Recordings: r.rec})
	r.open(t, nil)
	if r.log.State().Size != size {
		t.Error("sealed twice")
	}
}

func TestSealThatCrashedHalfwayIsFinished(t *testing.T) {
	r := newRecorded(t, nil)
	rec := start(t, r, "s1")
	write(t, rec, Query{SQL: "select 1"})
	want := seal(t, rec, "closed")
	folder := rec.folder
	r.closeBoth()
	if err := os.Remove(filepath.Join(r.rec, folder, fileSummary)); err != nil {
		t.Fatal(err)
	}
	writeFile(t, []byte(folder), r.rec, folderOpen, "s1")
	r.open(t, nil)
	got, err := r.Read("s1")
	if err != nil || got.Summary == nil || *got.Summary != want {
		t.Errorf("%+v, %v; want %+v", got.Summary, err, want)
	}
}

// TestLostMarkIsMadeAgain: the power failed before the mark was on disk, and the folder
// that it names is there; or before the summary was, and the seal is in the log.
func TestLostMarkIsMadeAgain(t *testing.T) {
	r := newRecorded(t, nil)
	begun(t, r, "s1")
	write(t, start(t, r, "s1"), Query{SQL: "select 1"})
	begun(t, r, "s2")
	sealed := start(t, r, "s2")
	seal(t, sealed, "closed")
	r.closeBoth()
	if err := errors.Join(
		os.Remove(filepath.Join(r.rec, folderOpen, "s1")),
		os.Remove(filepath.Join(r.rec, sealed.folder, fileSummary)),
	); err != nil {
		t.Fatal(err)
	}
	r.open(t, nil)
	for session, cause := range map[string]string{"s1": "crashed", "s2": "closed"} {
		if got, err := r.Read(session); err != nil || got.Summary == nil || got.Summary.Cause != cause {
			t.Errorf("%s: %+v, %v", session, got.Summary, err)
		}
	}
	r.closeBoth()
	mustVerify(t, r.dir, VerifyOptions{Recordings: r.rec})
}

// TestCrashWhileARecordingBegins leaves each of the states that a crash inside
// Start, or a power loss soon after it, can leave.
func TestCrashWhileARecordingBegins(t *testing.T) {
	for name, leave := range map[string]func(root, folder string){
		"mark only":    func(root, folder string) { _ = os.RemoveAll(filepath.Join(root, folder)) },
		"empty mark":   func(root, folder string) { writeFile(t, nil, root, folderOpen, "s1") },
		"no meta":      func(root, folder string) { _ = os.Remove(filepath.Join(root, folder, fileMetaData)) },
		"empty meta":   func(root, folder string) { writeFile(t, nil, root, folder, fileMetaData) },
		"no chunks":    func(root, folder string) { _ = os.Remove(filepath.Join(root, folder, fileChunks)) },
		"foreign mark": func(root, folder string) { writeFile(t, []byte(folder[:10]+"/../../x"), root, folderOpen, "s1") },
	} {
		r := newRecorded(t, nil)
		begun(t, r, "s1")
		rec := start(t, r, "s1")
		folder := rec.folder
		r.closeBoth()
		leave(r.rec, folder)
		r.open(t, nil)
		got, err := r.Read("s1")
		if err != nil || got.Summary == nil || got.Summary.Cause != "crashed" {
			t.Errorf("%s: %+v, %v", name, got.Summary, err)
		}
		rec = start(t, r, "s2")
		write(t, rec, Note{Text: "goes on"})
		seal(t, rec, "closed")
		r.closeBoth()
		mustVerify(t, r.dir, VerifyOptions{Recordings: r.rec})
		if marks, err := os.ReadDir(filepath.Join(r.rec, folderOpen)); err != nil || len(marks) != 0 {
			t.Errorf("%s: marks %v are left, %v", name, marks, err)
		}
	}
}

// Whoever can write where the recordings are, and waits for a crash, must not have
// the gate itself vouch for what was changed meanwhile.
func TestMetaChangedBehindACrashIsFound(t *testing.T) {
	r := newRecorded(t, nil)
	rec := start(t, r, "s1")
	write(t, rec, Query{N: 1, SQL: strings.Repeat("x", chunkSize)})
	untilSize(t, r.log, 1)
	write(t, rec, Query{N: 2, SQL: "select 2"})
	r.closeBoth()
	meta := strings.Replace(string(readFile(t, r.rec, rec.folder, fileMetaData)), "alice", "malic", 1)
	writeFile(t, []byte(meta), r.rec, rec.folder, fileMetaData)
	r.open(t, nil)
	r.closeBoth()
	rep := verify(t, r.dir, VerifyOptions{Recordings: r.rec})
	if len(rep.Findings) != 1 || !strings.Contains(rep.Findings[0].What, "meta.json is not the one that was logged") {
		t.Errorf("%s: %v", rep.Verdict(), rep.Findings)
	}
}

func TestSealOverAnotherMetaIsFound(t *testing.T) {
	trail := newTrail()
	chunk := chunkBody{Length: 1, SHA256: strings.Repeat("00", 32), Meta: "a"}
	one, _ := json.Marshal(chunk)
	if err := trail.add(RecordingChunk, one); err != nil {
		t.Fatal(err)
	}
	seal, _ := json.Marshal(sealedBody{Summary: Summary{Chunks: 1, Size: 1, Hash: trail.hash()}, Meta: "b"})
	if err := trail.add(RecordingSealed, seal); err == nil || !strings.Contains(err.Error(), "over another meta.json") {
		t.Error(err)
	}
}

// What the log says of one recording is in its order, from its first byte to its seal.
func TestTrailIsInItsOrder(t *testing.T) {
	chunk := func(n int, offset, length int64) any {
		return chunkBody{N: n, Offset: offset, Length: length, SHA256: strings.Repeat("0a", 32)}
	}
	hash := func(n int) string {
		sum := sha256.Sum256(bytes.Repeat([]byte{0x0a}, 32*n))
		return hex.EncodeToString(sum[:])
	}
	sealed := func(n int, size int64, hash string) any {
		return sealedBody{Summary: Summary{Chunks: n, Size: size, Hash: hash}}
	}
	for want, bodies := range map[string][]any{
		"":                            {chunk(0, 0, 5), chunk(1, 5, 7), sealed(2, 12, hash(2))},
		"chunk 1 comes after 0":       {chunk(1, 0, 5)},
		"chunk 0 comes after 1":       {chunk(0, 0, 5), chunk(0, 5, 5)},
		"chunk 2 comes after 2":       {chunk(0, 0, 5), chunk(1, 5, 5), chunk(2, 11, 5)},
		"chunk 3 comes after 3":       {chunk(0, 0, 5), chunk(1, 5, 5), chunk(2, 10, 5), chunk(3, 15, 0)},
		"over other chunks":           {chunk(0, 0, 5), sealed(2, 5, hash(1))},
		"over other chunks than were": {chunk(0, 0, 5), sealed(1, 6, hash(1))},
		"than were logged":            {chunk(0, 0, 5), sealed(1, 5, hash(2))},
		"after the recording was":     {chunk(0, 0, 5), sealed(1, 5, hash(1)), chunk(1, 5, 5)},
		"the seal cannot be read":     {chunk(0, 0, 5), "sealed"},
		"entry cannot be read":        {[]int{1}},
	} {
		trail := newTrail()
		var err error
		for _, body := range bodies {
			kind := RecordingChunk
			switch body.(type) {
			case sealedBody, string:
				kind = RecordingSealed
			}
			text, _ := json.Marshal(body)
			err = trail.add(kind, text)
		}
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", bodies, err, want)
		}
	}
}

// What is sealed has nothing written behind it, and is sealed once.
func TestSealedRecordingTakesNothingMore(t *testing.T) {
	r := newRecorded(t, nil)
	rec := start(t, r, "s1")
	seal(t, rec, "closed")
	if err := rec.Write(&Terminal{}); !errors.Is(err, ErrRecorder) || !strings.Contains(err.Error(), "the recording is sealed") {
		t.Errorf("write: %v", err)
	}
	if _, err := rec.Seal(t.Context(), "closed"); !errors.Is(err, ErrRecorder) || !strings.Contains(err.Error(), "the recording is sealed") {
		t.Errorf("seal: %v", err)
	}
}

func TestPlantedRecordingDoesNotBecomeTrue(t *testing.T) {
	r := newRecorded(t, nil)
	r.closeBoth()
	folder := dayFolder(time.Now()) + "/planted"
	if err := os.MkdirAll(filepath.Join(r.rec, folder), 0o700); err != nil {
		t.Fatal(err)
	}
	writeFile(t, []byte(`{"session":"planted","email":"alice@example.com"}`), r.rec, folder, fileMetaData)
	writeFile(t, []byte(`{"k":"query","sql":"drop table orders"}`+"\n"), r.rec, folder, fileChunks)
	writeFile(t, []byte(folder), r.rec, folderOpen, "planted")
	unknown := func(when string) {
		t.Helper()
		rep := verify(t, r.dir, VerifyOptions{Recordings: r.rec})
		if len(rep.Findings) != 1 || rep.Findings[0].What != "the log does not know it" {
			t.Errorf("%s: %s: %v %v", when, rep.Verdict(), rep.Findings, rep.Notes)
		}
	}
	unknown("before a start")
	r.open(t, nil)
	r.closeBoth()
	unknown("after a start")
}

func TestSessionIdentifiersNameNoOtherFolder(t *testing.T) {
	r := newRecorded(t, nil)
	for _, id := range []string{"", "..", "../x", "a/b", ".x", "a.b", "a:b", "a\x00b", strings.Repeat("a", 300)} {
		if _, err := r.Start(t.Context(), Meta{Session: id}); err == nil || !strings.Contains(err.Error(), "is no session") {
			t.Errorf("Start(%q): %v", id, err)
		}
		if _, err := r.Read(id); !errors.Is(err, ErrNoRecording) {
			t.Errorf("Read(%q): %v", id, err)
		}
	}
	rec := start(t, r, "s1")
	if _, err := r.Start(t.Context(), Meta{Session: "s1"}); err == nil {
		t.Error("one session was started twice")
	}
	seal(t, rec, "closed")
}

func TestManyRecordersAndWriters(t *testing.T) {
	r := newRecorded(t, nil)
	var wg sync.WaitGroup
	for s := range 8 {
		rec := start(t, r, fmt.Sprint("s", s))
		wg.Go(func() {
			var writers sync.WaitGroup
			for range 2 {
				writers.Go(func() {
					for n := range 300 {
						if err := rec.Write(&Query{N: int64(n), SQL: strings.Repeat("select 1 ", 50)}); err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			writers.Wait()
			if sum, err := rec.Seal(t.Context(), "closed"); err != nil || sum.Statements != 600 {
				t.Errorf("%+v, %v", sum, err)
			}
		})
	}
	wg.Wait()
	list, err := r.List(t.Context(), 0)
	if err != nil || len(list) != 8 {
		t.Errorf("%d recordings, %v", len(list), err)
	}
	for _, rec := range list {
		if n := len(lines(t, rec)); n != 600 {
			t.Errorf("%d lines", n)
		}
	}
	r.closeBoth()
	mustVerify(t, r.dir, VerifyOptions{Recordings: r.rec})
}

func FuzzLine(f *testing.F) {
	f.Add("select 1", []byte{0, 1}, "x")
	f.Add("\xff\u009b", []byte(nil), "\xc2")
	f.Fuzz(func(t *testing.T, sql string, bind []byte, message string) {
		at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
		q := Query{At: at, N: 1, SQL: sql, Binds: [][]byte{bind, nil}}
		raw := q.appendTo(nil, at)
		if !json.Valid(raw) || strings.ContainsAny(string(raw), "\n\x1b\x7f\u009b") {
			t.Fatalf("%q", raw)
		}
		line, err := parseLine(raw)
		if err != nil || !reflect.DeepEqual(line.Track, q) {
			t.Errorf("%#v is read as %#v, %v", q, line.Track, err)
		}
		d := QueryDone{At: at, N: 1, Message: message}
		line, err = parseLine(d.appendTo(nil, at))
		if err != nil || !reflect.DeepEqual(line.Track, d) {
			t.Errorf("%#v is read as %#v, %v", d, line.Track, err)
		}
	})
}

func TestNoRecordingUnderAFailedLog(t *testing.T) {
	r := newRecorded(t, nil)
	_ = r.log.fail(errors.New("broken"))
	if _, err := r.Start(t.Context(), Meta{Session: "s1"}); !errors.Is(err, ErrFailed) {
		t.Errorf("%v", err)
	}
}
