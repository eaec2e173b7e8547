package postgres

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/session"
)

// param is one startup parameter.
type param struct{ name, value string }

// startup is a startup message, read and checked.
type startup struct {
	version   uint32   // what is spoken from here
	negotiate bool     // the client must be told version and unknown
	unknown   []string // protocol extensions (_pq_.*) that we do not know
	ask       session.Ask
	proof     identity.ProofKind // as the user name says; empty: certificate or browser
	program   string
	params    []param
}

// known are the parameters that may go to the target: what libpq, JDBC, pgx, npgsql,
// asyncpg and node-postgres send by themselves or by a documented setting. None of
// them changes who the session is.
var known = map[string]bool{
	"application_name": true, "client_encoding": true, "datestyle": true, "timezone": true, "intervalstyle": true,
	"extra_float_digits": true, "search_path": true, "geqo": true, "standard_conforming_strings": true,
	"bytea_output": true, "statement_timeout": true, "lock_timeout": true, "idle_in_transaction_session_timeout": true,
	"default_transaction_read_only": true, "default_transaction_isolation": true, "jit": true,
}

// parseStartup reads the body of a startup message, from its version on. isTarget
// says whether the policy has a target of that name. On an error version is set
// where the message could be read at all.
func parseStartup(body []byte, isTarget func(string) bool) (startup, error) {
	s := startup{version: binary.BigEndian.Uint32(body)}
	if s.version>>16 != 3 {
		return startup{}, invalidPacket(fmt.Sprintf("protocol %d.%d is not spoken here; this gate speaks 3.0 to 3.2", s.version>>16, s.version&0xffff))
	}
	if s.version > version32 {
		s.version, s.negotiate = version32, true
	}
	all, err := splitParams(body[4:])
	if err != nil {
		return s, err
	}
	var user, database string
	for _, p := range all {
		name := strings.ToLower(p.name)
		switch {
		case strings.HasPrefix(p.name, "_pq_."):
			s.negotiate, s.unknown = true, append(s.unknown, p.name)
		case p.name == "user":
			user = p.value
		case p.name == "database":
			database = p.value
		case p.name == "options":
			rest, err := s.options(p.value)
			if err != nil {
				return s, err
			}
			if strings.Trim(rest, spaces) != "" {
				s.params = append(s.params, param{"options", rest})
			}
		case p.name == "replication":
			return s, &session.Denied{Reason: "replication connections do not pass this gate"}
		case known[name]:
			if name == "application_name" {
				s.program = p.value
			}
			s.params = append(s.params, p)
		default:
			return s, &session.Invalid{Field: "startup", Hint: fmt.Sprintf("the startup parameter %q does not pass this gate; leave it out of the connection string", p.name)}
		}
	}
	return s, s.name(user, database, isTarget)
}

// splitParams splits names and values. One that comes twice, however it is spelled,
// is refused: gate and target could take different ones.
func splitParams(b []byte) ([]param, error) {
	var all []param
	seen := map[string]bool{}
	for {
		name, rest, ok := bytes.Cut(b, []byte{0})
		if !ok {
			return nil, invalidPacket("the startup packet has no end")
		}
		if len(name) == 0 {
			if len(rest) > 0 {
				return nil, invalidPacket("the startup packet goes on after its end")
			}
			return all, nil
		}
		value, rest, ok := bytes.Cut(rest, []byte{0})
		if !ok {
			return nil, invalidPacket("the startup packet has no end")
		}
		p := param{string(name), string(value)}
		if key := strings.ToLower(p.name); seen[key] {
			return nil, &session.Invalid{Field: "startup", Hint: fmt.Sprintf("the startup parameter %q comes twice", p.name)}
		} else {
			seen[key] = true
		}
		all, b = append(all, p), rest
	}
}

// name takes role, proof, target and database from what the client calls user and
// database.
func (s *startup) name(user, database string, isTarget func(string) bool) error {
	role := user
	if at := strings.LastIndexByte(user, '+'); at >= 0 {
		switch user[at:] {
		case "+token":
			role, s.proof = user[:at], identity.ByToken
		case "+oauth":
			role, s.proof = user[:at], identity.ByOAuth
		}
	}
	if role == "" {
		return &session.Invalid{Field: "role", Hint: `no role is named; type: psql "host=... user=ROLE dbname=TARGET"`}
	}
	target, object, named := strings.Cut(database, "/")
	// libpq fills a missing dbname with the user name, and so nobody may have meant it.
	if database == "" || (database == user && !isTarget(target)) {
		return &session.Invalid{Field: "target", Hint: fmt.Sprintf(`no target is named; type: psql "host=... user=%s dbname=TARGET"`, user)}
	}
	if target == "" || (named && object == "") {
		return &session.Invalid{Field: "target", Hint: "dbname is TARGET or TARGET/DATABASE"}
	}
	s.ask.Target, s.ask.Role, s.ask.Object = target, role, object
	if object != "" {
		s.ask.Need = policy.Scope{Databases: []string{object}}
	}
	return nil
}
