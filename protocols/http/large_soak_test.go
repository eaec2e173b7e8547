//go:build soak

package http

const (
	largeSize = 5 << 30
	largeWays = 4
)
