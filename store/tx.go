package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/mattn/go-sqlite3"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/session"
)

type querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// tx satisfies session.Tx inside one call of Update or View, and is useless after.
type tx struct {
	ctx     context.Context //nolint:containedctx // lives no longer than the one call that made it
	q       querier
	encode  Encoder // nil in a View
	counter uint64
}

func (t *tx) Log(e audit.Event) error {
	if t.encode == nil {
		return errors.New("store: a view cannot log")
	}
	p, err := t.encode.Encode(e, t.counter+1)
	if err != nil {
		return fmt.Errorf("encode %s: %w", e.Type, err)
	}
	if err := t.save("INSERT INTO outbox (counter, leaf, body) VALUES (?, ?, ?)", p.Counter, p.Leaf, p.Body); err != nil {
		return err
	}
	t.counter = p.Counter
	return nil
}

func (t *tx) Request(id string) (session.Request, error) {
	return one[session.Request](t, "SELECT data FROM requests WHERE id = ?", id)
}

func (t *tx) Requests(f session.Filter) ([]session.Request, error) {
	return many[session.Request](t, "requests", f)
}

func (t *tx) SaveRequest(r session.Request) error {
	r.Waiting = false // true of a moment, not of the row
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	in := r.Input
	return t.save(`INSERT INTO requests (id, state, user, sign_in, target, role, object, created, data) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET state = excluded.state, user = excluded.user, target = excluded.target, role = excluded.role,
		object = excluded.object, data = excluded.data`,
		r.ID, string(r.State), r.User.ID(), r.SignIn, in.Target, in.Role, in.Object, r.Created.UnixNano(), string(data))
}

func (t *tx) Grant(id string) (session.Grant, error) {
	return one[session.Grant](t, "SELECT data FROM grants WHERE id = ?", id)
}

func (t *tx) Grants(f session.Filter) ([]session.Grant, error) {
	return many[session.Grant](t, "grants", f)
}

func (t *tx) SaveGrant(g session.Grant) error {
	data, err := json.Marshal(g)
	if err != nil {
		return err
	}
	return t.save(`INSERT INTO grants (id, state, user, sign_in, target, role, object, request, ends, created, data) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET state = excluded.state, user = excluded.user, target = excluded.target, role = excluded.role,
		object = excluded.object, request = excluded.request, ends = excluded.ends, data = excluded.data`,
		g.ID, string(g.State), g.Key.User, g.SignIn, g.Key.Target, g.Key.Role, g.Key.Object, g.Request, g.Ends.UnixNano(), g.Starts.UnixNano(), string(data))
}

func (t *tx) Review(id string) (session.Review, error) {
	return one[session.Review](t, "SELECT data FROM reviews WHERE id = ?", id)
}

func (t *tx) Reviews(f session.Filter) ([]session.Review, error) {
	return many[session.Review](t, "reviews", f)
}

func (t *tx) SaveReview(r session.Review) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return t.save(`INSERT INTO reviews (id, state, user, target, role, object, created, data) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET state = excluded.state, user = excluded.user, target = excluded.target, data = excluded.data`,
		r.ID, r.State, r.Key.User, r.Key.Target, r.Key.Role, r.Key.Object, r.Opened.UnixNano(), string(data))
}

func (t *tx) Session(id string) (session.Record, error) {
	return one[session.Record](t, "SELECT data FROM sessions WHERE id = ?", id)
}

func (t *tx) Sessions(f session.Filter) ([]session.Record, error) {
	return many[session.Record](t, "sessions", f)
}

func (t *tx) SaveSession(r session.Record) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	state := "ended"
	if r.Live {
		state = "live"
	}
	return t.save(`INSERT INTO sessions (id, state, user, target, role, object, grant_id, created, data) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET state = excluded.state, user = excluded.user, target = excluded.target, role = excluded.role,
		object = excluded.object, grant_id = excluded.grant_id, data = excluded.data`,
		r.ID, state, r.Key.User, r.Key.Target, r.Key.Role, r.Key.Object, r.Grant, r.Started.UnixNano(), string(data))
}

func (t *tx) SignIn(id string) (identity.SignIn, error) {
	return one[identity.SignIn](t, "SELECT data FROM sign_ins WHERE id = ?", id)
}

func (t *tx) SignInByCookie(hash [32]byte) (identity.SignIn, error) {
	return one[identity.SignIn](t, "SELECT data FROM sign_ins WHERE cookie = ?", hash[:])
}

