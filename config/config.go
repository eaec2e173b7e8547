// Package config reads proxy.hcl: what belongs to the machine that the gate runs on.
//
// It holds no target's address and no identity provider: whoever could change
// those would own the policy, so they are in the signed bundle, and such keys are
// errors here. Secrets are not in it either, only the places where they are.
package config

import (
	"crypto/sha256"
	"net/url"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/sallyport/sallyport/credential"
	"github.com/sallyport/sallyport/notify"
)

// Config is proxy.hcl, checked. Paths are absolute: relative ones are taken from
// the file's own folder. Fields without a key are worked out from the others.
type Config struct {
	// Gate says who this gate is.
	Gate Gate `hcl:"gate,block"`

	// Listeners are the doors: one "web" at least, and one for each protocol and address.
	Listeners []Listener `hcl:"listen,block"`

	// Store keeps requests, grants and sessions.
	Store Store `hcl:"store,block"`

	// Audit is the tamper-evident log.
	Audit Audit `hcl:"audit,block"`

	// Recordings are what happened in sessions.
	Recordings Recordings `hcl:"recordings,block"`

	// Policy is where the signed bundle is, and who may sign it.
	Policy Policy `hcl:"policy,block"`

	// LoginCA signs the client certificates of `sallyport login`. No target may
	// trust it: it proves people to the gate, and nothing else.
	LoginCA LoginCA `hcl:"login_ca,block"`

	// SealKey is a file with 32 random bytes (`sallyport init` makes it), mode 0600.
	// Refresh tokens are sealed by it, so that a copy of the store alone lets nobody
	// speak to the identity provider as one of your people.
	SealKey string `hcl:"seal_key"`

	// Credentials say where this machine keeps the secrets that the policy names.
	Credentials []Credential `hcl:"credential,block"`

	// Notify says who is told of requests, and how. Default: nobody; people see on the
	// pages what waits for them.
	Notify *notify.Config `hcl:"notify,block"`

	// Limits are caps and patience; every one has a default.
	Limits *Limits `hcl:"limits,block"`

	// Path is the file, Digest "sha256:<hex>" of its bytes, for the log.
	Path, Digest string

	// Blocks are digests of the file's blocks and keys by their name, as they are written but
	// for comments and blanks: where one differs from another file's, something changed there.
	Blocks map[string][sha256.Size]byte

	// Set is Credentials, ready to read.
	Set credential.Set

	Body hcl.Body `hcl:",body"`
}

// Gate says who this gate is.
type Gate struct {
	// URL is where people's browsers reach the web listener: https, a name, and a
	// port where it is not 443; no path. Links that held clients show begin with it.
	// Plain http is refused: sign-ins and cookies could be read on the way.
	URL string `hcl:"url"`

	// Node names this machine in every entry of the log. Default: the host's name. Two
	// nodes with one name could not be told apart on the record.
	Node string `hcl:"node,optional"`

	// Name is what pages call this gate. Default: the URL's host. It helps people to
	// notice that a link leads to somebody else's gate.
	Name string `hcl:"name,optional"`

	// CA is a PEM file of the CA that clients verify this gate with; it is named in the
	// connection strings that pages show. Default: none, for a certificate that everybody's
	// system trusts. Without it people are tempted to turn verification off.
	CA string `hcl:"ca,optional"`

	// Base is URL, parsed.
	Base *url.URL

	Body hcl.Body `hcl:",body"`
}

// A Listener is one door.
type Listener struct {
	// Protocol is "web" for pages and API, or a protocol: "postgres", "ssh".
	Protocol string `hcl:"protocol,label"`

	// Address is host:port to bind; an empty host means all addresses.
	Address string `hcl:"address,label"`

	// TLS is the certificate that clients see. Left out only where plaintext is on, and
	// where the protocol brings its own encryption (ssh).
	TLS *Pair `hcl:"tls,block"`

	// Plaintext lets clients connect without TLS. Default false: statements, results and the
	// phrase could be read and changed on the way. Without TLS no password or token is ever
	// asked for. The web listener may be plaintext on loopback only, behind a TLS proxy of yours.
	Plaintext bool `hcl:"plaintext,optional"`

	// Advertise is the host:port that pages and messages tell clients to connect to.
	// Default: the URL's host and this listener's port. It matters where a load balancer
	// or port forwarding stands in between.
	Advertise string `hcl:"advertise,optional"`

	// OptionBlock is the protocol's own settings; docs of the protocol list them.
	OptionBlock *OptionBlock `hcl:"options,block"`

	// Options decodes the options block into a struct with hcl tags; unknown keys are
	// errors with file and line. Without such a block required keys are missed. A struct
	// with the method Files() []*string has those paths made absolute.
	Options func(into any) error

	Range hcl.Range `hcl:",def_range"`
	Body  hcl.Body  `hcl:",body"`
}

// OptionBlock is a block whose keys belong to a protocol.
type OptionBlock struct {
	Remain hcl.Body `hcl:",remain"`
}

