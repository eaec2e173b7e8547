//go:build !soak

package ssh_test

// flatSize is what TestMemoryStaysFlat moves, in MiB; `make soak` moves more.
const flatSize = 64
