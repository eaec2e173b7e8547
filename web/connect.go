package web

import (
	"net"
	"strings"

	"github.com/sallyport/sallyport/internal/shellword"
	"github.com/sallyport/sallyport/session"
)

// ways are the lines to type that use a grant. They are empty where the gate has no
// listener for the target's protocol.
type ways struct {
	Protocol string
	Connect  string // by browser or certificate
	ByToken  string // for what only knows passwords; with the token in it where that was shown just now
}

// ways writes them; token is empty where none is shown.
func (s *Web) ways(g session.Grant, token string) ways {
	t, ok := s.gate.Policy().Target(g.Key.Target)
	if !ok {
		return ways{}
	}
	w := ways{Protocol: t.Protocol}
	switch t.Protocol {
	case "postgres":
		w.Connect, w.ByToken = s.psql(g.Key), s.psql(tokenRole(g.Key))
		if token != "" && w.ByToken != "" {
			w.ByToken = "PGPASSWORD=" + token + " " + w.ByToken
		}
	case "ssh":
		w.Connect, w.ByToken = s.sshLine(g.Key), s.sshLine(tokenRole(g.Key))
	case "http":
		if s.config.TargetURL != nil {
			w.Connect = s.config.TargetURL(t)
		}
		if w.Connect != "" {
			if token == "" {
				token = "TOKEN"
			}
			w.ByToken = "curl -H " + shellword.Quote("Authorization: Bearer "+token) + " " + shellword.Quote(w.Connect)
		}
	}
	return w
}

func tokenRole(key session.Key) session.Key {
	key.Role += "+token"
	return key
}

func (s *Web) psql(key session.Key) string {
	host, port, err := net.SplitHostPort(s.config.Addresses["postgres"])
	if err != nil {
		return ""
	}
	database := key.Target
	if key.Object != "" {
		database += "/" + key.Object
	}
	words := []string{"host=" + conninfo(host), "port=" + conninfo(port), "user=" + conninfo(key.Role), "dbname=" + conninfo(database), "sslmode=verify-full"}
	if s.config.RootCA != "" {
		words = append(words, "sslrootcert="+conninfo(s.config.RootCA))
	}
	return "psql " + shellword.Quote(strings.Join(words, " "))
}

func (s *Web) sshLine(key session.Key) string {
	host, port, err := net.SplitHostPort(s.config.Addresses["ssh"])
	if err != nil {
		return ""
	}
	line := "ssh "
	if port != "22" {
		line += "-p " + port + " "
	}
	return line + shellword.Quote(key.Role+"@"+key.Target+"@"+host)
}

// conninfo quotes a value of a libpq connection string (PostgreSQL, section 34.1.1.1).
func conninfo(value string) string {
	if value != "" && !strings.ContainsAny(value, " '\\\t\n") {
		return value
	}
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value) + "'"
}
