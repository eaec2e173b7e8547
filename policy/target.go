package policy

// A Target is something behind the gate, as the signed bundle describes it.
type Target struct {
	Name     string
	Protocol string // "postgres", "ssh", "http"
	Address  string // host:port, or the absolute path of a unix socket
	Labels   map[string]string
	TLS      TLS
	Roles    map[string]Role
	// Options decodes the target's own `options` block into a protocol's struct
	// with hcl tags; unknown attributes are errors with file and line. Without such
	// a block it leaves into as it is.
	Options func(into any) error
}

// TLS says how the gate knows the target. The zero value verifies certificate and
// name against the system's roots.
type TLS struct {
	Mode       string   // "verify-full" (default), or "off" for loopback and unix sockets only
	CA         []byte   // PEM from a file inside the bundle; nil: the system's roots
	ServerName string   // default: the address's host
	Pins       []string // "sha256:<hex>" of the leaf's SubjectPublicKeyInfo; any one matches
}

// A Role is an account at the target, and the credential that opens it.
type Role struct {
	Name       string
	Account    string // the account's name at the target; default: Name
	Credential string // a name that proxy.hcl maps to a place; empty: none
	// Options is as Target.Options, for the role's block.
	Options func(into any) error
}
