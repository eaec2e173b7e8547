package bundle

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"
)

// Write puts files into the bundle, making folders as needed. Paths are those of the
// MANIFEST: "policy/targets.hcl".
func Write(dir string, files map[string][]byte) error {
	for name, text := range files {
		if !pathForm.MatchString(name) {
			return fmt.Errorf("%q is not a path below policy/", clean(name))
		}
		at := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			return fmt.Errorf("write the bundle: %w", err)
		}
		if err := os.WriteFile(at, text, 0o644); err != nil {
			return fmt.Errorf("write the bundle: %w", err)
		}
	}
	return nil
}

// InitRoot writes trust/root.1 and returns its digest, which is to be pinned.
func InitRoot(dir string, threshold int, signers []Signer) (digest string, err error) {
	return writeRoot(dir, Root{Version: 1, Threshold: threshold, Signers: signers})
}

// NextRoot writes the successor of the newest trust root. It counts once it is signed
// by SignRoot, by as many as the old root and as itself ask for.
func NextRoot(dir string, threshold int, signers []Signer) (Root, error) {
	root, digest, err := newestRoot(dir)
	if err != nil {
		return Root{}, err
	}
	next := Root{Version: root.Version + 1, Threshold: threshold, Previous: digest, Signers: signers}
	_, err = writeRoot(dir, next)
	return next, err
}

func writeRoot(dir string, r Root) (string, error) {
	text := r.Bytes()
	if _, err := ParseRoot(text); err != nil {
		return "", fmt.Errorf("make the trust root: %w", err)
	}
	return Digest(text), create(dir, rootPath(r.Version), text)
}

// create writes a file that must not be there yet: a release or root that somebody
// may have signed is never changed.
func create(dir, name string, text []byte) error {
	at := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		return fmt.Errorf("make %s: %w", name, err)
	}
	f, err := os.OpenFile(at, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already; a new one needs a new version", name)
	}
	if err != nil {
		return fmt.Errorf("make %s: %w", name, err)
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}

// newestRoot reads the root with the highest version, unverified: for authors, whose
// folder it is. Open verifies.
func newestRoot(dir string) (Root, string, error) {
	t, done, err := openTree(dir)
	if err != nil {
		return Root{}, "", err
	}
	defer done()
	versions, _, err := t.roots()
	if err != nil {
		return Root{}, "", err
	}
	if len(versions) == 0 {
		return Root{}, "", errors.New("there is no trust root; type: sallyport policy root init")
	}
	name := rootPath(versions[len(versions)-1])
	text, err := t.read(name, maxRoot)
	if err != nil {
		return Root{}, "", fmt.Errorf("%s %w", name, err)
	}
	root, err := ParseRoot(text)
	if err != nil {
		return Root{}, "", fmt.Errorf("%s: %w", name, err)
	}
	return root, Digest(text), nil
}

func openTree(dir string) (tree, func(), error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return tree{}, nil, fmt.Errorf("the folder %s %w", dir, cause(err))
	}
	return tree{root}, func() { root.Close() }, nil //nolint:errcheck,gosec // only read
}

// A Draft is what a release needs beside the files.
type Draft struct {
	Name    string // empty: the name of the release before, else "policy"
	Version int
	Commit  string
	Expires time.Time
}

// Release lists all files below policy/ in release/<version>/MANIFEST, and returns
// what it wrote.
func Release(dir string, d Draft) (Manifest, error) {
	root, rootDigest, err := newestRoot(dir)
	if err != nil {
		return Manifest{}, err
	}
	t, done, err := openTree(dir)
	if err != nil {
		return Manifest{}, err
	}
	defer done()
	m := Manifest{Name: d.Name, Version: d.Version, Root: rootDigest, Commit: d.Commit, Expires: d.Expires.UTC().Truncate(time.Second)}
	if err := t.follow(&m); err != nil {
		return Manifest{}, err
	}
	files, err := t.policy()
	if err != nil {
		return Manifest{}, err
	}
	for name, text := range files {
		m.Files = append(m.Files, File{Path: name, Digest: strings.TrimPrefix(Digest(text), "sha256:")})
	}
	sortFiles(m.Files)
	text := m.Bytes()
	if _, err := ParseManifest(text); err != nil {
		return Manifest{}, fmt.Errorf("release %d under trust root %d: %w", m.Version, root.Version, err)
	}
	return m, create(dir, manifestPath(m.Version), text)
}

