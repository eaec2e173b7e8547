package bundle

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"
)

func TestWhatEnoughPeopleSignedOpens(t *testing.T) {
	f := newFolder(t)
	f.release(1, "alice", "bob")
	b := f.opens()
	if !slices.Equal(b.People, []string{"alice", "bob"}) || b.Manifest.Version != 1 || string(b.Files["policy/rules.hcl"]) != "# one\n" || len(b.Files) != 2 {
		t.Errorf("got %v by %v", b.Manifest, b.People)
	}
	if b.Digest != Digest(f.read("release/1/MANIFEST")) {
		t.Errorf("the digest %s is not the MANIFEST's", b.Digest)
	}
}

func TestNoSignature(t *testing.T) {
	f := newFolder(t)
	f.release(1)
	f.refused(Unsigned, "0 of 2 signatures on release 1", "one of alice, bob signs it: sallyport policy sign 1")
}

func TestOneSignatureOfTwo(t *testing.T) {
	f := newFolder(t)
	f.release(1, "alice")
	f.refused(Unsigned, "1 of 2 signatures on release 1", "one of bob signs it")
}

// One person with two keys is one person (hoop counted them twice).
func TestOnePersonTwiceByTwoKeys(t *testing.T) {
	f := newFolder(t)
	second := newKey(t)
	fatal(t, os.Remove(f.path("trust/root.1")))
	root, err := InitRoot(f.dir, 2, append(f.signers("alice", "bob"), Signer{Who: "alice", Key: second.PublicKey()}))
	fatal(t, err)
	f.o.Root = root
	f.release(1, "alice")
	f.sign("release/1/MANIFEST", "alice2", second, Namespace)
	f.refused(Unsigned, "1 of 2", "the one of alice2 is by alice")
}

func TestOneSignatureUnderTwoNames(t *testing.T) {
	f := newFolder(t)
	f.release(1, "alice")
	f.write("release/1/MANIFEST.bob.sig", f.read("release/1/MANIFEST.alice.sig"))
	f.refused(Unsigned, "1 of 2", "the one of bob is by alice")
}

func TestOneKeyForTwoPeopleIsNoRoot(t *testing.T) {
	f := newFolder(t)
	_, err := InitRoot(t.TempDir(), 2, []Signer{{"alice", f.keys["alice"].PublicKey()}, {"bob", f.keys["alice"].PublicKey()}})
	if err == nil || !strings.Contains(err.Error(), "one key stands twice, for alice and bob") {
		t.Errorf("got %v", err)
	}
}

func TestUnknownKey(t *testing.T) {
	f := newFolder(t)
	f.release(1, "alice")
	f.sign("release/1/MANIFEST", "bob", newKey(t), Namespace)
	f.refused(Unsigned, "1 of 2", "the one of bob is by a key that the trust root does not know")
}

// A signature that somebody made for git or a file is none for a policy.
func TestWrongNamespace(t *testing.T) {
	for _, namespace := range []string{"git", "file", "policy@sallyport2"} {
		f := newFolder(t)
		f.release(1, "alice")
		f.sign("release/1/MANIFEST", "bob", f.keys["bob"], namespace)
		f.refused(Unsigned, "1 of 2", `was made for "`+namespace+`"`)
	}
}

func TestSignatureOfAnotherRelease(t *testing.T) {
	f := newFolder(t)
	f.release(1, "alice", "bob")
	f.write("policy/rules.hcl", []byte("# two\n"))
	f.release(2, "alice")
	f.write("release/2/MANIFEST.bob.sig", f.read("release/1/MANIFEST.bob.sig"))
	f.refused(Unsigned, "1 of 2 signatures on release 2", "the one of bob does not fit")
}

// OPA GHSA-g2pf-6v5v-qcc8: nothing that is empty counts as signed.
func TestEmptySignatureAndEmptyPin(t *testing.T) {
	f := newFolder(t)
	f.release(1, "alice")
	f.write("release/1/MANIFEST.bob.sig", nil)
	f.refused(Unsigned, "1 of 2", "is not an SSH signature")
	f.release(2, "alice", "bob")
	for _, pin := range []string{"", "sha256:", "sha256:" + strings.Repeat("0", 63)} {
		f.o.Root = pin
		f.refused(BadPin, "no trust root is pinned")
	}
	f.o.Root = "sha256:" + strings.Repeat("0", 64)
	f.refused(BadPin, "no trust root here has the pinned digest")
}

