package sftp_test

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/sftp"
)

// told is a Record that remembers.
type told struct {
	list    []string
	err     error
	files   int64
	pieces  string
	numbers []int64 // of the files that were moved
}

func (r *told) Began(what string) error {
	r.list = append(r.list, what)
	return r.err
}

// Piece numbers files, and remembers what they had.
func (r *told) Piece(n int64, offset uint64, p []byte) (int64, error) {
	if n == 0 {
		r.files++
		n = r.files
	}
	r.pieces += fmt.Sprintf("%d at %d: %s\n", n, offset, p)
	return n, r.err
}

func (r *told) Moved(f sftp.File) error {
	r.numbers = append(r.numbers, f.N)
	way := "down"
	if f.Up {
		way = "up"
	}
	sum := ""
	if f.SHA256 != nil {
		sum = fmt.Sprintf(" %x", f.SHA256)
	}
	ending := f.Ending
	if ending != "" {
		ending = " " + ending
	}
	r.list = append(r.list, fmt.Sprintf("moved %s %q %d%s%s", way, f.Name, f.Size, sum, ending))
	return r.err
}

func sum(data string) string { return fmt.Sprintf(" %x", sha256.Sum256([]byte(data))) }

// packet is one packet: its type, then numbers and strings as they stand on the wire.
func packet(kind byte, parts ...any) []byte {
	body := []byte{kind}
	for _, part := range parts {
		switch v := part.(type) {
		case int:
			body = binary.BigEndian.AppendUint32(body, uint32(v))
		case uint64:
			body = binary.BigEndian.AppendUint64(body, v)
		case string:
			body = binary.BigEndian.AppendUint32(body, uint32(len(v)))
			body = append(body, v...)
		}
	}
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
}

const (
	hello, open, shut, read, write, setstat, fsetstat, opendir, readdir, remove, rename, stat, extended = 1, 3, 4, 5, 6, 9, 10, 11, 12, 13, 18, 17, 200

	version, status, handle, data, name = 2, 101, 102, 103, 104

	forReading, forWriting = 1, 26
)

// A step is a packet of one side.
type step struct {
	up bool
	p  []byte
}

func up(kind byte, parts ...any) step   { return step{true, packet(kind, parts...)} }
func down(kind byte, parts ...any) step { return step{false, packet(kind, parts...)} }

// follow plays a conversation behind its greeting, and ends it.
func follow(steps ...step) (list []string, err error) {
	r := &told{}
	w := sftp.New(r)
	err = errors.Join(w.Up(packet(hello, 3)), w.Down(packet(version, 3)))
	for _, s := range steps {
		if err != nil {
			break
		}
		if s.up {
			err = w.Up(s.p)
		} else {
			err = w.Down(s.p)
		}
	}
	return r.list, errors.Join(err, w.Close())
}

// The bytes of a file are told with their places, before they go on, and the file by the
// number that they were given.
func TestPieces(t *testing.T) {
	r := &told{}
	w := sftp.New(r)
	err := errors.Join(w.Up(packet(hello, 3)), w.Down(packet(version, 3)))
	for _, s := range []step{
		up(open, 1, "/x", forWriting, 0), down(handle, 1, "x"), up(open, 2, "/y", forReading, 0), down(handle, 2, "y"),
		up(write, 3, "x", uint64(0), "abcd"), up(read, 4, "y", uint64(9), 4), down(data, 4, "efg"), up(write, 5, "x", uint64(4), "hi"), up(write, 6, "x", uint64(6), ""),
		down(status, 3, 0, "", ""), down(status, 5, 0, "", ""), down(status, 6, 0, "", ""),
		up(shut, 7, "y"), down(status, 7, 0, "", ""), up(shut, 8, "x"), down(status, 8, 0, "", ""),
	} {
		if s.up {
			err = errors.Join(err, w.Up(s.p))
		} else {
			err = errors.Join(err, w.Down(s.p))
		}
	}
	if want := "1 at 0: abcd\n2 at 9: efg\n1 at 4: hi\n"; err != nil || r.pieces != want || !reflect.DeepEqual(r.numbers, []int64{2, 1}) {
		t.Errorf("%v: %q, files %v", err, r.pieces, r.numbers)
	}
	r.err = errors.New("full")
	if err := w.Up(packet(open, 9, "/z", forReading, 0)); !errors.Is(err, r.err) {
		t.Errorf("%v", err)
	}
}

