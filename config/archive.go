package config

import (
	"net/url"
	"slices"
	"time"

	"github.com/hashicorp/hcl/v2"
)

// Archive is a policy that is fetched. Policy.Dir is then the gate's own copy of the last
// one that it took, and what is in there beside it is lost.
type Archive struct {
	// URL is a gzipped tar over https, as git hosts make one of a branch.
	URL string `hcl:"url"`

	// Every is how often it is asked for. Default "5m". Longer, and somebody whom a new
	// release shuts out stays in for longer; SIGHUP asks at once.
	Every string `hcl:"every,optional"`

	// CA is a PEM file of the CA that the server is verified with. Default: the system's.
	CA string `hcl:"ca,optional"`

	// Credential names a credential that is sent as a bearer. Default: none.
	Credential string `hcl:"credential,optional"`

	// EveryTime is Every, parsed.
	EveryTime time.Duration

	Body hcl.Body `hcl:",body"`
}

// Bounds of how often an archive is asked for.
const (
	defaultEvery  = 5 * time.Minute
	shortestEvery = 10 * time.Second
	longestEvery  = 24 * time.Hour
)

func (v *checker) archive(a *Archive) {
	u, err := url.Parse(a.URL)
	if a.URL != "" && (err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.Fragment != "") {
		v.bad(at(a.Body, "url"), "Not an archive", "Write https://..., without a password in it: credential is for that.")
	}
	if a.CA != "" {
		v.path(&a.CA)
		v.readable(a.CA, a.Body, "ca")
	}
	named := func(c Credential) bool { return c.Name == a.Credential }
	if a.Credential != "" && !slices.ContainsFunc(v.c.Credentials, named) {
		v.bad(at(a.Body, "credential"), "No such credential", "Add: credential %q { from = \"file:...\" }.", a.Credential)
	}
	a.EveryTime = defaultEvery
	if !written(a.Body, "every") {
		return
	}
	if a.EveryTime, err = time.ParseDuration(a.Every); err != nil || a.EveryTime < shortestEvery || a.EveryTime > longestEvery {
		v.bad(at(a.Body, "every"), "Not a duration here", "Write one like \"5m\", from %v to %v.", shortestEvery, longestEvery)
	}
}
