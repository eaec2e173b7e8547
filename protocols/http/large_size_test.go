//go:build !soak

package http

// What TestLargeTransfers moves; `make soak` moves more.
const (
	largeSize = 256 << 20
	largeWays = 2
)