func TestWhatIsTold(t *testing.T) {
	for _, trial := range []struct {
		name  string
		steps []step
		want  []string
	}{
		{
			"a file is read",
			[]step{
				up(open, 1, "/x", forReading, 0), down(handle, 1, "h"), up(read, 2, "h", uint64(0), 4), up(read, 3, "h", uint64(4), 4),
				down(data, 2, "abcd"), down(data, 3, "ef"), up(shut, 4, "h"), down(status, 4, 0, "", ""),
			},
			[]string{`read "/x"`, `moved down "/x" 6` + sum("abcdef")},
		},
		{
			"a CLOSE right behind the READs",
			[]step{
				up(open, 1, "/x", forReading, 0), down(handle, 1, "h"), up(read, 2, "h", uint64(0), 4), up(shut, 3, "h"),
				down(data, 2, "abcd"), down(status, 3, 0, "", ""),
			},
			[]string{`read "/x"`, `moved down "/x" 4` + sum("abcd")},
		},
		{
			"a CLOSE answered before the READs, and its handle given anew",
			[]step{
				up(open, 1, "/x", forReading, 0), down(handle, 1, "h"), up(read, 2, "h", uint64(0), 4), up(shut, 3, "h"), up(open, 4, "/y", forReading, 0),
				down(status, 3, 0, "", ""), down(handle, 4, "h"), down(data, 2, "abcd"), up(shut, 5, "h"), down(status, 5, 0, "", ""),
			},
			[]string{`read "/x"`, `read "/y"`, `moved down "/x" 4` + sum("abcd"), `moved down "/y" 0` + sum("")},
		},
		{
			"a file is written, and a WRITE fails",
			[]step{
				up(open, 1, "/x", forWriting, 0), down(handle, 1, "h"), up(write, 2, "h", uint64(0), "abcd"), up(write, 3, "h", uint64(4), "ef"),
				down(status, 2, 0, "", ""), down(status, 3, 4, "full", ""), up(shut, 4, "h"), down(status, 4, 0, "", ""),
			},
			[]string{`write "/x"`, `moved up "/x" 4`},
		},
		{
			"closing fails",
			[]step{up(open, 1, "/x", forWriting, 0), down(handle, 1, "h"), up(shut, 4, "h"), down(status, 4, 4, "", "")},
			[]string{`write "/x"`, `moved up "/x" 0` + sum("") + " close failed"},
		},
		{
			"the end comes first",
			[]step{up(open, 1, "/x", forWriting, 0), down(handle, 1, "h"), up(write, 2, "h", uint64(0), "abcd"), up(shut, 3, "h")},
			[]string{`write "/x"`, `moved up "/x" 4` + sum("abcd") + " not closed"},
		},
		{
			"a file that is not there",
			[]step{up(open, 1, "/x", forReading, 0), down(status, 1, 2, "No such file", ""), up(open, 1, "/y", forReading, 0)},
			[]string{`read "/x"`, `read "/y"`},
		},
		{
			"a file out of order has no digest",
			[]step{
				up(open, 1, "/x", forReading, 0), down(handle, 1, "h"), up(read, 2, "h", uint64(9), 4), down(data, 2, "abcd"), up(shut, 3, "h"), down(status, 3, 0, "", ""),
			},
			[]string{`read "/x"`, `moved down "/x" 4`},
		},
		{
			"names and attributes",
			[]step{
				up(opendir, 1, "/"), down(handle, 1, "d"), up(readdir, 2, "d"), down(name, 2, 0), up(shut, 3, "d"), down(status, 3, 0, "", ""), up(stat, 4, "/a"),
				up(remove, 5, "/a"), up(rename, 6, "/a", "/b"), up(setstat, 7, "/a", 5, uint64(7), 0o104755), up(extended, 8, "posix-rename@openssh.com", "/c", "/d"), up(extended, 9, "run@example.com", "ls"),
			},
			[]string{`list "/"`, `remove "/a"`, `rename "/a" "/b"`, `setstat "/a" size=7 mode=4755`, `posix-rename@openssh.com "/c" "/d"`, `extension "run@example.com" "\x00\x00\x00\x02ls"`},
		},
		{
			"a copy at the target",
			[]step{
				up(open, 1, "/x", forReading, 0), down(handle, 1, "a"), up(open, 2, "/y", forWriting, 0), down(handle, 2, "b"),
				up(extended, 3, "copy-data", "a", uint64(0), uint64(0), "b", uint64(0)), up(shut, 4, "b"), down(status, 3, 0, "", ""), down(status, 4, 0, "", ""), up(fsetstat, 5, "a", 0),
			},
			[]string{`read "/x"`, `write "/y"`, `copy-data "/x" "/y"`, `moved up "/y" 0`, `setstat "/x"`, `moved down "/x" 0` + sum("") + " not closed"},
		},
	} {
		if list, err := follow(trial.steps...); err != nil || !reflect.DeepEqual(list, trial.want) {
			t.Errorf("%s: %v\n%s\nwanted\n%s", trial.name, err, strings.Join(list, "\n"), strings.Join(trial.want, "\n"))
		}
	}
}

