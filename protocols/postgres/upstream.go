package postgres

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/sallyport/sallyport/proxy"
	"github.com/sallyport/sallyport/session"
)

// Limits on what a target may send before it is ready; more is a broken or hostile
// target that would make the gate's memory grow.
const (
	loginWait      = 15 * time.Second
	maxLoginBody   = 64 << 10 // bytes of one message
	maxLoginMany   = 2_000    // messages
	maxLoginStatus = 64 << 10 // bytes of ParameterStatus messages
	maxLoginRows   = 64 << 10 // bytes of rows that answer a statement of the gate's own
)

// server is a connection to the target that has logged in.
type server struct {
	conn   net.Conn // *proxy.Conn, or TLS on top of one
	status []byte   // the ParameterStatus messages, as they came
	pid    uint32
	secret []byte
	pace   *pace // of its target; nil on a second connection
	// backend is who serves the connection, by the target's own word: a pooler between here
	// and there makes up the process id of the cancel key. Since is in microseconds.
	backend struct{ pid, since int64 }
	// password says that the login used one, so that ALTER ROLE could replace it.
	password bool
}

// targetError is an ErrorResponse of the target.
type targetError struct{ state, message string }

// Error is the target's words: no more of them than anybody reads, and no SQLSTATE that is none.
func (e *targetError) Error() string {
	text := e.message[:min(len(e.message), maxErrorText)]
	if text == "" {
		text = "it does not say why"
	}
	if !stateForm.MatchString(e.state) {
		return text
	}
	return text + " (SQLSTATE " + e.state + ")"
}

var stateForm = regexp.MustCompile(`^[0-9A-Z]{5}$`)

// account is whom and where to log in at a target.
type account struct {
	target, name, database string
	options                roleOptions
}

func accountOf(up *session.Upstream) (account, error) {
	t, err := up.Target()
	if err != nil {
		return account{}, err
	}
	role, err := up.Role()
	if err != nil {
		return account{}, err
	}
	a := account{target: t.Name, name: role.Account, database: up.Object()}
	if a.name == "" {
		a.name = role.Name
	}
	var own targetOptions
	if t.Options != nil {
		if err := t.Options(&own); err != nil {
			return account{}, fmt.Errorf("options of target %s: %w", t.Name, err)
		}
	}
	if role.Options != nil {
		if err := role.Options(&a.options); err != nil {
			return account{}, fmt.Errorf("options of role %s: %w", role.Name, err)
		}
	}
	if a.database == "" {
		a.database = own.Database
	}
	if a.database == "" {
		a.database = t.Name
	}
	return a, nil
}

// login opens the session's connection to the target, judges the role that it got,
// and lets the client in.
func (c *conn) login(ctx context.Context, up *session.Upstream, params []param) (*server, error) {
	a, err := accountOf(up)
	if err != nil {
		return nil, err
	}
	srv, err := connect(ctx, up, a, params)
	if err != nil {
		return nil, err
	}
	if err := srv.judge(ctx, a); err != nil {
		_ = srv.conn.Close()
		return nil, err
	}
	srv.pace = c.h.paces.of(a.target)
	if _, warned := c.h.warned.LoadOrStore(a.target+"/"+a.name, true); srv.password && !warned {
		c.log.Warn("the role logs in by a password, which a session of it could replace by ALTER ROLE; use a client certificate, or let pg_hba.conf admit the role from the gate alone",
			"target", a.target, "role", a.name)
	}
	return srv, nil
}

// connect dials and logs in as the account. The caller closes the connection.
func connect(ctx context.Context, up *session.Upstream, a account, params []param) (*server, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, loginWait, errors.New("the target did not answer in time"))
	defer cancel()
	secret, err := up.Secret(ctx)
	if err != nil {
		return nil, err
	}
	cred := parseCredential(secret.Reveal())
	conn, err := dial(ctx, up, cred.certificate)
	if err != nil {
		return nil, whyNot(ctx, a.target, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now().Add(-time.Hour)) })
	srv := &server{conn: conn}
	if err = srv.start(a, params); err == nil {
		err = srv.authenticate(a, cred)
	}
	if err == nil {
		err = srv.ready()
	}
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = conn.Close()
		return nil, whyNot(ctx, a.target, err)
	}
	return srv, nil
}

// dial connects and puts TLS on, where the policy does not say that there is none.
// There is no going back to plaintext.
func dial(ctx context.Context, up *session.Upstream, certificate *tls.Certificate) (net.Conn, error) {
	config, err := up.TLSConfig()
	if err != nil {
		return nil, err
	}
	raw, err := up.Dial(ctx)
	if err != nil {
		return nil, err
	}
	base := proxy.TargetConn(ctx, raw)
	if config == nil {
		return base, nil
	}
	stop := context.AfterFunc(ctx, func() { _ = base.SetDeadline(time.Now().Add(-time.Hour)) })
	defer stop()
	t, err := secure(ctx, base, config, certificate)
	if err != nil {
		_ = base.Close()
		return nil, err
	}
	return t, nil
}

