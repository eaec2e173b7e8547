package audit

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"

	"github.com/sallyport/sallyport/internal/durable"
)

// recordingCheck compares the recordings on disk with what the log says of them.
type recordingCheck struct {
	dir     *durable.Dir
	folders map[string]string // by session
	open    map[string]bool   // those that were not sealed when the check began
}

// openRecordings lists what there is, before the log is read: a recording that is
// made or sealed later is then no surprise.
func (v *verifier) openRecordings() (*recordingCheck, error) {
	c := &recordingCheck{folders: map[string]string{}, open: map[string]bool{}}
	if v.o.Recordings == "" {
		return c, nil
	}
	dir, err := durable.Open(v.o.Recordings, nil)
	if err != nil {
		return c, err
	}
	c.dir = dir
	folders, err := fs.Glob(dir.FS(), "[0-9][0-9][0-9][0-9]/[0-9][0-9]/[0-9][0-9]/*")
	if err != nil {
		return c, err
	}
	for _, folder := range folders {
		session := folder[len("2006/01/02/"):]
		if other, twice := c.folders[session]; twice {
			v.found("recording "+session, fmt.Sprintf("it is there twice, in %s and %s", other, folder))
		}
		c.folders[session] = folder
	}
	marks, err := fs.ReadDir(dir.FS(), folderOpen)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return c, err
	}
	for _, mark := range marks {
		c.open[mark.Name()] = true
	}
	return c, nil
}

func (c *recordingCheck) close() {
	if c.dir != nil {
		_ = c.dir.Close()
	}
}

// check compares all recordings, or the one that was asked for.
func (c *recordingCheck) check(ctx context.Context, v *verifier) error {
	if c.dir == nil {
		if len(v.trails) > 0 {
			v.Notes = append(v.Notes, fmt.Sprintf("%d recordings are named in the log and were not checked", len(v.trails)))
		}
		return nil
	}
	if only := v.o.Session; only != "" {
		if v.trails[only] == nil && c.folders[only] == "" {
			return fmt.Errorf("session %s: %w", only, ErrNoRecording)
		}
	}
	wanted := func(session string) bool { return v.o.Session == "" || v.o.Session == session }
	for _, session := range slices.Sorted(maps.Keys(c.folders)) {
		if v.trails[session] != nil || !wanted(session) {
			continue
		}
		if _, started := v.refs.sessions[session]; c.open[session] && started {
			v.Notes = append(v.Notes, fmt.Sprintf("recording %s has just begun: the log names nothing of it yet", session))
			continue
		}
		v.found("recording "+session, "the log does not know it")
	}
	for _, session := range slices.Sorted(maps.Keys(v.trails)) {
		if !wanted(session) {
			continue
		}
		if err := c.one(ctx, v, session, v.trails[session]); err != nil {
			return err
		}
		v.Recordings++
	}
	return nil
}

const neverThere = ": the recorder failed before anything of it was on disk, and the session ended"

// one compares one recording with its trail.
func (c *recordingCheck) one(ctx context.Context, v *verifier, session string, t *trail) error {
	where := "recording " + session
	folder, ok := c.folders[session]
	if !ok {
		if !goodID(session) || !c.later(session, &folder) {
			if t.neverThere() {
				v.Notes = append(v.Notes, where+neverThere)
				return nil
			}
			v.found(where, "it is missing, and no erasure was logged")
			return nil
		}
	}
	meta, err := c.dir.ReadFile(folder + "/" + fileMetaData)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if t.neverThere() && blank(meta) {
		v.Notes = append(v.Notes, where+neverThere)
		return nil
	}
	if want := t.metaHash(); want != "" && bodyHash(meta) != want {
		v.found(where, fileMetaData+" is not the one that was logged")
	}
	size, err := c.chunks(ctx, v, where, folder, t)
	if err != nil {
		return err
	}
	extra := size - t.end()
	switch {
	case t.sealed == nil:
		v.Notes = append(v.Notes, fmt.Sprintf("%s is not sealed: its session lives, or the gate crashed and has not started since", where))
	case extra > 0 && !t.sealed.Lost:
		v.found(where, fmt.Sprintf("%d bytes were added behind its seal", extra))
	case t.sealed.Lost:
		v.Notes = append(v.Notes, fmt.Sprintf("%s: the recorder failed and the session ended; %d bytes behind the last chunk are not vouched for", where, max(extra, 0)))
	}
	if t.sealed != nil && !c.open[session] {
		return c.summary(v, where, folder, t.sealed.Summary)
	}
	return nil
}

// later finds a recording that began after the folders were listed. Its seal may be
// in the log and its summary still on the way.
func (c *recordingCheck) later(session string, folder *string) bool {
	c.open[session] = true
	if name, ok := marked(c.dir, session); ok {
		*folder = name
		return true
	}
	found, err := fs.Glob(c.dir.FS(), "[0-9][0-9][0-9][0-9]/[0-9][0-9]/[0-9][0-9]/"+session)
	if err != nil || len(found) == 0 {
		return false
	}
	*folder = found[0]
	return true
}

// chunks compares the bytes with the chunks that were logged.
func (c *recordingCheck) chunks(ctx context.Context, v *verifier, where, folder string, t *trail) (size int64, err error) {
	f, err := c.dir.Open(folder + "/" + fileChunks)
	if errors.Is(err, fs.ErrNotExist) {
		if len(t.chunks) > 0 {
			v.found(where, fileChunks+" is missing")
		}
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	for _, chunk := range t.chunks {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		if why, err := checkChunk(f, chunk); err != nil {
			return 0, err
		} else if why != "" {
			v.found(fmt.Sprintf("%s, chunk %d (byte %d)", where, chunk.N, chunk.Offset), why)
		}
		v.Chunks++
	}
	return info.Size(), nil
}

func checkChunk(f *os.File, c chunkBody) (why string, err error) {
	sum := sha256.New()
	n, err := io.Copy(sum, io.NewSectionReader(f, c.Offset, c.Length))
	switch {
	case err != nil:
		return "", err
	case n < c.Length:
		return fmt.Sprintf("%d of its %d bytes are missing", c.Length-n, c.Length), nil
	case hex.EncodeToString(sum.Sum(nil)) != c.SHA256:
		return "its bytes are not those that were logged", nil
	}
	return "", nil
}

// metaHash is the hash of meta.json that the log holds.
func (t *trail) metaHash() string {
	switch {
	case t.sealed != nil:
		return t.sealed.Meta
	case len(t.chunks) > 0:
		return t.chunks[0].Meta
	}
	return ""
}

// summary compares the file that lists are made from with the seal.
func (c *recordingCheck) summary(v *verifier, where, folder string, logged Summary) error {
	var s Summary
	err := readJSON(c.dir, folder+"/"+fileSummary, &s)
	var unreadable *fs.PathError
	if errors.As(err, &unreadable) && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err != nil || s != logged {
		v.found(where, fileSummary+" is not what was sealed")
	}
	return nil
}
