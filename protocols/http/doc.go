// Package http is the gate in the language of the web: applications, APIs,
// websockets, SSE and gRPC behind host names of their own, on the same HTTPS port as
// the gate's own pages. HTTP/1.1 (RFC 9112) and HTTP/2 (RFC 9113) over TLS.
//
// The conversation, step by step:
//
//  1. TLS; a client certificate is asked for on targets' names only. The name in TLS
//     and the request's Host must agree (421 otherwise).
//     Behind a trusted proxy the client's address is what that proxy says (behind.go).
//  2. The gate's own name goes to the gate's pages. A target's name goes on here, and
//     every other name is refused.
//  3. What is ambiguous is refused: absolute-form and asterisk-form, CONNECT, TRACE,
//     upgrades other than websocket, a Content-Length beside a Transfer-Encoding, dot
//     segments, encoded slashes and dots. The path that is matched is the path that
//     is sent on, byte for byte.
//  4. The proof: a grant token (Authorization: Bearer spg_...), a client certificate, or
//     this host's own cookie. A browser without one is sent to sign in at the gate's
//     name, and comes back with a code that works once, for 60 seconds, on that host,
//     in the browser that has the nonce cookie. Everything else gets 401 with a
//     problem (RFC 9457) that names the page to open.
//  5. Gate.Open. A browser that may not pass is sent to the request page, and comes back
//     by itself after the yes; only a person's POST makes a request. A program gets
//     403 with the page to open, or is held where it says Prefer: wait=N (RFC 7240);
//     the lines that a held client is shown are 102 responses with Sallyport-Notice.
//  6. The session is one user, target, role, grant and sign-in. It ends when nothing was
//     asked of it for five minutes. Every request is a line of its recording, written
//     before the request goes to the target, and is held to the grant's scope.
//  7. The target gets Sallyport-Identity, a JWT (ES256) about who asks. Every spelling
//     of that header and of what the gate sets is taken out of what the client sent,
//     and so are the gate's cookies and tokens.
//  8. The cut: requests under way are aborted, websockets closed with 1008 and our
//     sentence, gRPC with PERMISSION_DENIED (UNAVAILABLE where the gate stops); the next navigation shows why.
//
// The role is, in this order: the header Sallyport-Role (not with a cookie: a page's
// script could set it), the role that the browser came back with, the person's newest running grant, the target's option, its only role,
// the only role that the person could ask for.
//
// The path patterns of a scope: * is any run of bytes but a slash, ** at the end is any
// rest. A scope's methods are compared exactly; WEBSOCKET there allows websockets.
//
// Not supported, and refused with a sentence: HTTP/3, h2c from clients, extended CONNECT.
// gRPC's messages are counted, not recorded. A listener
// keeps its browsers' cookies and its JWT key in memory: after a restart browsers sign
// in again by themselves, and targets read the key set again.
package http
