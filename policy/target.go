package policy

import "github.com/sallyport/sallyport/policy/catalog"

// What the signed bundle says of targets and issuers; see package catalog.
type (
	Target   = catalog.Target
	TLS      = catalog.TLS
	Role     = catalog.Role
	Problem  = catalog.Problem
	Identity = catalog.Identity
	Issuer   = catalog.Issuer
)