// policy reads everything below policy/.
func (t tree) policy() (map[string][]byte, error) {
	names, err := t.walk("policy", 0)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for _, name := range names {
		if files[name], err = t.read(name, maxFile); err != nil {
			return nil, fmt.Errorf("%s %w", name, err)
		}
	}
	return files, nil
}

// ReadPolicy reads everything below dir/policy, for its authors: nothing says that
// anybody signed it.
func ReadPolicy(dir string) (map[string][]byte, error) {
	t, done, err := openTree(dir)
	if err != nil {
		return nil, err
	}
	defer done()
	return t.policy()
}

// follow takes name and previous from the release before.
func (t tree) follow(m *Manifest) error {
	var versions []int
	if _, err := t.root.Lstat("release"); err == nil {
		if versions, err = t.releases(); err != nil {
			return err
		}
	}
	if len(versions) > 0 {
		last := versions[len(versions)-1]
		if m.Version <= last {
			return fmt.Errorf("release %d is there already; the next version is %d", last, last+1)
		}
		text, err := t.read(manifestPath(last), maxManifest)
		if err != nil {
			return fmt.Errorf("%s %w", manifestPath(last), err)
		}
		before, err := ParseManifest(text)
		if err != nil {
			return fmt.Errorf("%s: %w", manifestPath(last), err)
		}
		m.Previous = Digest(text)
		if m.Name == "" {
			m.Name = before.Name
		}
	}
	if m.Name == "" {
		m.Name = "policy"
	}
	return nil
}

// Sign writes release/<version>/MANIFEST.<who>.sig. Who the signer is follows from the
// trust root; a key that it does not know is refused here already.
func Sign(dir string, version int, signer ssh.Signer) (who string, err error) {
	root, _, err := newestRoot(dir)
	if err != nil {
		return "", err
	}
	return sign(dir, manifestPath(version), maxManifest, signer, root)
}

// SignRoot signs a new trust root, by a signer of itself or of the one before.
func SignRoot(dir string, version int, signer ssh.Signer) (who string, err error) {
	either, _, err := signersOfRoot(dir, version)
	if err != nil {
		return "", err
	}
	return sign(dir, rootPath(version), maxRoot, signer, either)
}

// signersOfRoot are those of a new trust root and of the one before, and its text.
func signersOfRoot(dir string, version int) (either Root, text []byte, err error) {
	for _, v := range []int{version - 1, version} {
		if text, err = readOne(dir, rootPath(v), maxRoot); err != nil {
			return Root{}, nil, err
		}
		r, err := ParseRoot(text)
		if err != nil {
			return Root{}, nil, fmt.Errorf("%s: %w", rootPath(v), err)
		}
		either.Signers = append(either.Signers, r.Signers...)
	}
	return either, text, nil
}

// ReadRoot returns a trust root's file as it is, to be signed elsewhere.
func ReadRoot(dir string, version int) ([]byte, error) {
	return readOne(dir, rootPath(version), maxRoot)
}

// Accept keeps a signature over release/<version>/MANIFEST that was made elsewhere, such
// as by ssh-keygen -Y sign, once it is known to be a good one.
func Accept(dir string, version int, signature []byte) (who string, err error) {
	root, _, err := newestRoot(dir)
	if err != nil {
		return "", err
	}
	text, err := readOne(dir, manifestPath(version), maxManifest)
	if err != nil {
		return "", err
	}
	return accept(dir, manifestPath(version), text, signature, root)
}

