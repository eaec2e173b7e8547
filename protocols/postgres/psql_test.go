package postgres

import (
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/gatetest"
	"github.com/sallyport/sallyport/session"
)

func TestHeldThenApprovedThenForwarded(t *testing.T) {
	r := newRig(t, rigOptions{})
	alice, bob := r.SignIn(t, gatetest.Alice), r.SignIn(t, gatetest.Bob)
	p := r.psql(t, r.dsn(nil, "user=reader dbname=orders"), "-At", "-c", "select 'rows: ' || count(*) from customers")
	r.confirm(t, p, alice, "stuck order")
	p.see(t, `NOTICE:  sallyport: signed in as alice@example.com; waiting for`)
	if n := r.backends(t, "reader", ""); n > 0 {
		t.Fatalf("%d backends before the yes", n)
	}
	r.approve(t, bob)
	if err := p.wait(t); err != nil {
		t.Fatalf("%v\n%s", err, p.out)
	}
	if out := p.out.String(); !strings.Contains(out, "rows: 1000") || !strings.Contains(out, "NOTICE:  sallyport: approved by bob@example.com") {
		t.Fatalf("psql printed:\n%s", out)
	}
	r.ended(t, alice)
	r.Verify(t)
}

func TestDeniedInOurWords(t *testing.T) {
	r := newRig(t, rigOptions{})
	alice, bob := r.SignIn(t, gatetest.Alice), r.SignIn(t, gatetest.Bob)
	p := r.psql(t, r.dsn(nil, "user=reader dbname=orders"), "-c", "select 1")
	r.confirm(t, p, alice, "curious")
	request := r.inbox(t, bob)
	if _, err := r.Decide(t.Context(), bob, request.ID, session.Verdict{Word: "not today"}); err != nil {
		t.Fatal(err)
	}
	if err := p.wait(t); err == nil {
		t.Fatal("psql succeeded")
	}
	p.see(t, `FATAL:  sallyport: .*denied.*`)
}

func TestHangUpWithdraws(t *testing.T) {
	r := newRig(t, rigOptions{})
	alice, bob := r.SignIn(t, gatetest.Alice), r.SignIn(t, gatetest.Bob)
	p := r.psql(t, r.dsn(nil, "user=reader dbname=orders"), "-c", "select 1")
	r.confirm(t, p, alice, "stuck order")
	request := r.inbox(t, bob)
	if err := p.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool {
		now, err := r.Request(t.Context(), alice, request.ID)
		return err == nil && now.State == session.RequestWithdrawn
	}, func() string { return "the request was not withdrawn\n" + r.log.String() })
}

func TestTokenOpensUnderItsGrant(t *testing.T) {
	r := newRig(t, rigOptions{})
	alice := r.SignIn(t, gatetest.Alice)
	request, err := r.Ask(t.Context(), alice, loopback, session.NewRequest{Target: "orders", Role: "writer"})
	if err != nil {
		t.Fatal(err)
	}
	token, _, err := r.GrantToken(t.Context(), alice, request.Grant)
	if err != nil {
		t.Fatal(err)
	}
	dsn := r.dsn(nil, "user=writer+token dbname=orders password="+token.Reveal())
	if out, err := r.run(t, dsn, "-At", "-c", "select current_user"); err != nil || out != "writer\n" {
		t.Fatalf("%v\n%s", err, out)
	}
	wrong, _ := identity.NewToken(identity.ForGrant)
	out, err := r.run(t, r.dsn(nil, "user=writer+token dbname=orders password="+wrong.Reveal()), "-c", "select 1")
	if err == nil || !strings.Contains(out, "FATAL:  sallyport: that token is not valid") {
		t.Fatalf("%v\n%s", err, out)
	}
	if strings.Contains(r.log.String(), token.Reveal()) || strings.Contains(r.log.String(), wrong.Reveal()) {
		t.Fatal("a token is in the log")
	}
}

func TestTokenIsNotAskedForInPlaintext(t *testing.T) {
	r := newRig(t, rigOptions{plaintext: true})
	out, err := r.run(t, "host=127.0.0.1 port="+r.port+" sslmode=disable user=writer+token dbname=orders password=spg_x", "-c", "select 1")
	if err == nil || !strings.Contains(out, "a token is never asked for without TLS") {
		t.Fatalf("%v\n%s", err, out)
	}
}