func (t *tx) SignIns(f session.Filter) ([]identity.SignIn, error) {
	return many[identity.SignIn](t, "sign_ins", f)
}

func (t *tx) SaveSignIn(s identity.SignIn) error {
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	state := "ended"
	if s.Ended.IsZero() {
		state = "standing"
	}
	cookie := s.Cookie[:]
	if s.Cookie == [32]byte{} {
		cookie = []byte{}
	}
	return t.save(`INSERT INTO sign_ins (id, state, user, cookie, created, data) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET state = excluded.state, user = excluded.user, cookie = excluded.cookie, data = excluded.data`,
		s.ID, state, s.User.ID(), cookie, s.Created.UnixNano(), string(data))
}

func (t *tx) Token(hash [32]byte) (identity.TokenRecord, error) {
	return one[identity.TokenRecord](t, "SELECT data FROM tokens WHERE hash = ?", hash[:])
}

func (t *tx) SaveToken(r identity.TokenRecord) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return t.save(`INSERT INTO tokens (id, hash, created, data) VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET data = excluded.data`,
		r.ID, r.Hash[:], r.Created.UnixNano(), string(data))
}

func (t *tx) Account(userID string) (identity.Account, error) {
	return one[identity.Account](t, "SELECT data FROM accounts WHERE user = ?", userID)
}

func (t *tx) Accounts() ([]identity.Account, error) {
	return all[identity.Account](t, "SELECT data FROM accounts ORDER BY user")
}

func (t *tx) SaveAccount(a identity.Account) error {
	data, err := json.Marshal(a)
	if err != nil {
		return err
	}
	return t.save(`INSERT INTO accounts (user, data) VALUES (?, ?) ON CONFLICT (user) DO UPDATE SET data = excluded.data`, a.User.ID(), string(data))
}

func (t *tx) save(query string, args ...any) error {
	_, err := t.q.ExecContext(t.ctx, query, args...)
	var e sqlite3.Error
	if errors.As(err, &e) && e.ExtendedCode == sqlite3.ErrConstraintTrigger {
		return fmt.Errorf("%w: %s", ErrTransition, strings.TrimPrefix(e.Error(), "transition: "))
	}
	return err
}

func one[T any](t *tx, query string, args ...any) (T, error) {
	var row T
	var data string
	err := t.q.QueryRowContext(t.ctx, query, args...).Scan(&data)
	if errors.Is(err, sql.ErrNoRows) {
		return row, session.ErrNotFound
	}
	if err != nil {
		return row, fmt.Errorf("store: %w", err)
	}
	return row, json.Unmarshal([]byte(data), &row)
}

func all[T any](t *tx, query string, args ...any) ([]T, error) {
	rows, err := t.q.QueryContext(t.ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	defer rows.Close() //nolint:errcheck // rows.Err tells
	var out []T
	for rows.Next() {
		var data string
		if err := rows.Scan(&data); err != nil {
			return nil, fmt.Errorf("store: %w", err)
		}
		var row T
		if err := json.Unmarshal([]byte(data), &row); err != nil {
			return nil, fmt.Errorf("store: %w", err)
		}
		out = append(out, row)
	}
	return out, rows.Err()
}

// many selects the rows of a table that the filter names, newest first.
func many[T any](t *tx, table string, f session.Filter) ([]T, error) {
	var where []string
	var args []any
	and := func(clause string, value any, given bool) {
		if given {
			where, args = append(where, clause), append(args, value)
		}
	}
	and("state = ?", f.State, f.State != "")
	and("user = ?", f.User, f.User != "")
	and("target = ?", f.Target, f.Target != "")
	and("role = ?", f.Role, f.Role != "")
	if f.Object != nil {
		and("object = ?", *f.Object, true)
	}
	and("grant_id = ?", f.Grant, f.Grant != "")
	and("sign_in = ?", f.SignIn, f.SignIn != "")
	if at := f.Before.Created.UnixNano(); !f.Before.Created.IsZero() {
		where, args = append(where, "(created < ? OR created = ? AND id > ? AND ? <> '')"), append(args, at, at, f.Before.ID, f.Before.ID)
	}
	and("created >= ?", f.Since.UnixNano(), !f.Since.IsZero())
	query := "SELECT data FROM " + table
	if len(where) > 0 {
		query += " WHERE " + strings.Join(where, " AND ")
	}
	query += " ORDER BY created DESC, id"
	if f.Limit > 0 {
		query += fmt.Sprintf(" LIMIT %d", f.Limit)
	}
	return all[T](t, query, args...)
}
