package audit

// Pending is an encoded Event in the outbox: the exact bytes of leaf and body.
type Pending struct {
	Counter uint64
	Leaf    []byte // the Merkle leaf, never re-serialised
	Body    []byte // 32 bytes of salt, then the body as JSON
}
