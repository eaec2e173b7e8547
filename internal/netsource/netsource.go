// Package netsource says what caps count as one place that connections come from.
package netsource

import "net/netip"

// Of is the address, and with IPv6 its /64, which is what one host has at the least
// (RFC 6177). The zero Addr stays zero.
func Of(addr netip.Addr) netip.Addr {
	addr = addr.Unmap().WithZone("")
	if addr.Is6() {
		if network, err := addr.Prefix(64); err == nil {
			return network.Addr()
		}
	}
	return addr
}
