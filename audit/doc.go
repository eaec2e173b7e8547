// Package audit is the record: an append-only Merkle log (RFC 6962 hashes, C2SP
// checkpoints) and the recordings of sessions, whose chunks the log names.
//
// What is acknowledged is durable and under a signed checkpoint. Nothing here
// decides anything; whoever needs permission waits until its entry is durable.
package audit