func TestFIDOCountsOnlyWithTouch(t *testing.T) {
	f := newFolder(t)
	key := newFIDO(t)
	fatal(t, os.Remove(f.path("trust/root.1")))
	root, err := InitRoot(f.dir, 2, append(f.signers("alice"), Signer{Who: "carol", Key: key.PublicKey()}))
	fatal(t, err)
	f.o.Root = root
	f.release(1, "alice")
	key.flags = 0
	f.sign("release/1/MANIFEST", "carol", key, Namespace)
	f.refused(Unsigned, "1 of 2", "the one of carol was made by a FIDO key without a touch")
	key.flags = 1
	f.sign("release/1/MANIFEST", "carol", key, Namespace)
	f.opens()
}

// gittuf CVE-2026-44544: an old policy stays validly signed for ever.
func TestOlderVersionAppliedAgain(t *testing.T) {
	f := newFolder(t)
	f.release(1, "alice", "bob")
	f.o.Floor = 2
	f.refused(TooOld, "version 1 is older than 2")
	f.o.Floor, f.o.Running = 0, Pin{Version: 3, Digest: Digest([]byte("three"))}
	f.refused(TooOld, "version 1 is older than 3")
	f.o = Options{Root: f.o.Root, Now: now, Floor: 1}
	f.opens()
}

func TestAnotherPolicyOfTheSameVersion(t *testing.T) {
	f := newFolder(t)
	f.release(1, "alice", "bob")
	f.o.Running = Pin{Version: 1, Digest: f.opens().Digest}
	f.opens()
	fatal(t, os.RemoveAll(f.path("release/1")))
	f.write("policy/rules.hcl", []byte("# other\n"))
	f.release(1, "alice", "bob")
	f.refused(TooOld, "version 1 is in use with other content")
}

// An old release in the folder of a newer one is not that version.
func TestManifestUnderAnotherNumber(t *testing.T) {
	f := newFolder(t)
	f.release(1, "alice", "bob")
	fatal(t, os.Rename(f.path("release/1"), f.path("release/9")))
	f.refused(Malformed, "release/9/MANIFEST is that of version 1")
}

func TestExpired(t *testing.T) {
	f := newFolder(t)
	f.release(1, "alice", "bob")
	f.o.Now = now.Add(24*time.Hour - time.Second)
	f.opens()
	f.o.Now = now.Add(24 * time.Hour)
	f.refused(Expired, "version 1 expired at 2026-11-26T12:00:00Z", "release and sign version 2")
}

func TestPreviousIsNotTheOneBefore(t *testing.T) {
	f := newFolder(t)
	f.release(1, "alice", "bob")
	f.release(2, "alice", "bob")
	f.opens()
	text := f.read("release/1/MANIFEST")
	f.edit("release/1/MANIFEST", "2026-11-26", "2026-11-27")
	f.refused(Unchained, "release 2 does not follow release 1 as it is here")
	f.write("release/1/MANIFEST", text)
	f.opens()
}

// A fork: signed, newer than what runs, but not a successor of it.
func TestDoesNotFollowTheRunningPolicy(t *testing.T) {
	f := newFolder(t)
	f.release(1, "alice", "bob")
	one := f.opens().Digest
	f.release(2, "alice", "bob")
	f.release(3, "alice", "bob")
	f.o.Running = Pin{Version: 1, Digest: one}
	f.opens()
	f.o.Running.Digest = Digest([]byte("another 1"))
	f.refused(Unchained, "release 3 does not follow version 1, which is in use")
	// Without release 2 the way from 3 back to 1 is not known.
	f.o.Running.Digest = one
	fatal(t, os.RemoveAll(f.path("release/2")))
	f.refused(Unchained)
}

func TestRootInTheManifestIsAnother(t *testing.T) {
	f := newFolder(t)
	f.release(1, "alice", "bob")
	f.edit("release/1/MANIFEST", "root sha256:"+f.o.Root[7:15], "root sha256:00000000")
	f.sign("release/1/MANIFEST", "alice", f.keys["alice"], Namespace)
	f.sign("release/1/MANIFEST", "bob", f.keys["bob"], Namespace)
	f.refused(Unchained, "release 1 names another trust root than trust/root.1")
}

func TestSwappedRoot(t *testing.T) {
	f := newFolder(t)
	f.release(1, "alice", "bob")
	fatal(t, os.RemoveAll(f.path("trust")))
	fatal(t, os.RemoveAll(f.path("release")))
	_, err := InitRoot(f.dir, 1, f.signers("bob"))
	fatal(t, err)
	f.release(1, "bob")
	f.refused(BadPin, "no trust root here has the pinned digest")
}

func TestChangedFile(t *testing.T) {
	f := newFolder(t)
	f.release(1, "alice", "bob")
	f.write("policy/rules.hcl", []byte("# One\n"))
	f.refused(BadFiles, "policy/rules.hcl is not as it was signed in release 1")
}

