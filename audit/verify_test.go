package audit

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// story is a log with a request, its approval, a grant, a session, its recording
// in two chunks, and enough besides to fill a tile.
func story(t testing.TB) *recorded {
	t.Helper()
	r := newRecorded(t, nil)
	log := func(events ...Event) {
		t.Helper()
		var ps []Pending
		for i, e := range events {
			ps = append(ps, encode(t, r.log, r.log.Counter()+uint64(i)+1, e))
		}
		if _, err := r.log.Append(t.Context(), ps); err != nil {
			t.Fatal(err)
		}
	}
	log(Event{Type: RequestCreated, Actor: "iss#alice", Request: "r1"})
	log(Event{Type: ApprovalGiven, Actor: "iss#bob", Request: "r1"},
		Event{Type: RequestApproved, Actor: "iss#bob", Request: "r1", Grant: "g1"},
		Event{Type: GrantActive, Actor: "iss#bob", Request: "r1", Grant: "g1"})
	log(Event{Type: SessionStarted, Actor: "iss#alice", Request: "r1", Grant: "g1", Session: "s1"})
	rec := start(t, r, "s1")
	write(t, rec, Query{SQL: strings.Repeat("x", chunkSize)})
	untilSize(t, r.log, 6)
	write(t, rec, Query{SQL: "select 2"})
	seal(t, rec, "expired")
	log(Event{Type: SessionEnded, Actor: "gate", Request: "r1", Grant: "g1", Session: "s1"},
		Event{Type: GrantExpired, Actor: "gate", Request: "r1", Grant: "g1"})
	for range 3 {
		var many []Event
		for range 100 {
			many = append(many, Event{Type: SignedIn, Actor: "iss#carol", Body: "carol"})
		}
		log(many...)
	}
	r.closeBoth()
	return r
}

// rewrite makes the WAL again from its frames, with good checksums, as somebody
// would who has the files but not the key.
func rewrite(t testing.TB, dir string, change func(frames [][]byte) [][]byte) {
	t.Helper()
	wal := readFile(t, dir, "wal/000001.seg")
	var frames [][]byte
	for len(wal) > 0 {
		_, _, size, err := readFrame(wal)
		if err != nil {
			t.Fatal(err)
		}
		frames, wal = append(frames, wal[:size]), wal[size:]
	}
	writeFile(t, bytes.Join(change(frames), nil), dir, "wal/000001.seg")
}

// entryFrames are the places of entries among the frames.
func entryFrames(frames [][]byte) (at []int) {
	for i, f := range frames {
		if f[0] == frameEntry {
			at = append(at, i)
		}
	}
	return at
}

func reframe(frame []byte, old, now string) []byte {
	return appendFrame(nil, frame[0], bytes.Replace(bytes.Clone(frame[frameHeader:]), []byte(old), []byte(now), 1))
}

