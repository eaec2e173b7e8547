package bundle

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

const manifestHead = "sallyport-policy/v1"

// none stands where a digest or commit is not there.
const none = "none"

// A Manifest is the file that people sign.
type Manifest struct {
	Name     string    // of the policy; it never changes between versions
	Version  int       // from 1
	Previous string    // "sha256:<hex>" of the MANIFEST before; empty for the first
	Root     string    // "sha256:<hex>" of the trust root that its signers are in
	Commit   string    // of the source, hexadecimal; empty where there is none
	Expires  time.Time // no new grants from then on
	Files    []File    // sorted by Path
}

// A File is a line of the MANIFEST.
type File struct {
	Path   string // below the bundle: "policy/prod.hcl"
	Digest string // 64 hexadecimal digits, as sha256sum prints them
}

var (
	digestForm = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
	hexForm    = regexp.MustCompile(`^[0-9a-f]{64}$`)
	nameForm   = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)
	commitForm = regexp.MustCompile(`^[0-9a-f]{7,64}$`)
	pathForm   = regexp.MustCompile(`^policy(/[A-Za-z0-9_][A-Za-z0-9._-]{0,99})+$`)
)

// Digest is the digest of b as it is written everywhere: "sha256:<hex>".
func Digest(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// Bytes returns the MANIFEST. ParseManifest accepts exactly these bytes and no others.
func (m Manifest) Bytes() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\nname %s\nversion %d\nprevious %s\nroot %s\ncommit %s\nexpires %s\n\n",
		manifestHead, m.Name, m.Version, orNone(m.Previous), m.Root, orNone(m.Commit), m.Expires.UTC().Format(time.RFC3339))
	for _, f := range m.Files {
		fmt.Fprintf(&b, "%s  %s\n", f.Digest, f.Path)
	}
	return b.Bytes()
}

func orNone(s string) string {
	if s == "" {
		return none
	}
	return s
}

// ParseManifest is strict: one order, one spelling, nothing unknown, nothing twice.
func ParseManifest(b []byte) (Manifest, error) {
	head, list, found := strings.Cut(string(b), "\n\n")
	if !found {
		return Manifest{}, fmt.Errorf("no empty line after the header")
	}
	lines := strings.Split(head, "\n")
	keys := []string{"name", "version", "previous", "root", "commit", "expires"}
	if lines[0] != manifestHead {
		return Manifest{}, fmt.Errorf("line 1 is not %q", manifestHead)
	}
	if len(lines) != len(keys)+1 {
		return Manifest{}, fmt.Errorf("the header has %d lines and not %d", len(lines), len(keys)+1)
	}
	var value [6]string
	for i, key := range keys {
		v, ok := strings.CutPrefix(lines[i+1], key+" ")
		if !ok {
			return Manifest{}, fmt.Errorf("line %d is not %q", i+2, key)
		}
		value[i] = v
	}
	m := Manifest{Name: value[0], Root: value[3]}
	var err error
	if m.Version, err = strconv.Atoi(value[1]); err != nil || m.Version < 1 {
		return Manifest{}, fmt.Errorf("version is not a whole number from 1")
	}
	if m.Expires, err = time.Parse(time.RFC3339, value[5]); err != nil {
		return Manifest{}, fmt.Errorf("expires is not a time such as 2030-01-31T00:00:00Z")
	}
	if value[2] != none {
		m.Previous = value[2]
	}
	if value[4] != none {
		m.Commit = value[4]
	}
	if m.Files, err = parseFiles(list); err != nil {
		return Manifest{}, err
	}
	if err := m.valid(); err != nil {
		return Manifest{}, err
	}
	// Whatever spelling the checks above let through (leading zeros, a zone other
	// than Z, \r) is caught here.
	if !bytes.Equal(m.Bytes(), b) {
		return Manifest{}, fmt.Errorf("not spelled as sallyport policy release spells it")
	}
	return m, nil
}

func parseFiles(list string) ([]File, error) {
	body, ok := strings.CutSuffix(list, "\n")
	if !ok {
		return nil, fmt.Errorf("it lists no file, or its last line does not end")
	}
	var files []File
	for line := range strings.SplitSeq(body, "\n") {
		digest, name, ok := strings.Cut(line, "  ")
		if !ok {
			return nil, fmt.Errorf("%q is not a digest, two spaces and a path", clean(line))
		}
		files = append(files, File{Path: name, Digest: digest})
	}
	return files, nil
}

func (m Manifest) valid() error {
	switch {
	case !nameForm.MatchString(m.Name):
		return fmt.Errorf("name %q is not of lower-case letters, digits, dots and dashes", clean(m.Name))
	case m.Previous != "" && !digestForm.MatchString(m.Previous):
		return fmt.Errorf("previous is no digest")
	case !digestForm.MatchString(m.Root):
		return fmt.Errorf("root is no digest")
	case m.Commit != "" && !commitForm.MatchString(m.Commit):
		return fmt.Errorf("commit is not hexadecimal")
	case m.Version == 1 && m.Previous != "":
		return fmt.Errorf("version 1 has a previous one")
	case len(m.Files) > maxFiles:
		return fmt.Errorf("more than %d files", maxFiles)
	}
	for i, f := range m.Files {
		if !hexForm.MatchString(f.Digest) {
			return fmt.Errorf("the digest of %q is not 64 hexadecimal digits", clean(f.Path))
		}
		if !pathForm.MatchString(f.Path) || path.Clean(f.Path) != f.Path {
			return fmt.Errorf("%q is not a path below policy/", clean(f.Path))
		}
		if i > 0 && m.Files[i-1].Path >= f.Path {
			return fmt.Errorf("%q is listed twice or out of order", clean(f.Path))
		}
	}
	return nil
}

// sortFiles puts files in the MANIFEST's order.
func sortFiles(files []File) {
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
}