// What would have the record tell something else than what happens does not go on.
func TestWhatFoolsTheRecordIsRefused(t *testing.T) {
	opened := []step{up(open, 1, "/x", forReading, 0), down(handle, 1, "h")}
	for _, trial := range []struct {
		name, words string
		steps       []step
	}{
		{"a guessed handle", "a handle that the target did not give", []step{up(open, 1, "/x", forWriting, 0), up(write, 2, "h", uint64(0), "abcd")}},
		{"a guessed handle is read", "a handle that the target did not give", []step{up(open, 1, "/x", forReading, 0), up(read, 2, "h", uint64(0), 4)}},
		{"a guessed handle is closed", "a handle that the target did not give", []step{up(open, 1, "/x", forReading, 0), up(shut, 2, "h")}},
		{"a guessed handle is copied from", "a handle that the target did not give", append(opened[:2:2], up(extended, 3, "copy-data", "x", uint64(0), uint64(0), "h", uint64(0)))},
		{"a guessed handle is copied to", "a handle that the target did not give", append(opened[:2:2], up(extended, 3, "copy-data", "h", uint64(0), uint64(0), "x", uint64(0)))},
		{"a guessed handle is synced", "a handle that the target did not give", []step{up(extended, 3, "fsync@openssh.com", "x")}},
		{"a handle behind its CLOSE", "a handle that is being closed", append(opened[:2:2], up(shut, 2, "h"), up(read, 3, "h", uint64(0), 4))},
		{"two CLOSEs", "a handle that is being closed", append(opened[:2:2], up(shut, 2, "h"), up(shut, 3, "h"))},
		{"an id in use", "request id 1 is in use", []step{up(open, 1, "/x", forReading, 0), up(open, 1, "/y", forReading, 0)}},
		{"an id in use by what is not told", "request id 1 is in use", []step{up(stat, 1, "/x"), up(open, 1, "/y", forReading, 0)}},
		{"an answer to nothing", "an answer to nothing", []step{down(handle, 1, "h")}},
		{"two answers", "an answer to nothing", append(opened[:2:2], down(handle, 1, "i"))},
		{"an answer of another kind", "an answer of type 102 to a request of type 17", []step{up(stat, 1, "/x"), down(handle, 1, "h")}},
		{"data that nobody read", "an answer of type 103 to a request of type 4", append(opened[:2:2], up(shut, 2, "h"), down(data, 2, "abcd"))},
		{"more than was asked for", "more than was asked for", append(opened[:2:2], up(read, 2, "h", uint64(0), 2), down(data, 2, "abcd"))},
		{"one handle for two files", "a handle twice", append(opened[:2:2], up(open, 2, "/y", forReading, 0), down(handle, 2, "h"))},
		{"a type that is unknown", "packet type 99", []step{up(99, 1)}},
		{"a short packet", "a short packet", []step{up(open, 1)}},
		{"a short handle", "a short packet", append(opened[:2:2], up(shut, 1, 7))},
		{"a second greeting", "a first packet that is not, or another one", []step{up(hello, 3)}},
		{"a second version", "a first answer that is not, or another one", []step{down(version, 3)}},
		{"no packet", "a packet of 0 bytes", []step{{true, make([]byte, 4)}}},
		{"no end of a packet", "a packet of 4294967295 bytes", []step{{true, []byte("\xff\xff\xff\xff")}}},
	} {
		if list, err := follow(trial.steps...); !errors.Is(err, sftp.ErrBad) || !strings.Contains(err.Error(), trial.words) {
			t.Errorf("%s: %v; told %q", trial.name, err, list)
		}
	}
}