func secure(ctx context.Context, base *proxy.Conn, config *tls.Config, certificate *tls.Certificate) (net.Conn, error) {
	request := binary.BigEndian.AppendUint32([]byte{0, 0, 0, 8}, codeTLS)
	if _, err := base.Write(request); err != nil {
		return nil, fmt.Errorf("ask the target for tls: %w", err)
	}
	var answer [1]byte
	// One byte and no more: what a meddler put behind it is not taken for the target's.
	if _, err := io.ReadFull(base, answer[:]); err != nil {
		return nil, fmt.Errorf("ask the target for tls: %w", err)
	}
	if answer[0] != 'S' {
		return nil, errors.New("the target does not speak tls, and the policy does not allow plaintext")
	}
	if certificate != nil {
		config.Certificates = []tls.Certificate{*certificate}
	}
	config.DynamicRecordSizingDisabled = true
	t := tls.Client(base, config)
	if err := t.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("tls with the target: %w", err)
	}
	return t, nil
}

// start sends the startup message: 3.0, because that is what every target knows and
// what follows the start-up is the same in 3.2.
func (s *server) start(a account, params []param) error {
	m := binary.BigEndian.AppendUint32(make([]byte, 4, 256), version30)
	for _, p := range append([]param{{"user", a.name}, {"database", a.database}}, params...) {
		m = append(append(append(append(m, p.name...), 0), p.value...), 0)
	}
	m = append(m, 0)
	binary.BigEndian.PutUint32(m, uint32(len(m)))
	if _, err := s.conn.Write(m); err != nil {
		return fmt.Errorf("write the startup message: %w", err)
	}
	return nil
}

// receive reads one message and no byte more: what follows is the client's.
func (s *server) receive() (kind byte, body []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(s.conn, head[:]); err != nil {
		return 0, nil, fmt.Errorf("read from the target: %w", err)
	}
	length := binary.BigEndian.Uint32(head[1:])
	if length < 4 || length > maxLoginBody {
		return 0, nil, fmt.Errorf("the target sent a %q message of %d bytes before it was ready", head[0], length)
	}
	body = make([]byte, length-4)
	if _, err := io.ReadFull(s.conn, body); err != nil {
		return 0, nil, fmt.Errorf("read from the target: %w", err)
	}
	if head[0] == 'E' {
		return 0, nil, errorOf(body)
	}
	return head[0], body, nil
}

func errorOf(body []byte) error {
	var m pgproto3.ErrorResponse
	if err := m.Decode(body); err != nil {
		return fmt.Errorf("read the target's error: %w", err)
	}
	return &targetError{m.Code, m.Message}
}

// ready reads from AuthenticationOk to ReadyForQuery.
func (s *server) ready() error {
	for range maxLoginMany {
		kind, body, err := s.receive()
		if err != nil {
			return err
		}
		switch kind {
		case 'S':
			if len(s.status)+len(body)+5 > maxLoginStatus {
				return errors.New("the target sends parameters without end")
			}
			s.status = appendMessage(s.status, kind, body)
		case 'K':
			if s.secret != nil || len(body) < 8 || len(body) > 4+256 {
				return errors.New("the target sent a second or a bad BackendKeyData")
			}
			s.pid, s.secret = binary.BigEndian.Uint32(body), body[4:]
		case 'N':
		case 'Z':
			return nil
		default:
			return fmt.Errorf("the target sent a %q message before it was ready", kind)
		}
	}
	return errors.New("the target sends messages without end before it is ready")
}

func appendMessage(dst []byte, kind byte, body []byte) []byte {
	dst = binary.BigEndian.AppendUint32(append(dst, kind), uint32(len(body)+4))
	return append(dst, body...)
}

// query runs one statement of the gate's own and returns its rows.
func (s *server) query(sql string) ([][]string, error) {
	m, err := (&pgproto3.Query{String: sql}).Encode(nil)
	if err != nil {
		return nil, err
	}
	if _, err := s.conn.Write(m); err != nil {
		return nil, fmt.Errorf("write to the target: %w", err)
	}
	var rows [][]string
	size := 0
	for range maxLoginMany {
		kind, body, err := s.receive()
		if err != nil {
			return nil, err
		}
		switch kind {
		case 'D':
			if size += len(body); size > maxLoginRows {
				return nil, errors.New("the target answers without end")
			}
			var row pgproto3.DataRow
			if err := row.Decode(body); err != nil {
				return nil, fmt.Errorf("read a row: %w", err)
			}
			values := make([]string, len(row.Values))
			for i, v := range row.Values {
				values[i] = string(v)
			}
			rows = append(rows, values)
		case 'S': // a setting changed after the login; the client gets the last value
			if len(s.status)+len(body)+5 > maxLoginStatus {
				return nil, errors.New("the target sends parameters without end")
			}
			s.status = appendMessage(s.status, kind, body)
		case 'Z':
			return rows, nil
		}
	}
	return nil, errors.New("the target answers without end")
}

