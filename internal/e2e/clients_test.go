package e2e

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sallyport/sallyport/session"
)

// asked makes a grant without a connection: asked on the API, approved by bob.
func (d *demo) asked(t *testing.T, role, lasts string, approvers ...string) session.Grant {
	t.Helper()
	alice := d.signedIn(t, "alice@example.com")
	status, text := alice.api(t, http.MethodPost, "/api/v1/requests", map[string]string{"target": "orders", "role": role, "reason": "INC-7", "duration": lasts})
	if status/100 != 2 {
		t.Fatalf("ask: %d %s", status, text)
	}
	id := must[session.Request](t, text).ID
	for _, email := range approvers {
		if status, text := d.signedIn(t, email).api(t, http.MethodPost, "/api/v1/requests/"+id+"/approve", nil); status != http.StatusOK {
			t.Fatalf("%s approves: %d %s", email, status, text)
		}
	}
	return d.activeGrant(t)
}

func TestPythonClient(t *testing.T) {
	d := sharedDemo(t)
	d.asked(t, "reader", "5m", "bob@example.com")
	const program = `
import os, psycopg2
conn = psycopg2.connect(os.environ["CONNINFO"])
with conn, conn.cursor() as cur:
    cur.execute("SELECT count(*) FROM orders WHERE quantity > %s", (0,))
    print("rows", cur.fetchone()[0])
with conn, conn.cursor("server_side") as cur:
    cur.execute("SELECT id FROM orders ORDER BY id")
    print("cursor", sum(1 for _ in cur))
print("notices", conn.notices)
`
	shown, err := start(t, []string{"CONNINFO=" + d.conninfo(t, "reader+token"), "PGPASSWORD=" + d.token(t)}, "/usr/bin/python3", "-c", program).ends(t)
	if err != nil || !strings.Contains(shown, "rows 500") || !strings.Contains(shown, "cursor 500") {
		t.Fatalf("(%v) it shows:\n%s", err, shown)
	}
}

func TestPgxClient(t *testing.T) {
	d := sharedDemo(t)
	d.asked(t, "writer", "5m", "bob@example.com", "carol@example.com")
	config, err := pgconn.ParseConfig(d.conninfo(t, "writer+token"))
	if err != nil {
		t.Fatal(err)
	}
	config.Password = d.token(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	result := conn.ExecParams(ctx, "UPDATE orders SET state = 'paid' WHERE state = $1", [][]byte{[]byte("stuck")}, nil, nil, nil).Read()
	if result.Err != nil || result.CommandTag.RowsAffected() == 0 {
		t.Errorf("update: %v, %v", result.CommandTag, result.Err)
	}
	pipeline := conn.StartPipeline(ctx)
	for range 3 {
		pipeline.SendQueryParams("SELECT $1::int + 1", [][]byte{[]byte("41")}, nil, nil, nil)
	}
	if err := pipeline.Sync(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		results, err := pipeline.GetResults()
		if err != nil {
			t.Fatal(err)
		}
		if read := results.(*pgconn.ResultReader).Read(); read.Err != nil || string(read.Rows[0][0]) != "42" {
			t.Errorf("pipeline: %+v", read)
		}
	}
	if err := pipeline.Close(); err != nil {
		t.Error(err)
	}
	n, err := conn.CopyTo(ctx, new(strings.Builder), "COPY orders TO STDOUT")
	if err != nil || n.RowsAffected() != 500 {
		t.Errorf("copy: %v, %v", n, err)
	}
}

// A program that cannot wait is told at once which request it made; the same
// connection after the yes goes straight through.
func TestProgramThatCannotWait(t *testing.T) {
	d := sharedDemo(t)
	home := d.login(t, "alice@example.com")
	env := []string{"PGSSLCERT=" + home + "/client.crt", "PGSSLKEY=" + home + "/client.key", "PGOPTIONS=-c sallyport.wait=0 -c sallyport.reason=INC-9"}
	shown, err := d.psql(t, "reader", env, "-c", "SELECT 'through'").ends(t)
	bob := d.signedIn(t, "bob@example.com")
	r := bob.pending(t, "alice@example.com")
	if err == nil || !strings.Contains(shown, r.ID) || !strings.Contains(shown, "connect again after the yes") {
		t.Fatalf("wait=0 (%v) shows:\n%s", err, shown)
	}
	bob.decide(t, r.ID, "yes", nil)
	if shown, err := d.psql(t, "reader", env, "-c", "SELECT 'through'").ends(t); err != nil || !strings.Contains(shown, "through") {
		t.Fatalf("after the yes (%v) it shows:\n%s", err, shown)
	}
}
