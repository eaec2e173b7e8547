// Package catalog is what a policy is about: the targets behind the gate and the
// issuers that say who somebody is, as blocks of the signed bundle describe them.
// Whoever could change either would own the policy, so nothing else can say it.
package catalog
