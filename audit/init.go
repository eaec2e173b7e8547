package audit

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"unicode"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"

	"github.com/sallyport/sallyport/internal/durable"
)

// Files of a log's folder.
const (
	fileMeta       = "log.json"
	fileKey        = "log.key"       // the signer key, as golang.org/x/mod/sumdb/note writes it
	filePseudonym  = "pseudonym.key" // 32 bytes, hex
	fileCheckpoint = "checkpoint"
)

// metadata is log.json.
type metadata struct {
	Version int    `json:"version"`
	Origin  string `json:"origin"`
	Key     string `json:"key"`
}

// Init makes an empty log in dir, which must not exist or be empty, with new keys.
// The origin names the log for ever and everywhere, as a URL without scheme does:
// "gate.example.com/audit".
func Init(dir, origin string) error {
	if err := initLog(dir, origin); err != nil {
		return fmt.Errorf("make audit log %s: %w", dir, err)
	}
	return nil
}

func initLog(name, origin string) error {
	if !goodOrigin(origin) {
		return fmt.Errorf("%q is no origin; write it like gate.example.com/audit", origin)
	}
	if err := os.MkdirAll(name, 0o700); err != nil {
		return err
	}
	dir, err := durable.Open(name, nil)
	if err != nil {
		return err
	}
	defer dir.Close()
	if _, err := dir.Stat(fileMeta); !errors.Is(err, fs.ErrNotExist) {
		return errors.New("there is a log already")
	}
	if _, err := dir.Stat(fileKey); !errors.Is(err, fs.ErrNotExist) {
		return errors.New("there is a log's key already; without log.json it is not known whose")
	}
	signer, key, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		return err
	}
	pseudonym := make([]byte, 32)
	_, _ = rand.Read(pseudonym) // never fails (crypto/rand)
	meta, err := json.Marshal(metadata{Version: 1, Origin: origin, Key: key})
	if err != nil {
		return err
	}
	for _, sub := range []string{"wal", "tile", "body"} {
		if _, err := dir.Make(sub); err != nil {
			return err
		}
	}
	if err := dir.WriteFile(filePseudonym, []byte(hex.EncodeToString(pseudonym)+"\n"), 0o600); err != nil {
		return err
	}
	if err := dir.WriteFile(fileKey, []byte(signer+"\n"), 0o600); err != nil {
		return err
	}
	// log.json is last: while it is missing there is no log.
	return dir.WriteFile(fileMeta, append(meta, '\n'), 0o644)
}

func goodOrigin(s string) bool {
	return s != "" && len(s) <= 200 && !strings.ContainsFunc(s, func(r rune) bool {
		return r == '+' || unicode.IsSpace(r) || unicode.IsControl(r)
	})
}

func containsSlash(s string) bool { return strings.Contains(s, "/") }

// loadKeys reads log.json and the keys, and checks that they belong together.
func (l *Log) loadKeys(origin string) error {
	meta, err := readMeta(l.dir)
	if err != nil {
		return err
	}
	if origin != "" && origin != meta.Origin {
		return fmt.Errorf("the log's origin is %q, not %q", meta.Origin, origin)
	}
	text, err := readSecret(l.dir, fileKey)
	if err != nil {
		return err
	}
	if l.signer, err = note.NewSigner(text); err != nil {
		return fmt.Errorf("%s is no signer key", fileKey)
	}
	verifier, err := torchwood.NewVerifierFromSigner(text)
	if err != nil {
		return fmt.Errorf("%s is no signer key", fileKey)
	}
	named, err := note.NewVerifier(meta.Key)
	if err != nil {
		return &Damage{File: fileMeta, Byte: -1, Why: "its key is no verifier key"}
	}
	if verifier.KeyHash() != named.KeyHash() || verifier.Name() != meta.Origin {
		return &Damage{File: fileMeta, Byte: -1, Why: "its key and origin are not those of " + fileKey}
	}
	if text, err = readSecret(l.dir, filePseudonym); err != nil {
		return err
	}
	if l.pseudonym, err = hex.DecodeString(text); err != nil || len(l.pseudonym) != 32 {
		return fmt.Errorf("%s is not 32 bytes in hex", filePseudonym)
	}
	l.origin, l.key = meta.Origin, meta.Key
	return nil
}

func readMeta(dir *durable.Dir) (metadata, error) {
	text, err := dir.ReadFile(fileMeta)
	if errors.Is(err, fs.ErrNotExist) {
		return metadata{}, fmt.Errorf("%w; type: sallyport audit init --config FILE", ErrNoLog)
	}
	if err != nil {
		return metadata{}, err
	}
	var meta metadata
	if err := json.Unmarshal(text, &meta); err != nil {
		return metadata{}, &Damage{File: fileMeta, Byte: -1, Why: "it is no JSON"}
	}
	if meta.Version != 1 {
		return metadata{}, fmt.Errorf("%s has version %d; this program reads version 1", fileMeta, meta.Version)
	}
	return meta, nil
}

func readSecret(dir *durable.Dir, name string) (string, error) {
	info, err := dir.Stat(name)
	if err != nil {
		return "", err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("%s can be read by others (mode %04o); type: chmod 600 %s", name, info.Mode().Perm(), name)
	}
	text, err := dir.ReadFile(name)
	return strings.TrimSpace(string(text)), err
}
