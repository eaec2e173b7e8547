// Package author is for those who write a policy: what is wrong or suspicious in it,
// which clauses its tests would not miss, and what a change changes for whom. None of
// it decides anything at a gate.
package author
