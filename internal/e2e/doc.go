// Package e2e tests the real binary from outside: `sallyport demo` with its real
// PostgreSQL and OIDC provider, stock clients, and browsers that post forms.
//
// SALLYPORT_TEST_BUILDFLAGS is given to go build, so that the guards can build the
// binary with an overlay that turns one of them off.
package e2e