// A Pair is a certificate and its private key, PEM files.
type Pair struct {
	// Certificate is the chain, the leaf first.
	Certificate string `hcl:"certificate"`

	// Key is the private key, mode 0600: who reads it can pass for this gate.
	Key string `hcl:"key"`

	Range hcl.Range `hcl:",def_range"`
	Body  hcl.Body  `hcl:",body"`
}

// LoginCA signs what `sallyport login` gives to people.
type LoginCA struct {
	// Certificate and Key are the CA for client certificates of TLS, PEM files; the key
	// has mode 0600: who reads it can pass for anybody.
	Certificate string `hcl:"certificate"`
	Key         string `hcl:"key"`

	// SSHKey is the private key that signs the same for SSH, mode 0600. Default: none, and
	// then no SSH certificate proves anybody. It is nobody else's key: not the session CA's,
	// which targets trust.
	SSHKey string `hcl:"ssh_key,optional"`

	Range hcl.Range `hcl:",def_range"`
	Body  hcl.Body  `hcl:",body"`
}

// Store keeps requests, grants and sessions.
type Store struct {
	// Path is the SQLite file, on a local disk: network file systems lose its locks.
	// Beside it lies PATH-reserve, 8 MiB that are given up on a full disk, so that a
	// revoke can be written down then.
	Path string `hcl:"path"`

	Body hcl.Body `hcl:",body"`
}

// Audit is the tamper-evident log.
type Audit struct {
	// Dir holds the log, on a local disk that nobody but the gate writes to. A copy that
	// is put back later is noticed at start-up.
	Dir string `hcl:"dir"`

	// Origin names the log in its checkpoints, as a URL without scheme. Default: the
	// gate's host. It never changes during the log's life: auditors know the log by it.
	Origin string `hcl:"origin,optional"`

	// Mirror also writes entries as JSON lines for a collector: "stdout", or
	// "file:/path". Default: none. Entries hold names and reasons, so send
	// them only where those may be read.
	Mirror string `hcl:"mirror,optional"`

	Body hcl.Body `hcl:",body"`
}

// Recordings are what happened in sessions.
type Recordings struct {
	// Dir holds them, on a disk with room: a session that cannot be recorded ends.
	Dir string `hcl:"dir"`

	Body hcl.Body `hcl:",body"`
}

// Policy is where the signed bundle is, and who may sign it.
type Policy struct {
	// Dir is the bundle: targets, identity provider, rules, trust root, releases.
	Dir string `hcl:"dir"`

	// Root is "sha256:<hex>" of the trust root that may sign (`sallyport policy status`
	// prints it). It has no default: without the pin, whoever can write to Dir makes the rules.
	Root string `hcl:"root"`

	// MinVersion is the lowest version that is accepted, beside what the store and the log
	// remember. Default 0. On a new machine it keeps an old, validly signed policy out.
	MinVersion int `hcl:"min_version,optional"`

	// Archive is where the bundle is fetched from. Default: nowhere; Dir is filled by
	// whatever you like, and SIGHUP loads it. Its way here is not trusted either way.
	Archive *Archive `hcl:"archive,block"`

	Body hcl.Body `hcl:",body"`
}

// A Credential is the place of one secret.
type Credential struct {
	// Name is the word that the policy uses for it.
	Name string `hcl:"name,label"`

	// From is "env:NAME", "file:/path" (mode 0600), or "exec:/path/to/program arguments".
	// It is read for each new session, so a rotated secret is used at once.
	From string `hcl:"from"`

	Range hcl.Range `hcl:",def_range"`
	Body  hcl.Body  `hcl:",body"`
}

// Limits are caps and patience. Zero is not "none": it is refused.
type Limits struct {
	// Connections is the most that are open at once. Default 32000. Without it a flood
	// takes the memory that live sessions need.
	Connections int `hcl:"connections,optional"`

	// ConnectionsPerSource is the most from one address. Default 8000. Without it one
	// client can take all of them.
	ConnectionsPerSource int `hcl:"connections_per_source,optional"`

	// Held is the most that wait for a sign-in at once. Default 10000; and HeldPerSource
	// from one address, default 100. Strangers can cause these before anybody is known.
	Held          int `hcl:"held,optional"`
	HeldPerSource int `hcl:"held_per_source,optional"`

	// Handshake is how long a client may take to say what it wants. Default "20s". A silent
	// one keeps a connection no longer.
	Handshake string `hcl:"handshake,optional"`

	// SignIn is how long a held connection waits for its sign-in. Default "5m". A link that
	// lives longer can be sent to somebody else at leisure.
	SignIn string `hcl:"sign_in,optional"`

	// Grace is how long live sessions may finish after the gate was told to stop. Default "30s".
	Grace string `hcl:"grace,optional"`

	// The three, parsed.
	HandshakeTime, SignInTime, GraceTime time.Duration

	Body hcl.Body `hcl:",body"`
}
