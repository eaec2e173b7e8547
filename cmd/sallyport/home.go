package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sallyport/sallyport/credential"
	"github.com/sallyport/sallyport/identity"
)

// Files of a person's folder, all of mode 0600.
const (
	loginFile = "login.json"
	tokenFile = "token"
	certFile  = "client.crt"
	keyFile   = "client.key"
	caFile    = "ca.crt"
	// ssh finds the certificate by the key's name (ssh_config(5), IdentityFile).
	sshKeyFile  = "id"
	sshCertFile = "id-cert.pub"
	// knownHostsFile is of ssh-config.
	knownHostsFile = "known_hosts"
)

// A home is the folder in which `sallyport login` keeps what it was given.
type home string

// A savedLogin says where the last login was.
type savedLogin struct {
	Server string `json:"server"`
	User   string `json:"user"`
	CA     bool   `json:"ca"` // there is a caFile
}

// openHome is $SALLYPORT_HOME, or a folder of the user's configuration.
func openHome() (home, error) {
	if dir := os.Getenv("SALLYPORT_HOME"); dir != "" {
		absolute, err := filepath.Abs(dir)
		return home(absolute), err
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("there is no folder for your configuration (%w); set SALLYPORT_HOME", err)
	}
	return home(filepath.Join(dir, "sallyport")), nil
}

func (h home) path(name string) string { return filepath.Join(string(h), name) }

func (h home) load() (savedLogin, error) {
	var s savedLogin
	text, err := os.ReadFile(h.path(loginFile))
	if errors.Is(err, fs.ErrNotExist) {
		return s, errNoLogin
	}
	if err != nil {
		return s, fmt.Errorf("read the last login: %w", err)
	}
	if err := json.Unmarshal(text, &s); err != nil || s.Server == "" {
		return s, fmt.Errorf("%s is damaged; type: sallyport login --server https://YOUR-GATE", h.path(loginFile))
	}
	return s, nil
}

func (h home) token() (identity.Token, error) {
	text, err := credential.ReadFile(h.path(tokenFile))
	if errors.Is(err, fs.ErrNotExist) {
		return "", errNoLogin
	}
	return identity.Token(text), err
}

// save writes one file so that it is whole or not there, never readable for others.
func (h home) save(name string, text []byte) error {
	if err := os.MkdirAll(string(h), 0o700); err != nil {
		return fmt.Errorf("make your folder: %w", err)
	}
	temporary, err := os.CreateTemp(string(h), name+".*") // of mode 0600
	if err != nil {
		return fmt.Errorf("save %s: %w", name, err)
	}
	_, err = temporary.Write(text)
	err = errors.Join(err, temporary.Close())
	if err == nil {
		err = os.Rename(temporary.Name(), h.path(name))
	}
	if err != nil {
		_ = os.Remove(temporary.Name())
		return fmt.Errorf("save %s: %w", name, err)
	}
	return nil
}

// forget removes everything that a login left.
func (h home) forget() error {
	return h.remove(tokenFile, keyFile, certFile, sshKeyFile, sshCertFile, knownHostsFile, caFile, loginFile)
}

// remove removes files; one that is not there is gone already.
func (h home) remove(names ...string) error {
	var errs []error
	for _, name := range names {
		if err := os.Remove(h.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
