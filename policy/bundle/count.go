package bundle

import (
	"bytes"
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/hiddeco/sshsig"
)

// A Signature is one signature file, as it was read.
type Signature struct {
	Who  string `json:"who"` // as the file's name says
	Text []byte `json:"text"`
}

// count returns the distinct people of root with a valid signature over message,
// sorted, and for each signature that does not count the reason. It counts names,
// never keys or files: two keys of one person are one person.
func (r Root) count(message []byte, signatures []Signature) (people, not []string) {
	for _, s := range signatures {
		who, err := r.signer(message, s.Text)
		switch {
		case err != nil:
			not = append(not, fmt.Sprintf("the one of %s %s", clean(s.Who), err))
		case who != s.Who:
			not = append(not, fmt.Sprintf("the one of %s is by %s", clean(s.Who), who))
		default:
			people = append(people, who)
		}
	}
	sort.Strings(people)
	return slices.Compact(people), not
}

// signer returns whose signature it is. The namespace is compared before anything
// else, so that the sentence says what went wrong; Verify checks it again.
func (r Root) signer(message, text []byte) (string, error) {
	sig, err := sshsig.Unarmor(text)
	if err != nil {
		return "", fmt.Errorf("is not an SSH signature")
	}
	if sig.Namespace != Namespace {
		return "", fmt.Errorf("was made for %q and not for %q", clean(sig.Namespace), Namespace)
	}
	key := sig.PublicKey.Marshal()
	for _, s := range r.Signers {
		if !bytes.Equal(s.Key.Marshal(), key) {
			continue
		}
		// s.Key and not sig.PublicKey: what decides comes from the trust root.
		err := sshsig.Verify(bytes.NewReader(message), sig, s.Key, sig.HashAlgorithm, Namespace)
		switch {
		case err == nil:
			return s.Who, nil
		case strings.Contains(err.Error(), "user presence"):
			return "", fmt.Errorf("was made by a FIDO key without a touch")
		default:
			return "", fmt.Errorf("does not fit")
		}
	}
	return "", fmt.Errorf("is by a key that the trust root does not know")
}