func TestPlaintextIsRefusedWhereConfigDoesNotSaySo(t *testing.T) {
	r := newRig(t, rigOptions{})
	out, err := r.run(t, "host=127.0.0.1 port="+r.port+" sslmode=disable user=writer dbname=orders", "-c", "select 1")
	if err == nil || !strings.Contains(out, "FATAL:  sallyport: this gate takes connections with TLS only; set sslmode=verify-full") {
		t.Fatalf("%v\n%s", err, out)
	}
}

func TestPlaintextListenerHolds(t *testing.T) {
	r := newRig(t, rigOptions{noTLS: true})
	alice, bob := r.SignIn(t, gatetest.Alice), r.SignIn(t, gatetest.Bob)
	p := r.psql(t, "host=127.0.0.1 port="+r.port+" sslmode=prefer user=reader dbname=orders", "-At", "-c", "select 42 * 2")
	r.confirm(t, p, alice, "plain")
	r.approve(t, bob)
	if err := p.wait(t); err != nil {
		t.Fatal(err)
	}
	p.see(t, `(?m)^84$`)
}

func TestBadCertificateGetsOurWords(t *testing.T) {
	r, other := newRig(t, rigOptions{}), newRig(t, rigOptions{})
	stranger := other.person(t, gatetest.Alice)
	out, err := r.run(t, r.dsn(&stranger, "user=writer dbname=orders"), "-c", "select 1")
	if err == nil || !strings.Contains(out, "FATAL:  sallyport: your client certificate is not valid here") {
		t.Fatalf("%v\n%s", err, out)
	}
}

func TestTargetIsNamed(t *testing.T) {
	r := newRig(t, rigOptions{})
	alice := r.person(t, gatetest.Alice)
	for _, c := range []struct{ dsn, want string }{
		{"user=writer", `no target is named; type: psql "host=... user=writer dbname=TARGET"`},
		{"user=writer dbname=orders/", "dbname is TARGET or TARGET/DATABASE"},
		{"user=writer dbname=nowhere", "nowhere"},
		{"user=writer dbname=orders replication=database", "replication connections do not pass this gate"},
		{"user=writer dbname=orders options='-c role=boss'", "role cannot be set on the way in"},
		{"user=writer dbname=orders options='-c Session-Authorization=boss'", "session_authorization cannot be set on the way in"},
		{"user=writer dbname=orders options='-d 5'", `"-d" in options does not pass this gate`},
		{"user=writer dbname=orders options='-c sallyport.reasn=x'", "there is no setting \"sallyport.reasn\""},
		{"user=writer+oauth dbname=orders", "does not take OAUTHBEARER yet"},
		{"user=reader dbname=orders options='-c sallyport.wait=0 -c sallyport.reason=INC-1'", "waits for"},
	} {
		out, err := r.run(t, r.dsn(&alice, c.dsn), "-c", "select 1")
		if err == nil || !strings.Contains(out, "FATAL:  sallyport: ") || !strings.Contains(out, c.want) {
			t.Errorf("%s: %v\n%s", c.dsn, err, out)
		}
	}
}

func TestOptionsGoOnWithoutOurs(t *testing.T) {
	r := newRig(t, rigOptions{})
	alice := r.person(t, gatetest.Alice)
	dsn := r.dsn(&alice, `user=writer dbname=orders application_name=tool options='-c statement_timeout=7s -c sallyport.reason=INC-42\\ stuck --work-mem=5MB'`)
	out, err := r.run(t, dsn, "-At", "-c", "select current_setting('statement_timeout'), current_setting('work_mem'), current_setting('application_name')")
	if err != nil || out != "7s|5MB|tool\n" {
		t.Fatalf("%v\n%s", err, out)
	}
	found, err := r.Grants(t.Context(), alice.signIn, session.Filter{})
	if err != nil || len(found) != 1 || found[0].Reason != "INC-42 stuck" {
		t.Fatalf("%+v, %v", found, err)
	}
}

func TestEveryLoginMethod(t *testing.T) {
	r := newRig(t, rigOptions{})
	alice := r.person(t, gatetest.Alice)
	for _, c := range []struct{ role, target, user string }{
		{"writer", "orders", "writer"},       // SCRAM-SHA-256-PLUS
		{"plain", "orders", "plain"},         // password
		{"md5er", "orders", "md5er"},         // md5
		{"certified", "orders", "certified"}, // client certificate
		{"trusted", "orders", "trusted"},     // trust
		{"loose", "loopback", "loose"},       // SCRAM-SHA-256 without TLS
		{"writer", "local", "writer"},        // unix socket
		{"listed", "orders", "member"},       // a membership that the policy lists
	} {
		out, err := r.run(t, r.dsn(&alice, "user="+c.role+" dbname="+c.target), "-At", "-c", "select session_user")
		if err != nil || out != c.user+"\n" {
			t.Errorf("%s at %s: %v\n%s\n%s", c.role, c.target, err, out, r.log)
		}
	}
	if !strings.Contains(r.log.String(), "which a session of it could replace by ALTER ROLE") {
		t.Error("nothing is said of a password that a session could replace")
	}
	if strings.Contains(r.log.String(), "pencil") {
		t.Error("a password is in the log")
	}
}

