// Package demo sets up everything that a gate needs, in one folder, to try it: a CA,
// a private PostgreSQL, the demo's OIDC provider, a policy signed by a signer of its
// own, and a proxy.hcl. The gate that then runs from that folder is the real one.
//
//	DIR/proxy.hcl  ca.crt  gate.crt  login-ca.crt  seal.key  signer.key  demo.json
//	DIR/policy/       the signed bundle
//	DIR/credentials/  the target's passwords, and the gate's secret at the provider
//	DIR/postgres/     the target orders
//	DIR/web-1/        the target web-1, where this machine has an sshd
//	DIR/ssh-host.key  ssh-host-ca.key  ssh-session-ca.key  known_hosts
//	DIR/gate.db  DIR/audit/  DIR/recordings/
//
// Everything is on loopback, and only what the gate is told opens the target. Run by
// root, database and machine have an account each; otherwise both run as whoever
// started the demo, who alone could give them others.
package demo
