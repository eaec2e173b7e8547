// Package postgres is the gate in the language of PostgreSQL: protocol 3.0 and 3.2,
// as in "Frontend/Backend Protocol" of the PostgreSQL manual.
//
// The conversation, step by step:
//
//  1. The client may ask for TLS (SSLRequest), begin it at once (ALPN "postgresql"),
//     or ask for GSSAPI encryption, which is answered 'N'. Nothing that was sent in
//     plaintext is read after TLS has begun.
//  2. CancelRequest: the key is one of ours; the query of that session, and no other,
//     is cancelled at the target.
//  3. StartupMessage: user is the role, or role+token; dbname is the target, or
//     target/database; sallyport.* in options are for the gate. What is not known is
//     refused by name.
//  4. role+token: the client is asked for a password, over TLS only. It is a grant token.
//  5. Gate.Open. AuthenticationOk goes out before the first notice, and the client is
//     held; nothing is sent to the target. A client that hangs up withdraws its request.
//  6. The gate logs in at the target with the role's credential, and looks at the role
//     that it got: a superuser, or a member of roles that the policy does not list, is
//     refused.
//  7. ParameterStatus as the target said, BackendKeyData of our own, ReadyForQuery.
//  8. Everything else goes on unchanged. Statements and bind values are recorded before
//     their bytes go to the target; results leave their tag, row and byte counts,
//     SQLSTATE and duration.
//  9. The cut: the query is cancelled at the target, the client gets FATAL 57P01 with
//     our sentence at a message boundary or is reset, and the backend is seen gone, by
//     the end of its connection or else in pg_stat_activity after
//     pg_terminate_backend, before the session ends in the log.
//
// Not supported, and refused with a sentence:
//
//   - replication connections, which would read past every GRANT;
//   - role+oauth (OAUTHBEARER of libpq 18);
//   - GSSAPI encryption and authentication, on both sides;
//   - SCRAM passwords that SASLprep would change, other than ASCII and plain UTF-8;
//   - switches in options other than -c name=value and --name=value;
//   - read-only as a scope: a read-only role is one that the target's GRANTs make so.
//
// SET ROLE and SET SESSION AUTHORIZATION are recorded, not prevented: what they can
// reach is bounded by the memberships that are checked at login.
//
// A statement, or a bind message, of more than 16 KiB that does not arrive in one
// piece is recorded in parts, each before its bytes go on. The password in ALTER ROLE
// and CREATE ROLE is recorded as '(hidden)'; see redact.go for why nothing else can
// hide there.
package postgres
