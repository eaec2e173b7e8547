package session

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/spell"
	"github.com/sallyport/sallyport/policy"
)

func dba(name string) identity.User {
	return identity.User{Issuer: "i", Subject: name, Groups: []string{"dba"}, Kind: identity.Person}
}

func TestProgressCountsPeople(t *testing.T) {
	requester := dba("alice")
	two := []policy.Stage{{Count: 2, From: policy.People{Groups: []string{"dba"}}}}
	stages := []policy.Stage{{Count: 1, From: policy.People{Groups: []string{"dba"}}}, {Count: 1, From: policy.People{Groups: []string{"dba"}}}}
	say := func(people ...identity.User) (list []Approval) {
		for _, p := range people {
			list = append(list, Approval{By: p, Yes: true})
		}
		return list
	}
	joined := dba("bob2")
	joined.Person = "bob"
	bob := dba("bob")
	bob.Person = "bob"
	for _, trial := range []struct {
		name      string
		stages    []policy.Stage
		approvals []Approval
		stage     int
		missing   int
	}{
		{"nobody yet", two, nil, 0, 2},
		{"one person twice", two, say(dba("bob"), dba("bob")), 0, 1},
		{"two accounts of one person", two, say(bob, joined), 0, 1},
		{"the requester", two, say(requester, dba("bob")), 0, 1},
		{"two people", two, say(dba("bob"), dba("carol")), 1, 0},
		{"one person in two stages", stages, say(dba("bob")), 1, 1},
		{"a rule's word is no person's", two, []Approval{{Yes: true, Rule: "r", By: dba("bob")}, {Yes: true, By: dba("carol")}}, 0, 1},
		{"a no is no yes", two, []Approval{{By: dba("bob")}, {Yes: true, By: dba("carol")}}, 0, 1},
		{"somebody who is no dba", two, say(identity.User{Issuer: "i", Subject: "sam", Kind: identity.Person}, dba("carol")), 0, 1},
	} {
		t.Run(trial.name, func(t *testing.T) {
			if stage, missing := progress(trial.stages, requester, trial.approvals); stage != trial.stage || missing != trial.missing {
				t.Fatalf("stage %d, missing %d; want %d, %d", stage, missing, trial.stage, trial.missing)
			}
		})
	}
}

func TestPinnedTarget(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(der)
	state := tls.ConnectionState{PeerCertificates: []*x509.Certificate{{RawSubjectPublicKeyInfo: der}}}
	if err := pinned([]string{"sha256:00", "SHA256:" + strings.ToUpper(hex.EncodeToString(sum[:]))}, state); err != nil {
		t.Fatalf("the pinned key was refused: %v", err)
	}
	if err := pinned([]string{"sha256:" + strings.Repeat("0", 64)}, state); err == nil || !strings.Contains(err.Error(), "is not pinned") {
		t.Fatalf("another key: %v", err)
	}
}

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		30 * time.Minute: "30m", time.Hour: "1h", 90 * time.Minute: "1h30m", 45 * time.Second: "45s", 25 * time.Hour: "1d1h", 0: "0s", 400 * time.Millisecond: "0s",
	} {
		if got := spell.Short(d); got != want {
			t.Errorf("spell.Short(%s) = %q, want %q", d, got, want)
		}
	}
}
