package audit

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// Recover seals, as "crashed", the recordings that a crash left open: what the
// kernel had taken beyond the last logged chunk is hashed and logged. It comes
// before the first Start.
func (r *Recordings) Recover(ctx context.Context) error {
	marks, err := fs.ReadDir(r.dir.FS(), folderOpen)
	if err != nil {
		return fmt.Errorf("recover recordings: %w", err)
	}
	left := map[string]*trail{}
	for _, mark := range marks {
		session := mark.Name()
		if !goodID(session) {
			continue
		}
		if _, ok := marked(r.dir, session); ok {
			left[session] = newTrail()
			continue
		}
		// A power failure took what it said. Its folder, if there is one, is found below.
		if err := r.dir.Remove(folderOpen + "/" + session); err != nil {
			return fmt.Errorf("recover recordings: %w", err)
		}
	}
	unmarked, err := r.unmarked(left)
	if err != nil {
		return fmt.Errorf("recover recordings: %w", err)
	}
	for session := range unmarked {
		left[session] = newTrail()
	}
	if len(left) == 0 {
		return nil
	}
	// The log says how far each of them got.
	err = r.log.walk(ctx, func(f Fields, body func() ([]byte, error)) error {
		t := left[f.Session]
		switch {
		case t == nil:
		case f.Type == SessionStarted:
			t.started = true
		case f.Type == RecordingChunk || f.Type == RecordingSealed:
			text, err := body()
			if err != nil {
				return err
			}
			return t.add(f.Type, text)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("recover recordings: %w", err)
	}
	for session, t := range left {
		// A session's start is in the log before its recording begins. What nobody
		// started was put there, and must not become part of the log: verify names it.
		if !t.started && len(t.chunks) == 0 && t.sealed == nil {
			r.logger.Error("a recording of a session that never started is left alone; type: sallyport audit verify", "session", session)
			continue
		}
		if folder := unmarked[session]; folder != "" {
			if err := r.writeNew(folderOpen+"/"+session, []byte(folder)); err != nil {
				return fmt.Errorf("recover recording of session %s: %w", session, err)
			}
		}
		if err := r.rescue(ctx, session, t); err != nil {
			return fmt.Errorf("recover recording of session %s: %w", session, err)
		}
	}
	return nil
}

// unmarked are the folders, by session, of recordings that have neither mark nor summary.
// A mark is synced with the first chunk only, and the summary never: a power failure may
// have taken both, of recordings of the last two days on which there were any.
func (r *Recordings) unmarked(marked map[string]*trail) (map[string]string, error) {
	days, err := r.days()
	if err != nil {
		return nil, err
	}
	folders := map[string]string{}
	for _, day := range days[:min(2, len(days))] {
		names, err := fs.ReadDir(r.dir.FS(), day)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			folder := day + "/" + name.Name()
			if _, err := r.dir.Stat(folder + "/" + fileSummary); errors.Is(err, fs.ErrNotExist) {
				if marked[name.Name()] == nil && goodID(name.Name()) {
					folders[name.Name()] = folder
				}
			} else if err != nil {
				return nil, err
			}
		}
	}
	return folders, nil
}

// A trail is what the log says of one recording.
type trail struct {
	started bool // only Recover looks
	chunks  []chunkBody
	sealed  *sealedBody
}

func newTrail() *trail { return &trail{} }

// end is where the last logged chunk ends.
func (t *trail) end() int64 {
	if len(t.chunks) == 0 {
		return 0
	}
	last := t.chunks[len(t.chunks)-1]
	return last.Offset + last.Length
}

// neverThere reports that the recorder failed before the log named a chunk: then nothing
// of the recording has to be on disk.
func (t *trail) neverThere() bool {
	return t.sealed != nil && t.sealed.Lost && len(t.chunks) == 0
}

// blank reports a meta.json of which only the name was on disk, or the length too.
func blank(meta []byte) bool { return len(bytes.Trim(meta, "\x00")) == 0 }

// add takes an entry's body. Its error says how the entry does not follow the others.
func (t *trail) add(kind string, body []byte) error {
	if t.sealed != nil {
		return errors.New("an entry comes after the recording was sealed")
	}
	if kind == RecordingSealed {
		var s sealedBody
		if err := json.Unmarshal(body, &s); err != nil {
			return errors.New("the seal cannot be read")
		}
		t.sealed = &s
		if len(t.chunks) > 0 && t.chunks[0].Meta != s.Meta {
			return errors.New("the seal is over another meta.json than its first chunk")
		}
		if s.Chunks != len(t.chunks) || s.Size != t.end() || s.Hash != t.hash() {
			return errors.New("the seal is over other chunks than were logged")
		}
		return nil
	}
	var c chunkBody
	if err := json.Unmarshal(body, &c); err != nil {
		return errors.New("a chunk's entry cannot be read")
	}
	if c.N != len(t.chunks) || c.Offset != t.end() || c.Length <= 0 {
		return fmt.Errorf("chunk %d comes after %d chunks", c.N, len(t.chunks))
	}
	t.chunks = append(t.chunks, c)
	return nil
}

// hash is SHA-256 over the chunks' hashes.
func (t *trail) hash() string {
	total := sha256.New()
	for _, c := range t.chunks {
		sum, err := hex.DecodeString(c.SHA256)
		if err != nil {
			return ""
		}
		total.Write(sum)
	}
	return hex.EncodeToString(total.Sum(nil))
}

// rescue seals one recording.
func (r *Recordings) rescue(ctx context.Context, session string, t *trail) error {
	folder, text, err := r.remains(session, len(t.chunks) == 0 && t.sealed == nil)
	if t.neverThere() && (errors.Is(err, fs.ErrNotExist) || err == nil && blank(text)) {
		return r.dir.Remove(folderOpen + "/" + session)
	}
	if err != nil {
		return err
	}
	if t.sealed != nil {
		return r.finish(folder, session, t.sealed.Summary)
	}
	rec := &Recorder{in: r, meta: Meta{Session: session}, folder: folder, digest: bodyHash(text)}
	if len(t.chunks) > 0 {
		// What was logged counts, and not what lies there now: verify compares them.
		rec.digest = t.chunks[0].Meta
	}
	// The names that the entries carry; a damaged meta.json is found by its hash.
	if err := json.Unmarshal(text, &rec.meta); err != nil || rec.meta.Session != session {
		rec.meta = Meta{Session: session}
	}
	s := sealedBody{Meta: rec.digest}
	var events []Event
	size, c, err := r.remainder(folder, t.end())
	if err != nil {
		return err
	}
	if size < t.end() {
		r.logger.Error("a recording is shorter than what was logged of it", "session", session, "bytes", size, "logged", t.end())
		s.Lost = true
	}
	if c.Length > 0 {
		if c.N = len(t.chunks); c.N == 0 {
			c.Meta = rec.digest
		}
		t.chunks = append(t.chunks, c)
		events = append(events, rec.event(RecordingChunk, c))
	}
	if err := r.syncNames(folder); err != nil {
		return err
	}
	s.Summary = r.recount(ctx, folder)
	s.Chunks, s.Size, s.Hash, s.Cause, s.Ended = len(t.chunks), t.end(), t.hash(), "crashed", r.now().UTC()
	if _, err := r.log.record(ctx, append(events, rec.event(RecordingSealed, s))...); err != nil {
		return err
	}
	return r.finish(folder, session, s.Summary)
}

// remains finds what is left of an open recording. Of one that the log names
// nothing of, a crash may have taken any part: what is missing is made, so that it
// can be sealed.
func (r *Recordings) remains(session string, unlogged bool) (folder string, meta []byte, err error) {
	folder, ok := marked(r.dir, session)
	if !ok {
		return "", nil, fmt.Errorf("the mark of session %s cannot be read", session)
	}
	name := folder + "/" + fileMetaData
	meta, err = r.dir.ReadFile(name)
	if unlogged && (errors.Is(err, fs.ErrNotExist) || err == nil && !json.Valid(meta)) {
		if meta, err = json.Marshal(Meta{Session: session, Started: r.now().UTC()}); err != nil {
			return "", nil, err
		}
		if _, err := r.dir.Make(folder); err != nil {
			return "", nil, err
		}
		return folder, meta, r.dir.WriteFile(name, meta, 0o600)
	}
	return folder, meta, err
}

// remainder makes what lies behind the byte from durable, and hashes it. The chunk
// has no length where there is nothing.
func (r *Recordings) remainder(folder string, from int64) (size int64, c chunkBody, err error) {
	f, err := r.dir.OpenFile(folder+"/"+fileChunks, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, chunkBody{}, nil
	}
	if err != nil {
		return 0, c, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() <= from {
		return sizeOf(info), c, err
	}
	if err := f.Sync(); err != nil {
		return 0, c, err
	}
	sum := sha256.New()
	n, err := io.Copy(sum, bufio.NewReader(io.NewSectionReader(f, from, info.Size()-from)))
	return info.Size(), chunkBody{Offset: from, Length: n, SHA256: hex.EncodeToString(sum.Sum(nil))}, err
}

func sizeOf(info fs.FileInfo) int64 {
	if info == nil {
		return 0
	}
	return info.Size()
}

// recount counts the lines again, as far as they can be read.
func (r *Recordings) recount(ctx context.Context, folder string) Summary {
	var s Summary
	for line, err := range (Recording{dir: r.dir, folder: folder}).Lines(ctx) {
		if err != nil {
			break
		}
		s.Lines++
		if line.Track != nil {
			line.Track.count(&s)
		}
	}
	return s
}
