package bundle

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Pin names the policy that runs now.
type Pin struct {
	Version int
	Digest  string
}

// Options are what the gate knows beside the folder.
type Options struct {
	Root      string    // "sha256:<hex>" of a trust root's file; there is no default
	RootFloor int       // the lowest version of the trust root that is accepted
	Floor     int       // the lowest version of the policy that is accepted
	Running   Pin       // what runs now; zero: nothing
	Release   int       // which release to open; 0: the highest
	Now       time.Time // to compare with Expires
}

// A Bundle is a folder whose MANIFEST enough people signed, and the bytes that it
// lists. Its HCL is not judged yet.
type Bundle struct {
	Manifest   Manifest
	Text       []byte // the MANIFEST as it was signed
	Digest     string // of Text
	Signatures []Signature
	People     []string // distinct people whose signatures count, sorted
	Root       Root
	RootDigest string
	Files      map[string][]byte
}

// Open reads and judges the bundle in dir, in the order of the steps below. A
// refusal is a *Refused that names its step.
func Open(dir string, o Options) (*Bundle, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, refuse(Unreadable, "look at policy { dir } in the configuration", "the folder %s %s", filepath.Clean(dir), cause(err))
	}
	defer root.Close() //nolint:errcheck // only read
	t := tree{root}

	b := &Bundle{Files: map[string][]byte{}}
	if b.Root, b.RootDigest, err = t.trusted(o); err != nil {
		return nil, err
	}
	version, err := t.pick(o.Release)
	if err != nil {
		return nil, err
	}
	if err := b.readSigned(t, version); err != nil {
		return nil, err
	}
	if err := b.judge(t, version, o); err != nil {
		return nil, b.Refused(err)
	}
	return b, nil
}

// judge takes the steps from the signatures to the files.
func (b *Bundle) judge(t tree, version int, o Options) (err error) {
	var not []string
	if b.People, not = b.Root.count(b.Text, b.Signatures); len(b.People) < b.Root.Threshold {
		return b.unsigned(version, not)
	}
	if b.Manifest, err = ParseManifest(b.Text); err != nil {
		return &Refused{Code: Malformed, Say: fmt.Sprintf("release/%d/MANIFEST is malformed", version), Err: err, Do: "make the release again with sallyport policy release"}
	}
	if err := b.fresh(version, o); err != nil {
		return err
	}
	if err := b.chained(t, o); err != nil {
		return err
	}
	return b.readFiles(t)
}

// pick returns the version of the release to open.
func (t tree) pick(named int) (int, error) {
	if named > 0 {
		return named, nil
	}
	versions, err := t.releases()
	if err != nil {
		return 0, err
	}
	if len(versions) == 0 {
		return 0, refuse(Unreadable, "type: sallyport policy release 1", "there is no release")
	}
	return versions[len(versions)-1], nil
}

// releases returns the versions below release/, sorted.
func (t tree) releases() ([]int, error) {
	if _, err := t.root.Lstat("release"); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	entries, err := t.list("release")
	if err != nil {
		return nil, &Refused{Code: Unreadable, Say: "the folder release", Err: err, Do: "type: sallyport policy release 1"}
	}
	var versions []int
	for _, e := range entries {
		v, err := strconv.Atoi(e.Name())
		if err != nil || v < 1 || strconv.Itoa(v) != e.Name() || !e.IsDir() {
			return nil, refuse(BadFiles, "take it away", "release/%s is not a release", clean(e.Name()))
		}
		versions = append(versions, v)
	}
	slices.Sort(versions)
	return versions, nil
}

func manifestPath(version int) string { return path.Join("release", strconv.Itoa(version), "MANIFEST") }

// readSigned reads the MANIFEST and every signature beside it.
func (b *Bundle) readSigned(t tree, version int) error {
	name := manifestPath(version)
	var err error
	if b.Text, err = t.read(name, maxManifest); err != nil {
		return &Refused{Code: Unreadable, Say: name, Err: err, Do: fmt.Sprintf("type: sallyport policy release %d", version)}
	}
	b.Digest = Digest(b.Text)
	entries, err := t.list(path.Dir(name))
	if err != nil {
		return &Refused{Code: Unreadable, Say: path.Dir(name), Err: err}
	}
	for _, e := range entries {
		if e.Name() == "MANIFEST" {
			continue
		}
		who, ok := signatureOf(e.Name(), "MANIFEST")
		if !ok {
			return refuse(BadFiles, "take it away", "%s/%s is neither MANIFEST nor a signature", path.Dir(name), clean(e.Name()))
		}
		text, err := t.read(path.Join(path.Dir(name), e.Name()), maxSignature)
		if err != nil {
			return &Refused{Code: BadFiles, Say: path.Join(path.Dir(name), clean(e.Name())), Err: err, Do: "take it away"}
		}
		b.Signatures = append(b.Signatures, Signature{Who: who, Text: text})
	}
	return nil
}

