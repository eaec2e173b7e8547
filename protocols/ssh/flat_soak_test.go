//go:build soak

package ssh_test

const flatSize = 1024
