package bundle

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"
)

// Namespace keeps signatures over policies apart from those over git commits,
// files and e-mails by the same key (PROTOCOL.sshsig, section 3).
const Namespace = "policy@sallyport"

const rootHead = "# sallyport-root/v1"

// minRSA is the shortest RSA modulus that may sign, in bits.
const minRSA = 2048

// A Root says who may sign, and how many distinct people have to. Its file is an
// allowed_signers file (ssh-keygen(1)) whose first four lines are comments to
// OpenSSH and settings to us:
//
//	# sallyport-root/v1
//	# version 1
//	# threshold 2
//	# previous none
//	alice namespaces="policy@sallyport" ssh-ed25519 AAAA...
//	bob namespaces="policy@sallyport" sk-ssh-ed25519@openssh.com AAAA...
type Root struct {
	Version   int
	Threshold int
	Previous  string // "sha256:<hex>" of the root before; empty for the first
	Signers   []Signer
}

// A Signer is one key of one person. A person with two keys has two lines of the
// same name, and counts once.
type Signer struct {
	Who string
	Key ssh.PublicKey
}

var whoForm = regexp.MustCompile(`^[a-z0-9][a-z0-9._@+-]{0,63}$`)

// keyTypes are the keys that may sign. Those with "sk-" are FIDO tokens, whose
// signatures count only with a touch (x/crypto/ssh refuses others).
var keyTypes = []string{
	ssh.KeyAlgoED25519, ssh.KeyAlgoSKED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521,
	ssh.KeyAlgoSKECDSA256, ssh.KeyAlgoRSA,
}

// Bytes returns the file. ParseRoot accepts exactly these bytes and no others.
func (r Root) Bytes() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\n# version %d\n# threshold %d\n# previous %s\n", rootHead, r.Version, r.Threshold, orNone(r.Previous))
	for _, s := range r.Signers {
		fmt.Fprintf(&b, "%s namespaces=%q %s", s.Who, Namespace, ssh.MarshalAuthorizedKey(s.Key))
	}
	return b.Bytes()
}

// People returns the names of those who may sign, sorted, each once.
func (r Root) People() []string {
	var who []string
	for _, s := range r.Signers {
		who = append(who, s.Who)
	}
	slices.Sort(who)
	return slices.Compact(who)
}

// ParseRoot is strict: what it does not know it refuses.
func ParseRoot(b []byte) (Root, error) {
	text, ok := strings.CutSuffix(string(b), "\n")
	lines := strings.Split(text, "\n")
	if !ok || len(lines) < 5 {
		return Root{}, fmt.Errorf("a trust root has four header lines and at least one signer")
	}
	var r Root
	var err error
	if lines[0] != rootHead {
		return Root{}, fmt.Errorf("line 1 is not %q", rootHead)
	}
	if r.Version, err = number(lines[1], "# version "); err != nil {
		return Root{}, fmt.Errorf("line 2: %w", err)
	}
	if r.Threshold, err = number(lines[2], "# threshold "); err != nil {
		return Root{}, fmt.Errorf("line 3: %w", err)
	}
	previous, ok := strings.CutPrefix(lines[3], "# previous ")
	if !ok {
		return Root{}, fmt.Errorf("line 4 is not \"# previous\"")
	}
	if previous != none {
		r.Previous = previous
	}
	for i, line := range lines[4:] {
		s, err := parseSigner(line)
		if err != nil {
			return Root{}, fmt.Errorf("line %d: %w", i+5, err)
		}
		r.Signers = append(r.Signers, s)
	}
	if err := r.valid(); err != nil {
		return Root{}, err
	}
	if !bytes.Equal(r.Bytes(), b) {
		return Root{}, fmt.Errorf("not spelled as sallyport policy root spells it")
	}
	return r, nil
}

func number(line, prefix string) (int, error) {
	text, ok := strings.CutPrefix(line, prefix)
	n, err := strconv.Atoi(text)
	if !ok || err != nil || n < 1 {
		return 0, fmt.Errorf("not %q and a whole number from 1", prefix)
	}
	return n, nil
}

// parseSigner reads a line of allowed_signers. A reader that skipped options it does
// not know would take a certificate authority or a key that has run out for a signer.
func parseSigner(line string) (Signer, error) {
	fields := strings.Split(line, " ")
	if len(fields) < 3 {
		return Signer{}, fmt.Errorf("not a name, options and a key")
	}
	who, options, rest := fields[0], fields[1], strings.Join(fields[2:], " ")
	if !whoForm.MatchString(who) {
		return Signer{}, fmt.Errorf("%q is not one name in lower case; lists and patterns are not supported", clean(who))
	}
	if options != `namespaces="`+Namespace+`"` {
		return Signer{}, fmt.Errorf("the key option %s is not supported; write namespaces=%q and no other", clean(options), Namespace)
	}
	key, comment, extra, more, err := ssh.ParseAuthorizedKey([]byte(rest))
	if err != nil {
		return Signer{}, fmt.Errorf("the key of %s: %w", who, err)
	}
	if comment != "" || len(extra) != 0 || len(more) != 0 {
		return Signer{}, fmt.Errorf("the line of %s has more than a key", who)
	}
	return Signer{Who: who, Key: key}, nil
}

func (r Root) valid() error {
	if r.Previous != "" && !digestForm.MatchString(r.Previous) {
		return fmt.Errorf("previous is no digest")
	}
	if (r.Version == 1) != (r.Previous == "") {
		return fmt.Errorf("only the first trust root has no previous one")
	}
	owner := map[string]string{}
	for _, s := range r.Signers {
		if !whoForm.MatchString(s.Who) {
			return fmt.Errorf("%q is not one name in lower case", clean(s.Who))
		}
		if err := strongKey(s.Key); err != nil {
			return fmt.Errorf("the key of %s: %w", s.Who, err)
		}
		key := string(s.Key.Marshal())
		if other, ok := owner[key]; ok {
			return fmt.Errorf("one key stands twice, for %s and %s: a key is one person's", other, s.Who)
		}
		owner[key] = s.Who
	}
	if people := len(r.People()); r.Threshold > people {
		return fmt.Errorf("%d have to sign, but only %d can", r.Threshold, people)
	}
	return nil
}

func strongKey(key ssh.PublicKey) error {
	if !slices.Contains(keyTypes, key.Type()) {
		return fmt.Errorf("%s may not sign; make one: ssh-keygen -t ed25519", clean(key.Type()))
	}
	if key.Type() != ssh.KeyAlgoRSA {
		return nil
	}
	// RFC 4253, section 6.6: string "ssh-rsa", mpint e, mpint n.
	var parts struct {
		Name string
		E, N []byte
	}
	if err := ssh.Unmarshal(key.Marshal(), &parts); err != nil {
		return err
	}
	if bits := len(bytes.TrimLeft(parts.N, "\x00")) * 8; bits < minRSA {
		return fmt.Errorf("RSA of %d bits is too short; make one: ssh-keygen -t ed25519", bits)
	}
	return nil
}