func TestEveryKindOfTamperingIsFound(t *testing.T) {
	r := story(t)
	rep := mustVerify(t, r.dir, VerifyOptions{Recordings: r.rec})
	if rep.Recordings != 1 || rep.Chunks != 2 || rep.Tiles < 4 || rep.KeyFrom != "log.json" || len(rep.Notes) == 0 {
		t.Fatalf("%+v", rep)
	}
	got, err := os.ReadFile(filepath.Join(r.dir, fileCheckpoint))
	if err != nil {
		t.Fatal(err)
	}
	folder, err := filepath.Glob(filepath.Join(r.rec, "*/*/*/s1"))
	if err != nil || len(folder) != 1 {
		t.Fatal(folder, err)
	}
	inRec, err := filepath.Rel(r.rec, folder[0])
	if err != nil {
		t.Fatal(err)
	}
	body, err := filepath.Glob(filepath.Join(r.dir, "body/*/*.seg"))
	if err != nil || len(body) != 1 {
		t.Fatal(body, err)
	}
	bodyRel, _ := filepath.Rel(r.dir, body[0])
	flip := func(dir, name string, at int) {
		p := readFile(t, dir, name)
		if at < 0 {
			at += len(p)
		}
		p[at] ^= 4
		writeFile(t, p, dir, name)
	}
	remove := func(parts ...string) {
		if err := os.RemoveAll(filepath.Join(parts...)); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name string
		do   func(dir, rec string)
		want string
	}{
		{"edit an entry", func(dir, _ string) {
			rewrite(t, dir, func(f [][]byte) [][]byte {
				i := entryFrames(f)[2]
				f[i] = reframe(f[i], `"request":"r1"`, `"request":"r2"`)
				return f
			})
		}, "the entries before this checkpoint are not those that it was signed over"},
		{"delete an entry", func(dir, _ string) {
			rewrite(t, dir, func(f [][]byte) [][]byte {
				i := entryFrames(f)[2]
				return append(f[:i:i], f[i+1:]...)
			})
		}, "a checkpoint over 4 entries after 3"},
		{"insert an entry", func(dir, _ string) {
			rewrite(t, dir, func(f [][]byte) [][]byte {
				i := entryFrames(f)[2]
				return append(f[:i:i], f[i-1:]...)
			})
		}, "a checkpoint over 4 entries after 5"},
		{"swap two entries", func(dir, _ string) {
			rewrite(t, dir, func(f [][]byte) [][]byte {
				at := entryFrames(f)
				f[at[1]], f[at[2]] = f[at[2]], f[at[1]]
				return f
			})
		}, "the entries before this checkpoint are not those that it was signed over"},
		{"delete a batch", func(dir, _ string) {
			rewrite(t, dir, func(f [][]byte) [][]byte { return append(f[:1:1], f[3:]...) })
		}, "a checkpoint over"},
		{"cut the end", func(dir, _ string) {
			rewrite(t, dir, func(f [][]byte) [][]byte { return f[:len(f)-101] })
		}, "the end was cut off, or an old copy was put back"},
		{"delete the log", func(dir, _ string) { remove(dir, "wal/000001.seg") }, "the log ends after 0"},
		{"flip a bit of the WAL", func(dir, _ string) { flip(dir, "wal/000001.seg", 3000) }, "checksum"},
		{"edit a body", func(dir, _ string) { flip(dir, bodyRel, -5) }, "its body at"},
		{"replace a body", func(dir, _ string) {
			p := readFile(t, dir, bodyRel)
			_, data, _, _ := readFrame(p)
			writeFile(t, append(appendFrame(nil, frameBody, append(bytes.Clone(data[:len(data)-1]), '#')), p[frameHeader+len(data):]...), dir, bodyRel)
		}, "is not the one that was logged"},
		{"delete bodies", func(dir, _ string) { remove(dir, bodyRel) }, "is gone"},
		{"edit a full tile", func(dir, _ string) { flip(dir, "tile/0/000", 40) }, "the tile is not what the entries make"},
		{"edit a partial tile", func(dir, _ string) { flip(dir, "tile/1/000.p/1", 3) }, "the tile is not what the entries make"},
		{"delete a tile", func(dir, _ string) { remove(dir, "tile/entries/000") }, "the tile is missing"},
		{"edit the checkpoint", func(dir, _ string) { flip(dir, fileCheckpoint, len(testOrigin)+1) }, "it is not signed by the log's key"},
		{"another log's key", func(dir, _ string) {
			writeFile(t, readFile(t, newLogDir(t), fileMeta), dir, fileMeta)
		}, "it is not signed by the log's key"},
		{"edit a chunk", func(_, rec string) { flip(rec, inRec+"/"+fileChunks, 100) }, "its bytes are not those that were logged"},
		{"cut a recording", func(_, rec string) {
			p := readFile(t, rec, inRec, fileChunks)
			writeFile(t, p[:len(p)-3], rec, inRec, fileChunks)
		}, "3 of its"},
		{"add to a recording", func(_, rec string) {
			p := readFile(t, rec, inRec, fileChunks)
			writeFile(t, append(p, "more\n"...), rec, inRec, fileChunks)
		}, "5 bytes were added behind its seal"},
		{"delete a recording", func(_, rec string) { remove(rec, inRec) }, "it is missing, and no erasure was logged"},
		{"delete the chunks", func(_, rec string) { remove(rec, inRec, fileChunks) }, "chunks.bin is missing"},
		{"edit meta.json", func(_, rec string) {
			writeFile(t, bytes.Replace(readFile(t, rec, inRec, fileMetaData), []byte("alice"), []byte("malic"), 1), rec, inRec, fileMetaData)
		}, "meta.json is not the one that was logged"},
		{"edit summary.json", func(_, rec string) {
			writeFile(t, bytes.Replace(readFile(t, rec, inRec, fileSummary), []byte("expired"), []byte("closed"), 1), rec, inRec, fileSummary)
		}, "summary.json is not what was sealed"},
		{"a recording nobody made", func(_, rec string) {
			if err := os.CopyFS(filepath.Join(rec, inRec[:10], "s9"), os.DirFS(filepath.Join(rec, inRec))); err != nil {
				t.Fatal(err)
			}
		}, "the log does not know it"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, rec := copyDir(t, r.dir), filepath.Join(t.TempDir(), "rec")
			if err := os.CopyFS(rec, os.DirFS(r.rec)); err != nil {
				t.Fatal(err)
			}
			c.do(dir, rec)
			rep, err := Verify(t.Context(), dir, VerifyOptions{Recordings: rec})
			if err != nil || rep.Exit() != 1 || rep.Verdict() != "tampered" {
				t.Fatalf("%s, %v; %v", rep.Verdict(), err, rep.Findings)
			}
			for _, f := range rep.Findings {
				if strings.Contains(f.What, c.want) {
					return
				}
			}
			t.Errorf("found %v; want %q", rep.Findings, c.want)
		})
	}
	saved := VerifyOptions{Since: got}
	mustVerify(t, r.dir, saved)
}