// AcceptRoot is Accept for a signature over a new trust root.
func AcceptRoot(dir string, version int, signature []byte) (who string, err error) {
	either, text, err := signersOfRoot(dir, version)
	if err != nil {
		return "", err
	}
	return accept(dir, rootPath(version), text, signature, either)
}

func accept(dir, name string, text, signature []byte, root Root) (who string, err error) {
	if who, err = root.signer(text, signature); err != nil {
		return "", fmt.Errorf("the signature %w", err)
	}
	return who, os.WriteFile(filepath.Join(dir, filepath.FromSlash(name+"."+who+".sig")), signature, 0o644)
}

// ReadManifest returns a release's MANIFEST, as it is and read. Nothing says that
// anybody signed it.
func ReadManifest(dir string, version int) (Manifest, []byte, error) {
	text, err := readOne(dir, manifestPath(version), maxManifest)
	if err != nil {
		return Manifest{}, nil, err
	}
	m, err := ParseManifest(text)
	if err != nil {
		return Manifest{}, nil, fmt.Errorf("%s: %w", manifestPath(version), err)
	}
	return m, text, nil
}

func readOne(dir, name string, limit int64) ([]byte, error) {
	t, done, err := openTree(dir)
	if err != nil {
		return nil, err
	}
	defer done()
	text, err := t.read(name, limit)
	if err != nil {
		return nil, fmt.Errorf("%s %w", name, err)
	}
	return text, nil
}

// Differs names the first file that is not as the MANIFEST lists it; empty: none.
func (m Manifest) Differs(files map[string][]byte) string {
	for _, f := range m.Files {
		if text, ok := files[f.Path]; !ok || Digest(text) != "sha256:"+f.Digest {
			return f.Path
		}
	}
	for name := range files {
		if !slices.ContainsFunc(m.Files, func(f File) bool { return f.Path == name }) {
			return name
		}
	}
	return ""
}

func sign(dir, name string, limit int64, signer ssh.Signer, root Root) (string, error) {
	key := signer.PublicKey().Marshal()
	at := slices.IndexFunc(root.Signers, func(s Signer) bool { return bytes.Equal(s.Key.Marshal(), key) })
	if at < 0 {
		return "", fmt.Errorf("the trust root does not know this key; it knows those of %s", strings.Join(root.People(), ", "))
	}
	text, err := readOne(dir, name, limit)
	if err != nil {
		return "", err
	}
	sig, err := sshsig.Sign(bytes.NewReader(text), signer, sshsig.HashSHA512, Namespace)
	if err != nil {
		return "", fmt.Errorf("sign %s: %w", name, err)
	}
	who := root.Signers[at].Who
	file := filepath.Join(dir, filepath.FromSlash(path.Dir(name)), path.Base(name)+"."+who+".sig")
	return who, os.WriteFile(file, sshsig.Armor(sig), 0o644)
}

// Create makes a whole bundle at once: files, trust root, release 1, signed by all
// signers. It returns the trust root's digest, to be pinned in the configuration.
func Create(dir string, files map[string][]byte, threshold int, expires time.Time, signers map[string]ssh.Signer) (root string, err error) {
	if err := Write(dir, files); err != nil {
		return "", err
	}
	var who []Signer
	for name, s := range signers {
		who = append(who, Signer{Who: name, Key: s.PublicKey()})
	}
	slices.SortFunc(who, func(a, b Signer) int { return strings.Compare(a.Who, b.Who) })
	if root, err = InitRoot(dir, threshold, who); err != nil {
		return "", err
	}
	if _, err = Release(dir, Draft{Version: 1, Expires: expires}); err != nil {
		return "", err
	}
	for _, s := range signers {
		if _, err = Sign(dir, 1, s); err != nil {
			return "", err
		}
	}
	return root, nil
}
