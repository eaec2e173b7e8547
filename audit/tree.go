package audit

import (
	"math/bits"

	"golang.org/x/mod/sumdb/tlog"
)

// A tree is an RFC 6962 tree of which only the right edge is kept: the roots of
// the complete subtrees, one for each bit of size. It is a value; a copy is a
// point to go back to.
type tree struct {
	size int64
	edge [63]tlog.Hash // edge[i] is meant where bit i of size is set
}

func (t *tree) add(leaf tlog.Hash) {
	level := 0
	for ; t.size>>level&1 == 1; level++ {
		leaf = tlog.NodeHash(t.edge[level], leaf)
	}
	t.edge[level] = leaf
	t.size++
}

func (t *tree) root() tlog.Hash {
	if t.size == 0 {
		root, _ := tlog.TreeHash(0, nil) // of the empty tree; reads nothing
		return root
	}
	level := bits.TrailingZeros64(uint64(t.size))
	root := t.edge[level]
	for level++; t.size>>level > 0; level++ {
		if t.size>>level&1 == 1 {
			root = tlog.NodeHash(t.edge[level], root)
		}
	}
	return root
}