func TestSavedCheckpointShowsARollback(t *testing.T) {
	dir := newLogDir(t)
	l := openLog(t, Config{Dir: dir})
	fill(t, l, 3)
	_ = l.Close()
	old := copyDir(t, dir)
	l = openLog(t, Config{Dir: dir})
	fill(t, l, 2)
	_ = l.Close()
	saved := readFile(t, dir, fileCheckpoint)
	mustVerify(t, old, VerifyOptions{}) // yesterday's disk is whole in itself
	if r := verify(t, old, VerifyOptions{Since: saved}); r.Exit() != 1 || !strings.Contains(r.Findings[0].What, "an old copy was put back") {
		t.Errorf("%v", r.Findings)
	}
	l = openLog(t, Config{Dir: old})
	fill(t, l, 2) // other entries under the same key
	_ = l.Close()
	if r := verify(t, old, VerifyOptions{Since: saved}); r.Exit() != 1 || !strings.Contains(r.Findings[0].What, "are not those that it covered") {
		t.Errorf("%v", r.Findings)
	}
	mustVerify(t, dir, VerifyOptions{Since: readFile(t, dir, fileCheckpoint)})
}

func TestGivenKeyIsTheOneThatCounts(t *testing.T) {
	dir, other := newLogDir(t), newLogDir(t)
	for _, d := range []string{dir, other} {
		l := openLog(t, Config{Dir: d})
		fill(t, l, 2)
		_ = l.Close()
	}
	var meta metadata
	if err := json.Unmarshal(readFile(t, dir, fileMeta), &meta); err != nil {
		t.Fatal(err)
	}
	if r := mustVerify(t, dir, VerifyOptions{Key: meta.Key}); r.KeyFrom != "given" || len(r.Notes) != 0 {
		t.Errorf("%+v", r)
	}
	r := verify(t, other, VerifyOptions{Key: meta.Key})
	if r.Exit() != 1 || !strings.Contains(r.Findings[0].What, "another key than the one given") {
		t.Errorf("a whole other log: %s, %v", r.Verdict(), r.Findings)
	}
}

func TestWhatCannotBeCheckedIsNotVerified(t *testing.T) {
	whole := newLogDir(t)
	l := openLog(t, Config{Dir: whole})
	fill(t, l, 1)
	_ = l.Close()
	for name, c := range map[string]struct {
		dir string
		o   VerifyOptions
	}{
		"no folder":     {filepath.Join(t.TempDir(), "x"), VerifyOptions{}},
		"no log":        {t.TempDir(), VerifyOptions{}},
		"no key":        {whole, VerifyOptions{Key: "nonsense"}},
		"no recordings": {whole, VerifyOptions{Recordings: filepath.Join(t.TempDir(), "x")}},
		"since":         {whole, VerifyOptions{Since: []byte("nonsense")}},
		"no session":    {whole, VerifyOptions{Recordings: t.TempDir(), Session: "s9"}},
	} {
		r, err := Verify(t.Context(), c.dir, c.o)
		if err == nil || r.Exit() != 2 || r.Verdict() != "could not check" || len(r.Problems) == 0 {
			t.Errorf("%s: %s, %v", name, r.Verdict(), err)
		}
	}
}

func TestVerifyBesideAWriter(t *testing.T) {
	r := newRecorded(t, nil)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 30 {
			begun(t, r, fmt.Sprint("s", i))
			rec, err := r.Start(t.Context(), Meta{Session: fmt.Sprint("s", i)})
			if err != nil {
				t.Error(err)
				return
			}
			for range 20 {
				if err := rec.Write(Query{SQL: strings.Repeat("x", 5000)}); err != nil {
					t.Error(err)
				}
			}
			if _, err := rec.Seal(t.Context(), "closed"); err != nil {
				t.Error(err)
			}
			if err := r.log.publisher.publish(); err != nil {
				t.Error(err)
			}
		}
	}()
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		mustVerify(t, r.dir, VerifyOptions{Recordings: r.rec})
	}
}

