package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// What newer clients speak: protocol 3.2, whose cancel keys are longer, and TLS from the
// first byte; each with the other and with the older way.
func TestNewerClients(t *testing.T) {
	d := sharedDemo(t)
	d.asked(t, "reader", "10m", "bob@example.com")
	token := d.token(t)
	for _, c := range []struct {
		more string
		key  int // bytes of a cancel key
	}{
		{"", 4},
		{"max_protocol_version=3.0", 4},
		{"max_protocol_version=3.2", 32},
		{"max_protocol_version=latest min_protocol_version=3.2", 32},
		{"sslnegotiation=direct", 4},
		{"sslnegotiation=direct max_protocol_version=3.2", 32},
	} {
		config, err := pgconn.ParseConfig(d.conninfo(t, "reader+token") + " " + c.more)
		if err != nil {
			t.Fatalf("%s: %v", c.more, err)
		}
		config.Password = token
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		conn, err := pgconn.ConnectConfig(ctx, config)
		if err != nil {
			t.Errorf("%s: %v", c.more, err)
			continue
		}
		if got := len(conn.SecretKey()); got != c.key {
			t.Errorf("%s: a cancel key of %d bytes, want %d", c.more, got, c.key)
		}
		rows, err := conn.Exec(ctx, "SELECT count(*) FROM orders").ReadAll()
		if err != nil || string(rows[0].Rows[0][0]) != "500" {
			t.Errorf("%s: %v, %v", c.more, rows, err)
		}
		begun := time.Now()
		time.AfterFunc(200*time.Millisecond, func() { _ = conn.CancelRequest(ctx) })
		if _, err := conn.Exec(ctx, "SELECT pg_sleep(60)").ReadAll(); err == nil || !strings.Contains(err.Error(), "57014") || time.Since(begun) > 20*time.Second {
			t.Errorf("%s: cancelled after %v: %v", c.more, time.Since(begun), err)
		}
		if err := conn.Close(ctx); err != nil {
			t.Errorf("%s: %v", c.more, err)
		}
	}
}
