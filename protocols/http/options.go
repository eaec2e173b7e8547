package http

import (
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/protocols/http/record"
	"github.com/sallyport/sallyport/proxy"
)

// targetOptions is the `options` block of a target in the signed policy.
type targetOptions struct {
	// Host is the name that browsers ask for, without a port: "app.gate.example.com".
	Host string `hcl:"host"`
	// Role is what is asked for where nothing says otherwise.
	Role string `hcl:"role,optional"`
	// Websocket lets websockets through, where the rule's scope does not forbid them.
	Websocket bool `hcl:"websocket,optional"`
	// Origins are other sites whose pages may send to this target, "https://other".
	Origins []string `hcl:"origins,optional"`
	// LoosePaths lets encoded slashes and empty segments through, for grants that are
	// not limited to paths.
	LoosePaths bool `hcl:"loose_paths,optional"`
	// Headers are plain headers about the caller beside the JWT: a header's name, and one
	// of user, email, name, groups, role.
	Headers map[string]string `hcl:"headers,optional"`
	// IdentityFor is how long one JWT about the caller serves the requests of a session, at
	// most "30s". Default: each request has its own, so that a target that has seen a jti
	// can refuse it.
	IdentityFor string `hcl:"identity_for,optional"`
	// HTTP2 speaks HTTP/2 to the target, which gRPC needs; without TLS by prior knowledge.
	// HTTP/1.1, the default, is faster for everything else.
	HTTP2 bool `hcl:"http2,optional"`
	// Record is what is recorded beside the request lines.
	Record *record.Options `hcl:"record,block"`
	// MaxBody is the most bytes of a request's body; default: no limit, because it is
	// never kept.
	MaxBody int64 `hcl:"max_body,optional"`
}

// roleOptions is the `options` block of a target's role in the signed policy.
type roleOptions struct {
	// Auth is how the credential is shown to the target: bearer, basic (the account is the
	// user), header, or certificate (PEM with key). Needed where there is a credential.
	Auth string `hcl:"auth,optional"`
	// Header is the name for auth = "header".
	Header string `hcl:"header,optional"`
}

// facts are what a plain header can say of the caller.
var facts = []string{"user", "email", "name", "groups", "role"}

// auths are the ways to show a credential.
var auths = []string{"bearer", "basic", "header", "certificate"}

// maxIdentityFor leaves a kept JWT half of its life.
const maxIdentityFor = jwtLife / 2

// identityFor reads IdentityFor; 0: each request has its own.
func (o targetOptions) identityFor() (d time.Duration, ok bool) {
	if o.IdentityFor == "" {
		return 0, true
	}
	d, err := time.ParseDuration(o.IdentityFor)
	return d, err == nil && d > 0 && d <= maxIdentityFor
}

// A flaw is what is wrong with one option.
type flaw struct{ option, say string }

// flaws are what can be seen without the gate's own name and without the roles.
func (o targetOptions) flaws() (all []flaw) {
	bad := func(option, format string, args ...any) {
		all = append(all, flaw{option, fmt.Sprintf(format, args...)})
	}
	if o.Host == "" || strings.ContainsAny(o.Host, ":/?#@[]%\\ ") || strings.HasPrefix(o.Host, ".") || strings.HasSuffix(o.Host, ".") ||
		!httpguts.ValidHostHeader(o.Host) {
		bad("host", "%q is no host name; write one without scheme, port and path, \"app.example.com\".", o.Host)
	}
	for _, origin := range o.Origins {
		if err := http.NewCrossOriginProtection().AddTrustedOrigin(origin); err != nil {
			bad("origins", "%q is no origin; write scheme and host, \"https://other.example.com\".", origin)
		}
	}
	for _, header := range slices.Sorted(maps.Keys(o.Headers)) {
		switch {
		case !httpguts.ValidHeaderFieldName(header):
			bad("headers", "%q is no name of a header.", header)
		case reserved(header):
			bad("headers", "The header %s is not free: the gate sets it, or takes it out.", header)
		case !slices.Contains(facts, o.Headers[header]):
			bad("headers", "%q is nothing that a header can say; write one of %s.", o.Headers[header], strings.Join(facts, ", "))
		}
	}
	if _, ok := o.identityFor(); !ok {
		bad("identity_for", "%q is no duration of at most 30s; leave it out, and each request has an identity of its own.", o.IdentityFor)
	}
	if o.Record != nil {
		o.Record.Flaws(func(option, say string) { bad("record."+option, "%s", say) })
	}
	if o.MaxBody < 0 {
		bad("max_body", "max_body is a number of bytes; leave it out for no limit.")
	}
	return all
}

// Check implements proxy.Protocol.
func (Protocol) Check(targets []policy.Target) []policy.Problem {
	hosts := map[string]string{} // their targets
	return proxy.CheckOptions(targets, func(t policy.Target, o targetOptions, roles map[string]roleOptions) (all []policy.Problem) {
		for _, flaw := range o.flaws() {
			all = append(all, policy.Problem{Target: t.Name, Option: flaw.option, Say: flaw.say})
		}
		host := strings.ToLower(o.Host)
		if other := hosts[host]; other != "" {
			all = append(all, policy.Problem{Target: t.Name, Option: "host", Say: fmt.Sprintf("The target %s has this host already.", other)})
		}
		hosts[host] = t.Name
		if _, ok := t.Roles[o.Role]; o.Role != "" && !ok {
			all = append(all, policy.Problem{Target: t.Name, Option: "role", Say: fmt.Sprintf("The target has no role %q.", o.Role)})
		}
		for _, name := range slices.Sorted(maps.Keys(roles)) {
			if f := roles[name].flaw(t, t.Roles[name]); f != nil {
				all = append(all, policy.Problem{Target: t.Name, Role: name, Option: f.option, Say: f.say})
			}
		}
		return all
	})
}

// flaw is what is wrong with the way to show a role's credential; nil: nothing.
func (o roleOptions) flaw(t policy.Target, r policy.Role) *flaw {
	switch {
	case r.Credential == "" && o.Auth != "":
		return &flaw{"auth", "This role has no credential to show; write credential = \"...\" beside options."}
	case r.Credential != "" && !slices.Contains(auths, o.Auth):
		return &flaw{"auth", fmt.Sprintf("Say how the credential is shown: auth is one of %s.", strings.Join(auths, ", "))}
	case o.Auth == "header" && (!httpguts.ValidHeaderFieldName(o.Header) || reserved(o.Header)):
		return &flaw{"header", "Write header = \"X-Api-Key\", the header that the target reads; names that the gate sets are not free."}
	case o.Auth != "header" && o.Header != "":
		return &flaw{"header", "header is only read with auth = \"header\"."}
	case o.Auth == "certificate" && t.TLS.Mode == "off":
		return &flaw{"auth", "A certificate is shown in TLS, and this target is spoken to without."}
	}
	return nil
}

// Address is where a target is for browsers and programs: its own name, on the port of
// the gate's pages at base. Empty: its options name no host.
func Address(base string, t policy.Target) string {
	var o targetOptions
	u, err := url.Parse(base)
	if err != nil || t.Options(&o) != nil || len(o.flaws()) > 0 {
		return ""
	}
	return (&url.URL{Scheme: "https", Host: withPort(strings.ToLower(o.Host), u), Path: "/"}).String()
}

// withPort is a host as browsers send it.
func withPort(host string, base *url.URL) string {
	if port := base.Port(); port != "" {
		return net.JoinHostPort(host, port)
	}
	return host
}