// given are the entries of a grant g out of a request r.
func given() []Event {
	return []Event{{Type: RequestCreated, Request: "r"}, {Type: ApprovalGiven, Request: "r"}, {Type: RequestApproved, Request: "r"}, {Type: GrantActive, Request: "r", Grant: "g"}}
}

func TestReferences(t *testing.T) {
	for name, c := range map[string]struct {
		events []Event
		want   string
	}{
		"grant without approval": {[]Event{{Type: RequestCreated, Request: "r"}, {Type: GrantActive, Request: "r", Grant: "g"}}, "its request r was not approved"},
		"approved by nobody":     {[]Event{{Type: RequestCreated, Request: "r"}, {Type: RequestApproved, Request: "r"}}, "nobody approved it"},
		"two outcomes": {
			[]Event{{Type: RequestCreated, Request: "r"}, {Type: RequestDenied, Request: "r"}, {Type: RequestWithdrawn, Request: "r"}},
			"has two outcomes",
		},
		"denied and granted": {
			[]Event{{Type: RequestCreated, Request: "r"}, {Type: ApprovalGiven, Request: "r"}, {Type: RequestDenied, Request: "r"}, {Type: GrantActive, Request: "r", Grant: "g"}},
			"was not approved",
		},
		"session without grant": {[]Event{{Type: SessionStarted, Session: "s", Grant: "g"}}, "which was never given"},
		"end without start":     {[]Event{{Type: SessionEnded, Session: "s"}}, "session s ends and never began"},
		"approval of nothing":   {[]Event{{Type: ApprovalGiven, Request: "r"}}, "which was never made"},
		"outcome of nothing":    {[]Event{{Type: RequestDenied, Request: "r"}}, "which was never made"},
		"revoked twice":         {append(given(), Event{Type: GrantRevoked, Grant: "g"}, Event{Type: GrantExpired, Grant: "g"}), "grant g ends twice"},
		"given twice":           {append(given(), Event{Type: GrantActive, Request: "r", Grant: "g"}), "grant g is given twice"},
		"revoked and not given": {[]Event{{Type: GrantRevoked, Grant: "g"}}, "grant g ends and never began"},
		"session of an ended grant": {
			append(given(), Event{Type: GrantReleased, Grant: "g"}, Event{Type: SessionStarted, Session: "s", Grant: "g"}),
			"session s starts under grant g, which had ended",
		},
		"session starts twice": {
			append(given(), Event{Type: SessionStarted, Session: "s", Grant: "g"}, Event{Type: SessionStarted, Session: "s", Grant: "g"}),
			"session s starts twice",
		},
		"session ends twice": {
			append(given(), Event{Type: SessionStarted, Session: "s", Grant: "g"}, Event{Type: SessionEnded, Session: "s"}, Event{Type: SessionEnded, Session: "s"}),
			"session s ends twice",
		},
		"yes after the no": {
			[]Event{{Type: RequestCreated, Request: "r"}, {Type: RequestDenied, Request: "r"}, {Type: ApprovalGiven, Request: "r"}},
			"an approval of request r after its outcome, request.denied",
		},
		"taken back and not given": {[]Event{{Type: RequestCreated, Request: "r"}, {Type: ApprovalTaken, Request: "r"}}, "taken back, which was never given"},
		"taken back and approved": {
			[]Event{{Type: RequestCreated, Request: "r"}, {Type: ApprovalGiven, Request: "r"}, {Type: ApprovalTaken, Request: "r"}, {Type: RequestApproved, Request: "r"}},
			"nobody approved it",
		},
		"started twice": {[]Event{{Type: RequestCreated, Request: "r"}, {Type: RequestCreated, Request: "r"}}, "created twice"},
	} {
		dir := newLogDir(t)
		l := openLog(t, Config{Dir: dir})
		for i, e := range c.events {
			if _, err := l.Append(t.Context(), []Pending{encode(t, l, uint64(i+1), e)}); err != nil {
				t.Fatal(err)
			}
		}
		_ = l.Close()
		r := verify(t, dir, VerifyOptions{})
		if r.Exit() != 1 || !strings.Contains(r.Findings[len(r.Findings)-1].What, c.want) {
			t.Errorf("%s: %v", name, r.Findings)
		}
	}
}

