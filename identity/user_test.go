package identity

import "testing"

// Approvals are counted by person, so two accounts of one must be seen to be one.
func TestAccountsOfOnePersonAreOne(t *testing.T) {
	one := User{Issuer: "https://idp.example.com", Subject: "alice", Person: "4711", Kind: Person}
	two := User{Issuer: "https://other.example.com", Subject: "a.smith", Person: "4711", Kind: Person}
	if !one.Same(two) || one.PersonID() != two.PersonID() {
		t.Errorf("%s and %s are one person", one.PersonID(), two.PersonID())
	}
	two.Person = "4712"
	if one.Same(two) || one.PersonID() == two.PersonID() {
		t.Errorf("%s and %s are two people", one.PersonID(), two.PersonID())
	}
	changed := one // the claim was mapped later, or its value changed
	changed.Person = ""
	if !one.Same(changed) {
		t.Error("one account is two people")
	}
}
