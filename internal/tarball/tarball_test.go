package tarball

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

type entry struct {
	name, text string
	kind       byte
}

func packed(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Typeflag: e.kind, Mode: 0o644, Size: int64(len(e.text))}
		switch e.kind {
		case 0:
			h.Typeflag = tar.TypeReg
		case tar.TypeSymlink, tar.TypeLink:
			h.Linkname, h.Size = e.text, 0
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := w.Write([]byte(e.text)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

var (
	folders = []string{"rules", "keys"}
	limits  = Limits{File: 100, Total: 1000, Files: 20}
)

// files are those below a folder, with their texts.
func files(t testing.TB, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(filepath.Join(dir, name))
		all[name] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestUnpack(t *testing.T) {
	big := strings.Repeat("x", 90)
	many := make([]entry, 21)
	for i := range many {
		many[i] = entry{name: "other/" + strings.Repeat("a", i+1)}
	}
	for name, c := range map[string]struct {
		entries []entry
		want    map[string]string
		say     string
	}{
		"as it is":          {[]entry{{"rules/a.hcl", "a", 0}, {"keys/k", "k", 0}, {"README", "r", 0}}, map[string]string{"rules/a.hcl": "a", "keys/k": "k"}, ""},
		"as git hosts do":   {[]entry{{"repo-12ab/", "", tar.TypeDir}, {"repo-12ab/rules/b/a.hcl", "a", 0}, {"repo-12ab/README", "r", 0}}, map[string]string{"rules/b/a.hcl": "a"}, ""},
		"a dot first":       {[]entry{{"./rules/a.hcl", "a", 0}}, map[string]string{"rules/a.hcl": "a"}, ""},
		"a link elsewhere":  {[]entry{{"rules/a.hcl", "a", 0}, {"CHANGES", "/etc/passwd", tar.TypeSymlink}}, map[string]string{"rules/a.hcl": "a"}, ""},
		"named as one":      {[]entry{{"rules/rules/a.hcl", "a", 0}, {"rules/keys/k", "k", 0}}, map[string]string{"rules/a.hcl": "a", "keys/k": "k"}, ""},
		"one of them":       {[]entry{{"rules/sub/a.hcl", "a", 0}}, map[string]string{"rules/sub/a.hcl": "a"}, ""},
		"above":             {[]entry{{"../rules/a.hcl", "a", 0}}, nil, "path escapes"},
		"absolute":          {[]entry{{"/rules/a.hcl", "a", 0}}, nil, "path escapes"},
		"up from inside":    {[]entry{{"rules/../../../x", "a", 0}}, map[string]string{}, ""},
		"a link":            {[]entry{{"rules/a.hcl", "/etc/passwd", tar.TypeSymlink}}, nil, "is no plain file"},
		"a link to a file":  {[]entry{{"rules/a.hcl", "keys/k", tar.TypeLink}}, nil, "is no plain file"},
		"a pipe":            {[]entry{{"rules/p", "", tar.TypeFifo}}, nil, "is no plain file"},
		"a file twice":      {[]entry{{"rules/a.hcl", "a", 0}, {"rules/a.hcl", "b", 0}}, nil, "file exists"},
		"a large file":      {[]entry{{"rules/a.hcl", big + big, 0}}, nil, "of at most 100 bytes"},
		"large in all":      {[]entry{{"o/1", strings.Repeat(big, 1000), 0}}, nil, "more than 20 entries or 1000 bytes"},
		"very many entries": {many, nil, "more than 20 entries"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			at, err := Unpack(bytes.NewReader(packed(t, c.entries...)), dir, folders, limits)
			if c.say != "" {
				if err == nil || !strings.Contains(err.Error(), c.say) {
					t.Errorf("got %v, want %q", err, c.say)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := files(t, at)
			if len(got) != len(c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
			for name, text := range c.want {
				if got[name] != text {
					t.Errorf("%s is %q, want %q", name, got[name], text)
				}
			}
		})
	}
	for name, text := range map[string][]byte{"no gzip": []byte("hello"), "cut off": packed(t, entry{"rules/a.hcl", "a", 0})[:40]} {
		if _, err := Unpack(bytes.NewReader(text), t.TempDir(), folders, limits); err == nil || !strings.Contains(err.Error(), "not a gzipped tar") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Whatever an archive holds, nothing is written but plain files below the named folders.
func FuzzUnpack(f *testing.F) {
	f.Add("rules/a.hcl", "a", byte(tar.TypeReg))
	f.Add("../keys/../../a", "/etc", byte(tar.TypeSymlink))
	f.Fuzz(func(t *testing.T, name, text string, kind byte) {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		w := tar.NewWriter(z)
		h := &tar.Header{Name: name, Typeflag: kind, Linkname: text, Size: int64(len(text))}
		if w.WriteHeader(h) == nil {
			_, _ = w.Write([]byte(text))
		}
		_, _ = w.Close(), z.Close()
		outer := t.TempDir()
		dir := filepath.Join(outer, "in")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		_, _ = Unpack(&b, dir, folders, limits) // most are refused
		for name := range files(t, outer) {
			if !strings.HasPrefix(name, "in/") || !strings.Contains(name, "rules/") && !strings.Contains(name, "keys/") {
				t.Errorf("%q is written", name)
			}
		}
	})
}