// TestCountersHaveNoGap signs a log in which an entry is missing: whoever has the
// key can, but not without a trace.
func TestCountersHaveNoGap(t *testing.T) {
	dir := newLogDir(t)
	l := openLog(t, Config{Dir: dir})
	fill(t, l, 1)
	l.mu.Lock()
	l.counts[l.node] = 2 // as if an entry had been logged in between
	l.mu.Unlock()
	fill(t, l, 1)
	_ = l.Close()
	if r := verify(t, dir, VerifyOptions{}); r.Exit() != 1 || !strings.Contains(r.Findings[0].What, "counter 3 of node a comes after 1") {
		t.Errorf("%v", r.Findings)
	}
	if _, err := Open(Config{Dir: dir, Node: "a"}); !errors.Is(err, ErrDamaged) {
		t.Errorf("%v", err)
	}
}

// TestForeignCheckpointIsFound puts a checkpoint in place that another key signed.
func TestForeignCheckpointIsFound(t *testing.T) {
	w := writeBatches(t, 1, 1)
	signed := func(origin, key string) []byte {
		_, leaf, _ := splitEntry(entry(t, w.wal, 0))
		var tr tree
		tr.add(recordHash(leaf))
		return signFor(t, torchwood.Checkpoint{Origin: origin, Tree: tlog.Tree{N: 1, Hash: tr.root()}}.String(), key)
	}
	_, _, foreignKey := foreignSigner(t)
	foreign := signed(testOrigin, foreignKey)
	dir := copyDir(t, w.dir)
	rewrite(t, dir, func(f [][]byte) [][]byte {
		f[2] = appendFrame(nil, frameCheckpoint, foreign)
		return f
	})
	if r := verify(t, dir, VerifyOptions{}); r.Exit() != 1 || !strings.Contains(r.Findings[0].What, "not signed by the log's key") {
		t.Errorf("%v", r.Findings)
	}
	// As the last one it is refused at start too.
	dir = w.crashed(t, w.wal)
	rewrite(t, dir, func(f [][]byte) [][]byte {
		f[2] = appendFrame(nil, frameCheckpoint, foreign)
		return f[:3]
	})
	if _, err := Open(Config{Dir: dir, Node: "a"}); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "not signed by the log's key") {
		t.Errorf("%v", err)
	}
	// Neither is another log's checkpoint under the same key this log's.
	key, err := note.NewVerifier(w.key)
	if err != nil {
		t.Fatal(err)
	}
	other := signed("other.test/audit", string(readFile(t, w.dir, fileKey)))
	if _, why := openCheckpoint(other, testOrigin, key); !strings.Contains(why, "belongs to the log") {
		t.Errorf("another log's checkpoint: %q", why)
	}
}

func foreignSigner(t testing.TB) (note.Signer, string, string) {
	t.Helper()
	skey, vkey, err := note.GenerateKey(constant{}, testOrigin)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	return signer, vkey, skey
}

func signFor(t testing.TB, text, skey string) []byte {
	t.Helper()
	signer, err := note.NewSigner(strings.TrimSpace(skey))
	if err != nil {
		t.Fatal(err)
	}
	signed, err := note.Sign(&note.Note{Text: text}, signer)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

type constant struct{}

func (constant) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestTilesAndCheckpointAreReadByOthers walks the published log as any C2SP client
// does, with another implementation of the format.
func TestTilesAndCheckpointAreReadByOthers(t *testing.T) {
	dir := newLogDir(t)
	l := openLog(t, Config{Dir: dir})
	var ps []Pending
	for c := range uint64(1000) {
		ps = append(ps, encode(t, l, c+1, Event{Type: SignedIn}))
	}
	if _, err := l.Append(t.Context(), ps); err != nil {
		t.Fatal(err)
	}
	state := l.State()
	_ = l.Close()
	key, err := note.NewVerifier(state.Key)
	if err != nil {
		t.Fatal(err)
	}
	cp, _, err := torchwood.VerifyCheckpoint(readFile(t, dir, fileCheckpoint), torchwood.ThresholdPolicy(2, torchwood.OriginPolicy(testOrigin), torchwood.SingleVerifierPolicy(key)))
	if err != nil || cp.N != 1000 || cp.Hash != state.Root {
		t.Fatalf("%+v, %v", cp, err)
	}
	tiles, err := torchwood.NewTileFS(os.DirFS(dir))
	if err != nil {
		t.Fatal(err)
	}
	client, err := torchwood.NewClient(tiles)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for i, entry := range client.AllEntries(t.Context(), cp.Tree, 0) {
		if !bytes.Equal(entry, ps[i].Leaf) {
			t.Errorf("entry %d is %s", i, entry)
		}
		n++
	}
	if err := client.Err(); err != nil || n != 1000 {
		t.Errorf("%d entries, %v", n, err)
	}
	if _, err := base64.StdEncoding.DecodeString(strings.Split(string(readFile(t, dir, fileCheckpoint)), "\n")[2]); err != nil {
		t.Error(err)
	}
}