func TestExtraFile(t *testing.T) {
	for _, name := range []string{"policy/more.hcl", "policy/ca/.hidden", "policy/tests/x.test.hcl"} {
		f := newFolder(t)
		f.release(1, "alice", "bob")
		f.write(name, []byte("#\n"))
		f.refused(BadFiles, name+" is not in release 1", "take it away, or release it")
	}
}

func TestMissingFile(t *testing.T) {
	f := newFolder(t)
	f.release(1, "alice", "bob")
	fatal(t, os.Remove(f.path("policy/ca/db.pem")))
	f.refused(BadFiles, "policy/ca/db.pem: is not there", "bring it back as it was in release 1")
}

func TestSymlinks(t *testing.T) {
	t.Run("file", func(t *testing.T) {
		f := newFolder(t)
		f.release(1, "alice", "bob")
		f.write("elsewhere", f.read("policy/rules.hcl"))
		fatal(t, os.Remove(f.path("policy/rules.hcl")))
		fatal(t, os.Symlink("../elsewhere", f.path("policy/rules.hcl")))
		f.refused(BadFiles, "policy/rules.hcl is a symlink")
	})
	t.Run("folder", func(t *testing.T) {
		f := newFolder(t)
		f.release(1, "alice", "bob")
		fatal(t, os.Rename(f.path("policy/ca"), f.path("ca")))
		fatal(t, os.Symlink("../ca", f.path("policy/ca")))
		f.refused(BadFiles, "policy/ca is a symlink")
	})
	t.Run("manifest", func(t *testing.T) {
		f := newFolder(t)
		f.release(1, "alice", "bob")
		fatal(t, os.Rename(f.path("release/1/MANIFEST"), f.path("M")))
		fatal(t, os.Symlink("../../M", f.path("release/1/MANIFEST")))
		f.refused(Unreadable, "release/1/MANIFEST: is a symlink")
	})
	t.Run("release", func(t *testing.T) {
		f := newFolder(t)
		f.release(1, "alice", "bob")
		fatal(t, os.Rename(f.path("release/1"), f.path("one")))
		fatal(t, os.Symlink("../one", f.path("release/1")))
		f.refused(BadFiles, "release/1 is not a release")
		f.o.Release = 1
		f.refused(Unreadable, "is a symlink")
	})
	t.Run("root", func(t *testing.T) {
		f := newFolder(t)
		f.release(1, "alice", "bob")
		fatal(t, os.Rename(f.path("trust"), f.path("t")))
		fatal(t, os.Symlink("t", f.path("trust")))
		f.refused(BadRoot, "the folder trust: is a symlink")
	})
}

// A pipe in place of a file must not hold the loader.
func TestPipe(t *testing.T) {
	f := newFolder(t)
	f.release(1, "alice", "bob")
	fatal(t, os.Remove(f.path("policy/rules.hcl")))
	fatal(t, syscall.Mkfifo(f.path("policy/rules.hcl"), 0o644))
	f.refused(BadFiles, "policy/rules.hcl is a symlink or no plain file")
}

func TestPathOutOfTheBundle(t *testing.T) {
	for _, path := range []string{"policy/../../etc/passwd", "/etc/passwd", "policy//rules.hcl", "trust/root.1", "policy/./rules.hcl", "policy/a\\b"} {
		f := newFolder(t)
		f.release(1)
		f.edit("release/1/MANIFEST", "policy/rules.hcl", path)
		f.sign("release/1/MANIFEST", "alice", f.keys["alice"], Namespace)
		f.sign("release/1/MANIFEST", "bob", f.keys["bob"], Namespace)
		f.refused(Malformed, "is not a path below policy/")
	}
}

func TestStrayFilesBesideTheManifest(t *testing.T) {
	f := newFolder(t)
	f.release(1, "alice", "bob")
	f.write("release/1/MANIFEST2", []byte("x"))
	f.refused(BadFiles, "release/1/MANIFEST2 is neither MANIFEST nor a signature")
	fatal(t, os.Remove(f.path("release/1/MANIFEST2")))
	for _, name := range []string{"trust/README", "trust/root.02", "trust/root.0", "trust/root.1.alice", "trust/root.1.Alice.sig"} {
		f.write(name, []byte("x"))
		f.refused(BadFiles, name+" is no trust root", "take it away")
		fatal(t, os.Remove(f.path(name)))
	}
	f.opens()
}

