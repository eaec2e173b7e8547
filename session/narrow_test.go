package session_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/gatetest"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/session"
)

// withChannels is a gate whose targets have the sub-channels of SSH.
func withChannels(t *testing.T, scope string) *gatetest.Fixture {
	t.Helper()
	rules := strings.ReplaceAll(gatetest.Rules, `reason  = "required"`, "reason  = \"required\"\n "+scope)
	return gatetest.New(t, gatetest.Options{Rules: rules, Scopes: map[string][]string{"postgres": {"databases", "channels", "forward", "read_only"}}})
}

const shellOrCopy = "scope {\n channels = [\"shell\", \"sftp\", \"forward\"]\n forward = [\"db:5432\", \"cache:6379\"]\n }"

// What somebody who says yes leaves out is not in the grant, nor for the next connection.
func TestYesToLess(t *testing.T) {
	f := withChannels(t, shellOrCopy)
	alice, bob := f.SignIn(t, gatetest.Alice), f.SignIn(t, gatetest.Bob)
	r := asked(t, f, alice, "reader")
	want := policy.Scope{Channels: []string{"shell", "sftp", "forward"}, Forward: []string{"db:5432", "cache:6379"}, ReadOnly: true}
	if got := f.Narrowable(r); !reflect.DeepEqual(got, want) {
		t.Errorf("to be narrowed: %+v, want %+v", got, want)
	}
	_, err := f.Decide(t.Context(), bob, r.ID, session.Verdict{Yes: true, Scope: policy.Scope{Channels: []string{"sftp", "exec"}}})
	wantSays(t, err, "may narrow, never widen: of channels there is shell, sftp, forward, and not exec")
	now, err := f.Decide(t.Context(), bob, r.ID, session.Verdict{Yes: true, Scope: policy.Scope{Channels: []string{"sftp"}}})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(now.Outcome, "channels sftp") || strings.Contains(now.Outcome, "shell") {
		t.Errorf("the outcome is %q", now.Outcome)
	}
	gr, err := f.Grant(t.Context(), alice, now.Grant)
	if err != nil || !reflect.DeepEqual(gr.Scope.Channels, []string{"sftp"}) {
		t.Fatalf("the grant has %+v, %v", gr.Scope, err)
	}
	c := connect(t, f, ask("reader"))
	c.confirm(alice, "")
	if got := c.session().Grant().Scope.Channels; !reflect.DeepEqual(got, []string{"sftp"}) {
		t.Errorf("the next connection has the channels %q", got)
	}
	// Asked for again, it goes to people: what there is is less than the rule gives.
	if again := asked(t, f, alice, "reader"); again.State != session.RequestPending {
		t.Errorf("asking for the rest comes out %s", again.State)
	}
}

// Of two yeses each may leave something out. What they have in common is given, and a
// yes that leaves nothing is refused.
func TestTwoYesesHaveToHaveSomethingInCommon(t *testing.T) {
	f := withChannels(t, shellOrCopy)
	alice, bob, carol := f.SignIn(t, gatetest.Alice), f.SignIn(t, gatetest.Bob), f.SignIn(t, gatetest.Carol)
	r := asked(t, f, alice, "writer")
	only := func(channels ...string) session.Verdict {
		return session.Verdict{Yes: true, Scope: policy.Scope{Channels: channels}}
	}
	r, err := f.Decide(t.Context(), bob, r.ID, only("shell", "sftp"))
	if err != nil {
		t.Fatal(err)
	}
	if got := f.Narrowable(r).Channels; !reflect.DeepEqual(got, []string{"shell", "sftp"}) {
		t.Errorf("after bob's yes there is %q to leave out", got)
	}
	_, err = f.Decide(t.Context(), carol, r.ID, only("forward"))
	wantSays(t, err, "of the channels nothing would be left")
	if r, err = f.Decide(t.Context(), carol, r.ID, only("sftp", "forward")); err != nil {
		t.Fatal(err)
	}
	gr, err := f.Grant(t.Context(), alice, r.Grant)
	if err != nil || !reflect.DeepEqual(gr.Scope.Channels, []string{"sftp"}) {
		t.Errorf("both gave %+v, %v", gr.Scope, err)
	}
}

// A grant is for the one database that was asked for, whatever the rule has beside it.
func TestGrantNamesItsOwnDatabase(t *testing.T) {
	f := withChannels(t, "scope { databases = [\"stock\", \"pay\"] }")
	alice, bob := f.SignIn(t, gatetest.Alice), f.SignIn(t, gatetest.Bob)
	r, err := f.Ask(t.Context(), alice, here, session.NewRequest{Target: "orders", Role: "reader", Object: "stock", Reason: "INC-1"})
	if err != nil {
		t.Fatal(err)
	}
	if got := r.Gives().Databases; !reflect.DeepEqual(got, []string{"stock"}) {
		t.Errorf("a yes would open %q", got)
	}
	if r, err = f.Decide(t.Context(), bob, r.ID, yes); err != nil {
		t.Fatal(err)
	}
	gr, err := f.Grant(t.Context(), alice, r.Grant)
	if err != nil || !reflect.DeepEqual(gr.Scope.Databases, []string{"stock"}) {
		t.Errorf("the grant has %+v, %v", gr.Scope, err)
	}
	if again, err := f.Ask(t.Context(), alice, here, session.NewRequest{Target: "orders", Role: "reader", Object: "stock", Reason: "INC-1"}); err != nil || again.ID != r.ID {
		t.Errorf("the grant does not serve its own database: %v", err)
	}
}
