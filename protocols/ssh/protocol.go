package ssh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/proxy"
)

// Name is the protocol's word in config, policy and log.
const Name = "ssh"

// Protocol is SSH, for protocols.All.
type Protocol struct{}

// Name returns "ssh".
func (Protocol) Name() string { return Name }

// Scopes lists what a session can be held to: kinds of channels, where forwards may lead,
// and where the target may listen for the client.
func (Protocol) Scopes() []string { return []string{"channels", "forward", "listen"} }

// Options is the `options` block of a listener. The three keys stay three: whoever
// has one of them has only what that one is for.
type Options struct {
	// HostKeys are files with the gate's own private host keys, mode 0600.
	HostKeys []string `hcl:"host_keys"`
	// HostCA is a file with the private key that certifies the gate's host keys, for
	// the gate's own name and for the names of targets behind `ssh -J`. Clients trust
	// it for those names only (sallyport ssh-config).
	HostCA string `hcl:"host_ca"`
	// SessionCA is a file with the private key that certifies, for one session at a
	// time, the gate towards targets. Targets trust it (TrustedUserCAKeys).
	SessionCA string `hcl:"session_ca"`
	// Names are the host names by which clients reach this listener. Default: the
	// host in the gate's URL.
	Names []string `hcl:"names,optional"`
	// KeyExchanges, Ciphers and MACs narrow what is offered to clients and targets.
	// Default: all that this gate knows, which are modern ones only.
	KeyExchanges []string `hcl:"key_exchanges,optional"`
	Ciphers      []string `hcl:"ciphers,optional"`
	MACs         []string `hcl:"macs,optional"`
}

// Files are the options that are paths, for the configuration to make absolute.
func (o *Options) Files() []*string {
	files := []*string{&o.HostCA, &o.SessionCA}
	for i := range o.HostKeys {
		files = append(files, &o.HostKeys[i])
	}
	return files
}

// TargetOptions is the `options` block of a target in the signed policy. One of
// HostKeys and HostCA is needed: a host key is never taken on first sight.
type TargetOptions struct {
	// HostKeys are the target's public keys, as ssh-keyscan prints them without the
	// host's name: "ssh-ed25519 AAAA...".
	HostKeys []string `hcl:"host_keys,optional"`
	// HostCA are public keys of CAs whose host certificates are taken.
	HostCA []string `hcl:"host_ca,optional"`
	// HostName is the name in the target's host certificate. Default: the address's host.
	HostName string `hcl:"host_name,optional"`
	// Input records what is typed into terminals too, save where it is not echoed, and
	// all that commands and shells without a terminal read.
	Input bool `hcl:"record_input,optional"`
	// Output is "full" (default), or "digest": of commands without a terminal only the
	// length and SHA-256 of output and input are recorded. Terminals are recorded in full.
	Output string `hcl:"record_output,optional"`
	// Files is "digest" (default), or "content": the bytes of what sftp and scp move are
	// recorded too, and not only their length and SHA-256.
	Files string `hcl:"record_files,optional"`
}

// RoleOptions is the `options` block of a target's role in the signed policy.
type RoleOptions struct {
	// Login is how the gate logs in: "certificate" of the session CA (default without
	// a credential), or by the role's credential as a "key" (default with one) or a
	// "password".
	Login string `hcl:"login,optional"`
}

// Check implements proxy.Protocol.
func (Protocol) Check(targets []policy.Target) []policy.Problem {
	return proxy.CheckOptions(targets, func(t policy.Target, _ TargetOptions, _ map[string]RoleOptions) []policy.Problem {
		if _, err := knownHost(t); err != nil {
			return []policy.Problem{{Target: t.Name, Option: "host_keys", Say: err.Error()}}
		}
		return nil
	})
}

// Configure checks the listener's options and reads its keys: a gate that cannot
// prove itself must not start.
func (Protocol) Configure(c proxy.Config) (proxy.Handler, error) {
	if c.Gate == nil {
		return nil, errors.New("ssh: no gate")
	}
	var o Options
	if c.Options == nil {
		return nil, errors.New("ssh: a listener needs options { host_keys, host_ca, session_ca }")
	}
	if err := c.Options(&o); err != nil {
		return nil, err
	}
	h := &handler{config: c, names: o.Names}
	if err := h.keys.load(o); err != nil {
		return nil, err
	}
	if len(h.names) == 0 {
		host, err := hostOf(c.URL)
		if err != nil {
			return nil, fmt.Errorf("ssh: options need names: %w", err)
		}
		h.names = []string{host}
	}
	var err error
	if h.algorithms, err = choose(o); err != nil {
		return nil, err
	}
	return h, nil
}

// handler serves the connections of one listener.
type handler struct {
	config     proxy.Config
	names      []string
	keys       keys
	algorithms ssh.Config
}

// Serve implements proxy.Handler.
func (h *handler) Serve(ctx context.Context, nc net.Conn) error {
	c := &conn{h: h, gate: h.config.Gate, log: proxy.Logger(ctx), net: nc}
	return c.serve(ctx)
}

// The algorithms that this gate speaks, best first. AEAD ciphers and
// encrypt-then-MAC only. With strict key exchange, which x/crypto always offers, nothing
// can be dropped at the start of the stream (Terrapin, CVE-2023-48795). Without it, which
// is a client's or target's choice (OpenSSH before 9.6), that holds for AES-GCM, which
// counts its packets itself, and not for ChaCha20-Poly1305. It stays in the list because
// dropbear's client speaks nothing else of it; the option ciphers takes it out.
func keyExchanges() []string {
	return []string{
		ssh.KeyExchangeMLKEM768X25519, ssh.KeyExchangeCurve25519,
		ssh.KeyExchangeECDHP256, ssh.KeyExchangeECDHP384, ssh.KeyExchangeECDHP521,
	}
}

func ciphers() []string {
	return []string{ssh.CipherAES128GCM, ssh.CipherAES256GCM, ssh.CipherChaCha20Poly1305, ssh.CipherAES256CTR, ssh.CipherAES128CTR}
}

func macs() []string { return []string{ssh.HMACSHA256ETM, ssh.HMACSHA512ETM} }

// signatures are the algorithms by which people's and targets' keys may sign; RSA
// with SHA-2 only, and only of targets.
func signatures() []string {
	return []string{
		ssh.KeyAlgoED25519, ssh.KeyAlgoSKED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoSKECDSA256,
	}
}

// choose narrows the algorithms as the options say; a name that is not known here
// is an error, not silence.
func choose(o Options) (ssh.Config, error) {
	var c ssh.Config
	for _, part := range []struct {
		key         string
		want, known []string
		into        *[]string
	}{
		{"key_exchanges", o.KeyExchanges, keyExchanges(), &c.KeyExchanges},
		{"ciphers", o.Ciphers, ciphers(), &c.Ciphers},
		{"macs", o.MACs, macs(), &c.MACs},
	} {
		*part.into = part.known
		if len(part.want) == 0 {
			continue
		}
		for _, name := range part.want {
			if !slices.Contains(part.known, name) {
				return c, fmt.Errorf("ssh: %s: this gate does not speak %q; it knows %v", part.key, name, part.known)
			}
		}
		*part.into = part.want
	}
	return c, nil
}
