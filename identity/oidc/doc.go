// Package oidc is the relying party: it sends people to their OpenID provider and
// makes an identity.User of what comes back, or says in one sentence why not.
//
// What it promises:
//
//   - authorization code flow only, with PKCE S256, state and nonce, always;
//   - an answer counts only in the browser that began the attempt, once, and within
//     ten minutes; where it then leads is a path of the gate's own;
//   - an ID token counts only with the right type, signature (RS256, ES256, EdDSA),
//     issuer, audience, authorized party, times and nonce;
//   - standing is read again by refresh token, and only about the same account;
//   - nothing that a provider sends reaches an error text but short error codes.
//
// Not supported, on purpose: implicit and hybrid flows, unsigned or encrypted ID
// tokens, signed userinfo, providers without discovery or over plain http,
// redirects of the provider's own endpoints, front- and back-channel logout.
//
// Sources: OpenID Connect Core 1.0, OpenID Connect Discovery 1.0, RFC 6749, 7636
// (PKCE), 9207 (iss in the answer), 9700 (security of OAuth 2.0).
package oidc