func TestLargerThanTheLimits(t *testing.T) {
	f := newFolder(t)
	f.release(1, "alice", "bob")
	f.write("release/1/MANIFEST.bob.sig", bytes.Repeat([]byte("x"), maxSignature+1))
	f.refused(BadFiles, "is larger than 16384 bytes")

	f = newFolder(t)
	f.release(1, "alice", "bob")
	f.write("policy/"+strings.Repeat("a/", maxDepth+1)+"b.hcl", nil)
	f.refused(BadFiles, "is nested too deeply")
}

// What is not read cannot be seen to be there too.
func TestMoreThanTheLimits(t *testing.T) {
	f := newFolder(t)
	f.release(1, "alice", "bob")
	n := 0
	more := func(until int) {
		for ; n < until; n++ {
			f.write(fmt.Sprintf("policy/%05d.hcl", n), nil)
		}
	}
	more(maxFiles)
	f.refused(BadFiles, "policy has more than 5000 files")
	more(maxEntries)
	f.refused(BadFiles, "policy has more than 10000 entries")
}

func TestLargerThanTheLimitAltogether(t *testing.T) {
	f := newFolder(t)
	big := bytes.Repeat([]byte("#"), maxFile)
	for n := range maxTotal/maxFile + 1 {
		f.write(fmt.Sprintf("policy/%d.hcl", n), big)
	}
	f.release(1, "alice", "bob")
	f.refused(BadFiles, "the policy is larger than 64 MiB", "split it")
}

// What nobody signed must not reach a terminal as it is.
func TestNamesThatNobodySignedAreCleaned(t *testing.T) {
	f := newFolder(t)
	f.release(1, "alice", "bob")
	f.write("policy/\x1b[2J.hcl", nil)
	f.refused(BadFiles, "policy/?[2J.hcl is not in release 1")
}

func TestNewRootNeedsTheOldThresholdAndItsOwn(t *testing.T) {
	f := newFolder(t)
	f.keys["carol"], f.keys["dave"] = newKey(t), newKey(t)
	f.release(1, "alice", "bob")
	one := f.opens().Digest
	_, err := NextRoot(f.dir, 2, f.signers("bob", "carol", "dave"))
	fatal(t, err)
	signs := func(who ...string) {
		t.Helper()
		for _, w := range who {
			got, err := SignRoot(f.dir, 2, f.keys[w])
			fatal(t, err)
			if got != w {
				t.Fatalf("signed as %s, want %s", got, w)
			}
		}
	}
	signs("bob", "carol", "dave")
	f.refused(BadRoot, "trust/root.2 has 1 of 2 signatures of the trust root before")
	signs("alice")
	fatal(t, os.Remove(f.path("trust/root.2.carol.sig")))
	fatal(t, os.Remove(f.path("trust/root.2.dave.sig")))
	f.refused(BadRoot, "trust/root.2 has 1 of 2 signatures of its own")
	signs("dave")
	// The root stands, and releases under the old one do not any more.
	f.refused(Unsigned, "1 of 2 signatures on release 1", "the one of alice is by a key that the trust root does not know")
	f.o.Running = Pin{Version: 1, Digest: one}
	f.release(2, "carol", "dave")
	b := f.opens()
	if b.Root.Version != 2 || !slices.Equal(b.People, []string{"carol", "dave"}) {
		t.Errorf("root %d, signed by %v", b.Root.Version, b.People)
	}
	// Alice has left: she does not count any more.
	f.release(3, "carol")
	f.sign("release/3/MANIFEST", "alice", f.keys["alice"], Namespace)
	f.refused(Unsigned, "1 of 2")
	// Taking the new root away brings the old signers back, unless it is remembered.
	f.o.Release, f.o.RootFloor = 0, 2
	fatal(t, os.Remove(f.path("trust/root.2")))
	f.refused(BadRoot, "trust root 1 is older than 2, which was in use")
}

func TestRootThatDoesNotFollow(t *testing.T) {
	f := newFolder(t)
	f.release(1, "alice", "bob")
	_, err := writeRoot(f.dir, Root{Version: 2, Threshold: 1, Previous: Digest([]byte("another")), Signers: f.signers("alice")})
	fatal(t, err)
	f.sign("trust/root.2", "alice", f.keys["alice"], Namespace)
	f.sign("trust/root.2", "bob", f.keys["bob"], Namespace)
	f.refused(BadRoot, "trust/root.2 does not follow trust root 1")
	fatal(t, os.Remove(f.path("trust/root.2.alice.sig")))
	fatal(t, os.Remove(f.path("trust/root.2.bob.sig")))
	f.write("trust/root.2", f.read("trust/root.1")) // the pinned one, under a number that a floor would take
	fatal(t, os.Remove(f.path("trust/root.1")))
	f.o.RootFloor = 1
	f.refused(BadRoot, "trust/root.2 is that of version 1")
}

