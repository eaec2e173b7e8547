package demo

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/sallyport/sallyport/internal/devidp"
	"github.com/sallyport/sallyport/internal/freeport"
)

// state is what a demo keeps between its runs (demo.json).
type state struct {
	Ports ports         `json:"ports"`
	Users []devidp.User `json:"users"`
}

type ports struct {
	Web      int `json:"web"`
	Postgres int `json:"postgres"`
	Issuer   int `json:"issuer"`
	Target   int `json:"target"`
	App      int `json:"app"`
	SSH      int `json:"ssh"`
	SSHD     int `json:"sshd"`
}

// usual are the ports of a first run.
var usual = ports{Web: 8443, Postgres: 6432, Issuer: 8444, Target: 6433, App: 8445, SSH: 6422, SSHD: 6434}

// openState reads demo.json or makes it, with ports that are free now.
func openState(dir string, random bool) (*state, error) {
	path := filepath.Join(dir, "demo.json")
	s := &state{}
	text, err := os.ReadFile(path)
	switch {
	case err == nil:
		if err := json.Unmarshal(text, s); err != nil {
			return nil, fmt.Errorf("%s is damaged; remove it, or choose another folder with --dir", path)
		}
	case errors.Is(err, os.ErrNotExist):
		s.Users = devidp.People()
		if !random {
			s.Ports = usual
		}
	default:
		return nil, fmt.Errorf("read the demo's state: %w", err)
	}
	for _, p := range []struct {
		name  string
		port  *int
		usual int
	}{
		{"the pages", &s.Ports.Web, usual.Web},
		{"PostgreSQL clients", &s.Ports.Postgres, usual.Postgres},
		{"the OIDC provider", &s.Ports.Issuer, usual.Issuer},
		{"the demo's database", &s.Ports.Target, usual.Target},
		{"the demo's application", &s.Ports.App, usual.App},
		{"SSH clients", &s.Ports.SSH, usual.SSH},
		{"the demo's sshd", &s.Ports.SSHD, usual.SSHD},
	} {
		if *p.port == 0 && !random {
			*p.port = p.usual // of a folder from before there was one
		}
		if *p.port != 0 && freeport.Free(*p.port) {
			continue
		}
		if !random {
			return nil, fmt.Errorf("port %d, for %s, is taken; end what uses it, or type: sallyport demo --ports random", *p.port, p.name)
		}
		if *p.port, err = freeport.Pick(); err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
	}
	if text, err = json.MarshalIndent(s, "", "  "); err != nil {
		return nil, err
	}
	return s, os.WriteFile(path, text, 0o600)
}