func TestLoginsThatAreRefused(t *testing.T) {
	r := newRig(t, rigOptions{})
	alice := r.person(t, gatetest.Alice)
	for _, c := range []struct{ role, target, want string }{
		{"boss", "orders", "boss is a superuser of orders"},
		{"maker", "orders", "maker may make roles at orders, and the policy does not say so"},
		{"member", "orders", `member is a member of the role "auditors" at orders, and the policy does not list that`},
		{"wrong", "orders", "the target orders does not take the gate's credential"},
		{"nosuch", "orders", "the target orders does not take the gate's credential"},
		{"nocred", "orders", "the connection to the target orders failed"},
		{"writer", "loopback", "the target loopback does not take the gate's credential"}, // pg_hba wants TLS
		{"writer", "stranger", "the target stranger does not show the certificate"},       // its CA is not the system's
		{"writer", "absent", "the target absent cannot be reached now"},
	} {
		out, err := r.run(t, r.dsn(&alice, "user="+c.role+" dbname="+c.target), "-c", "select 1")
		if err == nil || !strings.Contains(out, "FATAL:  sallyport: "+c.want) || strings.Contains(out, r.pg.Socket) {
			t.Errorf("%s at %s: %v\n%s", c.role, c.target, err, out)
		}
	}
}

func TestAnotherDatabaseOfTheTarget(t *testing.T) {
	r := newRig(t, rigOptions{})
	alice, bob := r.person(t, gatetest.Alice), r.SignIn(t, gatetest.Bob)
	dsn := r.dsn(&alice, "user=reader dbname=orders/analytics options='-c sallyport.reason=look'")
	p := r.psql(t, dsn, "-At", "-c", "select current_database()")
	p.see(t, "waiting for")
	if request := r.approve(t, bob); request.Input.Object != "analytics" {
		t.Fatalf("%+v", request.Input)
	}
	if err := p.wait(t); err != nil {
		t.Fatalf("%v\n%s", err, p.out)
	}
	p.see(t, `(?m)^analytics$`)
}

func TestTrafficPassesUnchanged(t *testing.T) {
	r := newRig(t, rigOptions{})
	alice := r.person(t, gatetest.Alice)
	dsn := r.dsn(&alice, "user=writer dbname=orders")
	script := `
\set ON_ERROR_STOP 0
create temp table t (a int, b text);
insert into t select g, repeat('x', g % 100) from generate_series(1, 100000) g;
copy t to '/dev/null';
\copy t to program 'md5sum' with csv
select count(*) from t where a > $1 \bind 50000 \g
begin; declare c cursor for select * from t; fetch 3 from c; commit;
listen news;
notify news, 'hello';
select lo_create(0) > 0;
do $$ begin raise notice 'from the target'; end $$;
select 1/0;
select repeat('long ', 20000) = repeat('long ', 20000) as "long";
\echo done
`
	script = strings.ReplaceAll(script, `select count(*) from t where a > $1 \bind 50000 \g`, "select count(*) from t where a > 50000;")
	file := t.TempDir() + "/script.sql"
	if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	through, err := r.run(t, dsn, "-f", file)
	if err != nil {
		t.Fatal(err)
	}
	direct, err := r.run(t, "host="+r.pg.Host+" port="+portOf(r.pg.Port)+" user=writer dbname=orders sslmode=require password='pencil sharpener, 42'", "-f", file)
	if err != nil {
		t.Fatal(err)
	}
	strip := func(s string) string { return pidOf.ReplaceAllString(s, "PID") }
	if strip(through) != strip(direct) {
		t.Fatalf("through the gate:\n%s\ndirect:\n%s", through, direct)
	}
	r.ended(t, alice.signIn)
	lines := r.recording(t)
	var sqls []string
	for _, line := range lines {
		if q, ok := line.Track.(audit.Query); ok {
			sqls = append(sqls, q.SQL)
		}
	}
	if all := strings.Join(sqls, "\n"); !strings.Contains(all, "insert into t select g") || !strings.Contains(all, "notify news, 'hello'") {
		t.Fatalf("recorded:\n%s", all)
	}
	r.Verify(t)
}
