package postgres

import (
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/gatetest"
)

func TestHeldThenApprovedThenForwarded(t *testing.T) {
	r := newRig(t, rigOptions{})
	alice, bob := r.SignIn(t, gatetest.Alice), r.SignIn(t, gatetest.Bob)
	p := r.psql(t, r.dsn(nil, "user=reader dbname=orders"), "-At", "-c", "select 'rows: ' || count(*) from customers")
	r.confirm(t, p, alice, "stuck order")
	p.see(t, `NOTICE:  sallyport: signed in as alice@example.com; waiting for`)
	r.approve(t, bob)
	if err := p.wait(t); err != nil {
		t.Fatalf("%v\n%s", err, p.out)
	}
	if out := p.out.String(); !strings.Contains(out, "rows: 1000") || !strings.Contains(out, "approved by bob@example.com") {
		t.Fatalf("psql printed:\n%s", out)
	}
}

func TestCertificateOpensByRule(t *testing.T) {
	r := newRig(t, rigOptions{})
	alice := r.person(t, gatetest.Alice)
	out, err := r.run(t, r.dsn(&alice, "user=writer dbname=orders"), "-At", "-c", "select current_user, current_database()")
	if err != nil || out != "writer|orders\n" {
		t.Fatalf("%v\n%s\n%s", err, out, r.log)
	}
}
