package policy

import (
	"github.com/sallyport/sallyport/policy/catalog"
	"github.com/sallyport/sallyport/policy/scope"
)

// What the signed bundle says of targets and issuers; see package catalog.
type (
	Target   = catalog.Target
	TLS      = catalog.TLS
	Role     = catalog.Role
	Problem  = catalog.Problem
	Identity = catalog.Identity
	Issuer   = catalog.Issuer
)

// What a grant lets its sessions do, and why an approver cannot give less of it so; see
// package scope.
type (
	Scope        = scope.Scope
	ScopeRefusal = scope.Refusal
)