// signatureOf tells whose signature over the file base has the name.
func signatureOf(name, base string) (string, bool) {
	rest, ok := strings.CutPrefix(name, base+".")
	who, sig := strings.CutSuffix(rest, ".sig")
	return who, ok && sig && whoForm.MatchString(who)
}

func (b *Bundle) unsigned(version int, not []string) error {
	say := fmt.Sprintf("%d of %d signatures on release %d", len(b.People), b.Root.Threshold, version)
	if len(not) > 0 {
		if len(not) > 3 {
			not = append(not[:3:3], "and more")
		}
		say += " (" + strings.Join(not, ", ") + ")"
	}
	left := slices.DeleteFunc(b.Root.People(), func(who string) bool { return slices.Contains(b.People, who) })
	return refuse(Unsigned, fmt.Sprintf("one of %s signs it: sallyport policy sign %d --key FILE", strings.Join(left, ", "), version), "%s", say)
}

// fresh refuses what is old: a policy that was signed once stays validly signed, so
// the signature cannot say it (gittuf CVE-2026-44544).
func (b *Bundle) fresh(version int, o Options) error {
	m := b.Manifest
	if m.Version != version {
		return refuse(Malformed, "make the release again", "release/%d/MANIFEST is that of version %d", version, m.Version)
	}
	if floor := max(o.Floor, o.Running.Version); m.Version < floor {
		return refuse(TooOld, "release its content again as a newer version", "version %d is older than %d, which was in use", m.Version, floor)
	}
	if m.Version == o.Running.Version && b.Digest != o.Running.Digest {
		return refuse(TooOld, "release it as a newer version", "version %d is in use with other content", m.Version)
	}
	if !o.Now.Before(m.Expires) {
		return refuse(Expired, fmt.Sprintf("release and sign version %d", m.Version+1), "version %d expired at %s", m.Version, m.Expires.UTC().Format(time.RFC3339))
	}
	return nil
}

// chained follows the digests back: to the trust root, to the release before, and to
// the policy that runs.
func (b *Bundle) chained(t tree, o Options) error {
	if b.Manifest.Root != b.RootDigest {
		return refuse(Unchained, "make the release again under the present trust root", "release %d names another trust root than trust/root.%d", b.Manifest.Version, b.Root.Version)
	}
	versions, err := t.releases()
	if err != nil {
		return err
	}
	met := o.Running.Version == 0 || o.Running.Version == b.Manifest.Version
	expect, of := b.Manifest.Previous, b.Manifest.Version
	for _, v := range slices.Backward(versions) {
		if v >= b.Manifest.Version {
			continue
		}
		text, err := t.read(manifestPath(v), maxManifest)
		if err != nil {
			return &Refused{Code: Unchained, Say: manifestPath(v), Err: err, Do: "bring it back, or make the release again"}
		}
		if Digest(text) != expect {
			return refuse(Unchained, "make the release again", "release %d does not follow release %d as it is here", of, v)
		}
		met = met || Digest(text) == o.Running.Digest
		m, err := ParseManifest(text)
		if err != nil {
			return &Refused{Code: Unchained, Say: manifestPath(v) + " is malformed", Err: err}
		}
		expect, of = m.Previous, m.Version
	}
	if !met && expect != o.Running.Digest {
		return refuse(Unchained, fmt.Sprintf("bring release/%d/MANIFEST back as it was", o.Running.Version), "release %d does not follow version %d, which is in use", b.Manifest.Version, o.Running.Version)
	}
	return nil
}

// readFiles reads exactly the listed files, and compares each with its digest.
func (b *Bundle) readFiles(t tree) error {
	there, err := t.walk("policy", 0)
	if err != nil {
		return &Refused{Code: BadFiles, Say: "the files are not those that were signed", Err: err, Do: "take it away"}
	}
	listed := map[string]string{}
	for _, f := range b.Manifest.Files {
		listed[f.Path] = f.Digest
	}
	for _, name := range there {
		if _, ok := listed[name]; !ok {
			return refuse(BadFiles, "take it away, or release it", "%s is not in release %d", clean(name), b.Manifest.Version)
		}
	}
	total := 0
	for _, f := range b.Manifest.Files {
		text, err := t.read(f.Path, maxFile)
		if err != nil {
			return &Refused{Code: BadFiles, Say: f.Path, Err: err, Do: fmt.Sprintf("bring it back as it was in release %d", b.Manifest.Version)}
		}
		if Digest(text) != "sha256:"+f.Digest {
			return refuse(BadFiles, "bring it back as it was, or release the change", "%s is not as it was signed in release %d", f.Path, b.Manifest.Version)
		}
		if total += len(text); total > maxTotal {
			return refuse(BadFiles, "split it", "the policy is larger than %d MiB", maxTotal>>20)
		}
		b.Files[f.Path] = text
	}
	return nil
}
