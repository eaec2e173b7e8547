package bundle

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
)

func rootPath(version int) string { return path.Join("trust", "root."+strconv.Itoa(version)) }

// trusted returns the newest trust root that follows from the pinned one. Each root
// after it is signed by as many people as the one before asks for, and by as many of
// its own as it asks for itself.
func (t tree) trusted(o Options) (Root, string, error) {
	if !digestForm.MatchString(o.Root) {
		return Root{}, "", refuse(BadPin, "write policy { root = \"sha256:...\" } as sallyport policy status prints it", "no trust root is pinned")
	}
	versions, signatures, err := t.roots()
	if err != nil {
		return Root{}, "", err
	}
	var current Root
	var digest string
	for _, v := range versions {
		text, err := t.read(rootPath(v), maxRoot)
		if err != nil {
			return Root{}, "", &Refused{Code: BadRoot, Say: rootPath(v), Err: err}
		}
		pinned := Digest(text) == o.Root
		if digest == "" && !pinned {
			continue // before the pinned one, which is where trust begins
		}
		next, err := ParseRoot(text)
		if err != nil {
			return Root{}, "", &Refused{Code: BadRoot, Say: rootPath(v) + " is malformed", Err: err, Do: "make it again with sallyport policy root"}
		}
		if next.Version != v {
			return Root{}, "", refuse(BadRoot, "make it again", "%s is that of version %d", rootPath(v), next.Version)
		}
		if digest != "" {
			if err := current.succeededBy(next, text, digest, signatures[v]); err != nil {
				return Root{}, "", err
			}
		}
		current, digest = next, Digest(text)
	}
	if digest == "" {
		return Root{}, "", refuse(BadPin, "bring the trust root back, or pin the one you trust", "no trust root here has the pinned digest %s", o.Root)
	}
	if current.Version < o.RootFloor {
		return Root{}, "", refuse(BadRoot, fmt.Sprintf("bring %s back", rootPath(o.RootFloor)), "trust root %d is older than %d, which was in use", current.Version, o.RootFloor)
	}
	return current, digest, nil
}

// roots lists the folder trust: versions in order, and the signatures of each.
func (t tree) roots() ([]int, map[int][]Signature, error) {
	entries, err := t.list("trust")
	if err != nil {
		return nil, nil, &Refused{Code: BadRoot, Say: "the folder trust", Err: err, Do: "type: sallyport policy root init"}
	}
	var versions []int
	signatures := map[int][]Signature{}
	for _, e := range entries {
		rest, ok := strings.CutPrefix(e.Name(), "root.")
		digits, more, signed := strings.Cut(rest, ".")
		v, err := strconv.Atoi(digits)
		if !ok || err != nil || v < 1 || strconv.Itoa(v) != digits {
			return nil, nil, refuse(BadFiles, "take it away", "trust/%s is no trust root", clean(e.Name()))
		}
		if !signed {
			versions = append(versions, v)
			continue
		}
		who, ok := signatureOf("root."+more, "root")
		if !ok {
			return nil, nil, refuse(BadFiles, "take it away", "trust/%s is no trust root", clean(e.Name()))
		}
		text, err := t.read(path.Join("trust", e.Name()), maxSignature)
		if err != nil {
			return nil, nil, &Refused{Code: BadRoot, Say: "trust/" + clean(e.Name()), Err: err}
		}
		signatures[v] = append(signatures[v], Signature{Who: who, Text: text})
	}
	slices.Sort(versions)
	return versions, signatures, nil
}

func (r Root) succeededBy(next Root, text []byte, digest string, signatures []Signature) error {
	name := rootPath(next.Version)
	if next.Version != r.Version+1 || next.Previous != digest {
		return refuse(BadRoot, "make it again with sallyport policy root", "%s does not follow trust root %d", name, r.Version)
	}
	old, notOld := r.count(text, signatures)
	if len(old) < r.Threshold {
		return refuse(BadRoot, fmt.Sprintf("signers of trust root %d sign it: sallyport policy root sign %d --key FILE", r.Version, next.Version),
			"%s has %d of %d signatures of the trust root before%s", name, len(old), r.Threshold, because(notOld))
	}
	own, notOwn := next.count(text, signatures)
	if len(own) < next.Threshold {
		return refuse(BadRoot, fmt.Sprintf("its own signers sign it: sallyport policy root sign %d --key FILE", next.Version),
			"%s has %d of %d signatures of its own%s", name, len(own), next.Threshold, because(notOwn))
	}
	return nil
}

func because(not []string) string {
	if len(not) == 0 {
		return ""
	}
	return " (" + not[0] + ")"
}
