package bundle

import (
	"fmt"
	"slices"
	"time"
)

// A Status is where a bundle stands: what is there, and who still has to sign. It is
// for people; what a gate may use is Open's word alone.
type Status struct {
	Roots    []RootStatus    `json:"roots"`
	Releases []ReleaseStatus `json:"releases"`
}

// A RootStatus is one trust root. The digest is what a configuration pins.
type RootStatus struct {
	Version   int      `json:"version"`
	Digest    string   `json:"digest"`
	Threshold int      `json:"threshold"`
	People    []string `json:"people"`
	Signed    []string `json:"signed,omitempty"` // of a successor: whose signatures count, under it or the one before
}

// A ReleaseStatus is one release, judged by the newest trust root.
type ReleaseStatus struct {
	Version int       `json:"version"`
	Digest  string    `json:"digest"`
	Name    string    `json:"name"`
	Commit  string    `json:"commit,omitempty"`
	Expires time.Time `json:"expires"`
	Signed  []string  `json:"signed"`
	Missing int       `json:"missing"` // signatures
	Not     []string  `json:"not,omitempty"`
}

// Read returns the status of the bundle in dir.
func Read(dir string) (Status, error) {
	t, done, err := openTree(dir)
	if err != nil {
		return Status{}, err
	}
	defer done()
	var s Status
	roots, signatures, err := t.roots()
	if err != nil {
		return Status{}, err
	}
	var newest, before Root
	for _, v := range roots {
		text, err := t.read(rootPath(v), maxRoot)
		if err != nil {
			return Status{}, fmt.Errorf("%s %w", rootPath(v), err)
		}
		before = newest
		if newest, err = ParseRoot(text); err != nil {
			return Status{}, fmt.Errorf("%s: %w", rootPath(v), err)
		}
		old, _ := before.count(text, signatures[v])
		own, _ := newest.count(text, signatures[v])
		signed := append(old, own...)
		slices.Sort(signed)
		s.Roots = append(s.Roots, RootStatus{Version: v, Digest: Digest(text), Threshold: newest.Threshold, People: newest.People(), Signed: slices.Compact(signed)})
	}
	if _, err := t.root.Lstat("release"); err != nil {
		return s, nil //nolint:nilerr // no release yet
	}
	releases, err := t.releases()
	if err != nil {
		return Status{}, err
	}
	for _, v := range releases {
		var b Bundle
		if err := b.readSigned(t, v); err != nil {
			return Status{}, err
		}
		m, err := ParseManifest(b.Text)
		if err != nil {
			return Status{}, fmt.Errorf("%s: %w", manifestPath(v), err)
		}
		people, not := newest.count(b.Text, b.Signatures)
		s.Releases = append(s.Releases, ReleaseStatus{Version: v, Digest: b.Digest, Name: m.Name, Commit: m.Commit, Expires: m.Expires, Signed: people, Missing: max(0, newest.Threshold-len(people)), Not: not})
	}
	return s, nil
}