// sinceOf is when a backend began, in microseconds: a text that no setting of the session
// changes.
const sinceOf = `(pg_catalog.date_part('epoch', backend_start) operator(pg_catalog.*) 1000000)::pg_catalog.int8`

// judgement asks who we are, by names that no search_path can bend. Who may become
// another role by SET ROLE is a member of it (pg_has_role, 'MEMBER'). It also has the
// backend notice by itself, while it works, that the connection to the gate is gone, where
// the server can (PostgreSQL 14 on Linux): a backend that the gate cannot reach any more at
// a grant's end stops then.
const judgement = `select r.rolsuper, r.rolcreaterole, coalesce((select pg_catalog.string_agg(m.rolname, ',' order by m.rolname)
 from pg_catalog.pg_roles m where m.oid operator(pg_catalog.<>) r.oid and not r.rolsuper and pg_catalog.pg_has_role(r.oid, m.oid, 'MEMBER')), ''),
 a.pid, ` + sinceOf + `,
 (select pg_catalog.count(pg_catalog.set_config(v.name, v.value, false))
 from (values ('client_connection_check_interval', '5s'), ('tcp_keepalives_idle', '15'), ('tcp_keepalives_interval', '5'), ('tcp_keepalives_count', '3')) v(name, value)
 where pg_catalog.current_setting(v.name, true) is not null and pg_catalog.version() operator(pg_catalog.~) 'linux')
 from pg_catalog.pg_roles r, pg_catalog.pg_stat_activity a
 where r.rolname operator(pg_catalog.=) session_user and a.pid operator(pg_catalog.=) pg_catalog.pg_backend_pid()`

// judge refuses a role that could do more than the policy says.
func (s *server) judge(ctx context.Context, a account) error {
	ctx, cancel := context.WithTimeoutCause(ctx, loginWait, errors.New("the target did not answer in time"))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = s.conn.SetDeadline(time.Now().Add(-time.Hour)) })
	rows, err := s.query(judgement)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return whyNot(ctx, a.target, fmt.Errorf("look at the role: %w", err))
	}
	if len(rows) != 1 || len(rows[0]) != 6 {
		return whyNot(ctx, a.target, errors.New("look at the role: no such role"))
	}
	if rows[0][0] != "f" {
		return &session.Denied{Reason: a.name + " is a superuser of " + a.target + ", which no grant can hold to anything", Next: "ask the platform team for a role of its own"}
	}
	if rows[0][1] != "f" && !a.options.CreateRole {
		return &session.Denied{Reason: a.name + " may make roles at " + a.target + ", and the policy does not say so", Next: "ask the platform team"}
	}
	for _, member := range strings.Split(rows[0][2], ",") {
		if member != "" && !contains(a.options.Members, member) {
			return &session.Denied{Reason: fmt.Sprintf("%s is a member of the role %s at %s, and the policy does not list that", a.name, strconv.Quote(member), a.target), Next: "ask the platform team"}
		}
	}
	for i, to := range []*int64{&s.backend.pid, &s.backend.since} {
		if *to, err = strconv.ParseInt(rows[0][3+i], 10, 64); err != nil {
			return whyNot(ctx, a.target, fmt.Errorf("look at the backend: %w", err))
		}
	}
	return nil
}

func contains(list []string, s string) bool {
	for _, v := range list {
		if v == s {
			return true
		}
	}
	return false
}

// whyNot makes the user's sentence from what went wrong at the target. What the
// target says of its own set-up (class 28: users, hosts, pg_hba.conf) is for the log.
func whyNot(ctx context.Context, target string, err error) error {
	var ended *session.Ended
	if errors.As(context.Cause(ctx), &ended) {
		return ended
	}
	if _, ours := session.Message(err); ours && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
		return err
	}
	var said *targetError
	var timeout net.Error
	var stranger *tls.CertificateVerificationError
	switch {
	case errors.As(err, &stranger):
		return &session.Failed{Say: "the target " + target + " does not show the certificate that the policy asks for; ask the platform team", Err: err}
	case errors.As(err, &said) && strings.HasPrefix(said.state, "28"):
		return &session.Failed{Say: "the target " + target + " does not take the gate's credential; ask the platform team", Err: err}
	case errors.As(err, &said):
		return &session.Failed{Say: "the target " + target + " refuses the connection: " + printable(said.Error()), Err: err}
	case ctx.Err() != nil, errors.As(err, &timeout) && timeout.Timeout():
		return &session.Failed{Say: "the target " + target + " did not answer in time; try again, or ask the platform team", Err: err}
	}
	return &session.Failed{Say: "the connection to the target " + target + " failed; ask the platform team", Err: err}
}

// printable keeps a target's words from drawing on a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || (r >= 0x7f && r < 0xa0) {
			return ' '
		}
		return r
	}, s)
}
