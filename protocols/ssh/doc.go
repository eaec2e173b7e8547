// Package ssh is the gate's SSH: stock clients towards it, stock sshds behind it.
//
// One connection, in order:
//
//  1. Key exchange. The gate shows its host key, certified by the host CA for the name
//     by which it was called.
//  2. The client says ROLE@TARGET as its user name, and proves somebody: by signing
//     with a certificate of the login CA, by a grant token as its password
//     (ROLE+token@TARGET), or by a browser (keyboard-interactive, with nothing to
//     type). A key that is merely offered proves nothing.
//     Where the policy wants a reason and a certificate's owner has given none, they
//     are asked (keyboard-interactive again); what cannot be asked is told to say why
//     before.
//  3. The gate is asked inside that step, and holds it there. Lines are shown as
//     banners (RFC 4252, section 5.4), which clients print at once. A client that
//     hangs up withdraws. Nothing can be opened during the hold, because channels
//     come after authentication. ROLE+nowait@TARGET is answered at once.
//  4. The session's start is durable; the target is dialled, its host key compared
//     with the signed policy, and logged in to by a certificate that the session CA
//     makes for this session, or by the role's credential.
//  5. Channels are opened, each checked on its own against the grant's scope, and
//     written down before the target hears of them.
//  6. At the end every session channel gets our sentence on stderr and exit-status
//     255, is closed, and then the connection.
//
// `ssh -J gate ROLE@TARGET` makes two connections, one inside the other. The outer
// names no target, proves the user at the most, and opens nothing but inner ones; the
// gate answers those itself, so they go through the same steps. An inner connection
// is proved by the outer's certificate, or by itself where the outer has none.
//
// What passes: shell, exec, the sftp subsystem, direct-tcpip and
// direct-streamlocal@openssh.com (-L, -W, -D), tcpip-forward and
// streamlocal-forward@openssh.com (-R); agent and X11 forwarding only where the scope
// names them. Terminals are recorded as they are drawn, commands with their output (and,
// where the policy asks for it, what is typed and what commands read),
// files of sftp and old scp by name, size and SHA-256 (internal/sftp says how) and, where
// the policy asks for it, with their bytes, forwards by destination and bytes, and what programs are told beside: environment, the
// terminal's kind, signals.
//
// Not supported, and why:
//
//   - Other subsystems and unknown channel requests are refused: what is not known
//     cannot be recorded.
//   - Environment beyond LANG, LC_*, TZ, COLORTERM and GIT_PROTOCOL.
//   - Compression, and clients' RSA keys: neither is needed by any client in use.
//   - A program that cannot be asked (BatchMode) and offers no key at all ends by its
//     own words before the gate can say that it needs a certificate; with any key to
//     offer it is told.
//   - SSH_MSG_DISCONNECT with a reason at the end: x/crypto/ssh has no call for it.
//     The sentence is in the channels, where every client shows it.
//   - PuTTY shows banners only when the sign-in is over: with a certificate its user
//     sees what was waited for afterwards. With a browser it gets the lines otherwise.
//   - Output that a client does not read: the cut closes its channel without words,
//     because they would have to stand behind that output.
package ssh