func TestReleasesAndRootsAreNeverOverwritten(t *testing.T) {
	f := newFolder(t)
	f.release(1)
	if _, err := Release(f.dir, Draft{Version: 1, Expires: now}); err == nil || !strings.Contains(err.Error(), "release 1 is there already; the next version is 2") {
		t.Errorf("got %v", err)
	}
	if _, err := InitRoot(f.dir, 1, f.signers("bob")); err == nil || !strings.Contains(err.Error(), "trust/root.1 is there already") {
		t.Errorf("got %v", err)
	}
	if _, err := Sign(f.dir, 1, newKey(t)); err == nil || !strings.Contains(err.Error(), "does not know this key; it knows those of alice, bob") {
		t.Errorf("got %v", err)
	}
}

// A signature that was made elsewhere is kept only where it counts.
func TestAcceptedSignatureIsAGoodOne(t *testing.T) {
	f := newFolder(t)
	f.release(1, "alice")
	of := func(name string, s ssh.Signer, namespace string) []byte {
		sig, err := sshsig.Sign(bytes.NewReader(f.read(name)), s, sshsig.HashSHA512, namespace)
		fatal(t, err)
		return sshsig.Armor(sig)
	}
	for want, text := range map[string][]byte{
		"is by a key that the trust root does not know": of("release/1/MANIFEST", newKey(t), Namespace),
		"was made for \"git\"":                          of("release/1/MANIFEST", f.keys["bob"], "git"),
		"does not fit":                                  of("trust/root.1", f.keys["bob"], Namespace),
		"is not an SSH signature":                       []byte("x"),
	} {
		if _, err := Accept(f.dir, 1, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	f.refused(Unsigned, "1 of 2 signatures on release 1")
	who, err := Accept(f.dir, 1, of("release/1/MANIFEST", f.keys["bob"], Namespace))
	fatal(t, err)
	if f.opens(); who != "bob" {
		t.Errorf("signed as %s", who)
	}
}

func TestCreate(t *testing.T) {
	dir := t.TempDir()
	root, err := Create(dir, map[string][]byte{"policy/a.hcl": []byte("#\n")}, 1, now.Add(time.Hour), map[string]ssh.Signer{"sam": newKey(t)})
	fatal(t, err)
	b, err := Open(dir, Options{Root: root, Now: now})
	fatal(t, err)
	if !slices.Equal(b.People, []string{"sam"}) {
		t.Errorf("signed by %v", b.People)
	}
	for want, files := range map[string]map[string][]byte{
		"":             b.Files,
		"policy/a.hcl": {"policy/a.hcl": []byte("# \n")},
		"policy/b.hcl": {"policy/a.hcl": []byte("#\n"), "policy/b.hcl": nil},
	} {
		if got := b.Manifest.Differs(files); got != want {
			t.Errorf("%v differ by %q, want %q", files, got, want)
		}
	}
}

// Two files that both hold alice's signature are one signature.
func TestOneNameTwice(t *testing.T) {
	f := newFolder(t)
	f.release(1, "alice")
	text := f.read("release/1/MANIFEST.alice.sig")
	b := f.counted(Signature{"alice", text}, Signature{"alice", text})
	if len(b) != 1 {
		t.Errorf("counted %v", b)
	}
}

// Whatever is written over part of a signed folder, it opens as what was signed or not at all.
func FuzzOpen(f *testing.F) {
	for which := range uint8(6) {
		f.Add(which, uint16(3), []byte("x"))
		f.Add(which, uint16(40), []byte("\n"))
	}
	f.Fuzz(func(t *testing.T, which uint8, at uint16, text []byte) {
		d := newFolder(t)
		d.release(1, "alice", "bob")
		before, err := Open(d.dir, d.o)
		fatal(t, err)
		names := []string{"policy/rules.hcl", "policy/ca/db.pem", "trust/root.1", "release/1/MANIFEST", "release/1/MANIFEST.alice.sig", "release/1/MANIFEST.bob.sig"}
		name := names[int(which)%len(names)]
		was := d.read(name)
		from := min(int(at), len(was))
		d.write(name, slices.Concat(was[:from], text, was[min(from+len(text), len(was)):]))
		after, err := Open(d.dir, d.o)
		if err == nil && (!bytes.Equal(after.Text, before.Text) || !maps.EqualFunc(after.Files, before.Files, bytes.Equal) || len(after.People) != 2) {
			t.Errorf("%q at %d of %s opens as something else", text, from, name)
		}
	})
}