func TestGreeting(t *testing.T) {
	for _, v := range []int{1, 2, 4, 6} {
		if err := sftp.New(&told{}).Down(packet(version, v)); !errors.Is(err, sftp.ErrBad) {
			t.Errorf("version %d: %v", v, err)
		}
	}
	if err := sftp.New(&told{}).Up(packet(open, 1, "/x", forReading, 0)); !errors.Is(err, sftp.ErrBad) {
		t.Errorf("no greeting: %v", err)
	}
	if err := sftp.New(&told{}).Down(packet(handle, 1, "h")); !errors.Is(err, sftp.ErrBad) {
		t.Errorf("no version: %v", err)
	}
}

func TestLimits(t *testing.T) {
	var asks, opens []step
	for i := range 1<<18 + 1 {
		asks = append(asks, up(stat, i, "/"))
	}
	if _, err := follow(asks...); !errors.Is(err, sftp.ErrBad) || !strings.Contains(err.Error(), "requests wait for an answer") {
		t.Errorf("requests: %v", err)
	}
	for i := range 4097 {
		opens = append(opens, up(open, i, "/x", forReading, 0), down(handle, i, fmt.Sprint(i)))
	}
	if _, err := follow(opens...); !errors.Is(err, sftp.ErrBad) || !strings.Contains(err.Error(), "files are open") {
		t.Errorf("files: %v", err)
	}
}

func TestRecordThatFailsEndsIt(t *testing.T) {
	r := &told{err: errors.New("the disk is full")}
	w := sftp.New(r)
	if err := errors.Join(w.Up(packet(hello, 3)), w.Down(packet(version, 3))); err != nil {
		t.Fatal(err)
	}
	if err := w.Up(packet(remove, 1, "/x")); !errors.Is(err, r.err) {
		t.Errorf("%v", err)
	}
}

// FuzzWatch plays a conversation of anything: it must not panic, and how the bytes were
// cut must not matter. A run of bytes is a byte that says whose it is (odd: the
// client's), two of its length, and itself.
func FuzzWatch(f *testing.F) {
	files, err := filepath.Glob("testdata/openssh/*.transcript")
	if err != nil || len(files) == 0 {
		f.Fatalf("%d transcripts: %v", len(files), err)
	}
	for _, path := range files {
		var seed []byte
		for _, s := range transcript(f, path) {
			side := byte(0)
			if s.up {
				side = 1
			}
			if len(seed) < 16<<10 {
				seed = append(binary.BigEndian.AppendUint16(append(seed, side), uint16(len(s.p))), s.p...)
			}
		}
		f.Add(seed, uint16(3))
	}
	f.Fuzz(func(t *testing.T, said []byte, size uint16) {
		whole, pieces := &told{}, &told{}
		a, b := sftp.New(whole), sftp.New(pieces)
		for len(said) >= 3 {
			n := min(len(said)-3, int(binary.BigEndian.Uint16(said[1:])))
			up, run := said[0]%2 == 1, said[3:3+n]
			said = said[3+n:]
			err, cut := play(a, up, run, len(run)+1), play(b, up, run, int(size)+1)
			if fmt.Sprint(err) != fmt.Sprint(cut) {
				t.Fatalf("whole: %v; in pieces: %v", err, cut)
			}
			if err != nil {
				break
			}
		}
		if !reflect.DeepEqual(whole.list, pieces.list) {
			t.Fatalf("whole: %q; in pieces: %q", whole.list, pieces.list)
		}
		if err := errors.Join(a.Close(), b.Close()); err != nil {
			t.Fatal(err)
		}
	})
}

// play gives a run of bytes to a watch in pieces.
func play(w *sftp.Watch, up bool, run []byte, size int) error {
	side := w.Down
	if up {
		side = w.Up
	}
	for len(run) > 0 {
		n := min(size, len(run))
		if err := side(run[:n]); err != nil {
			return err
		}
		run = run[n:]
	}
	return nil
}
