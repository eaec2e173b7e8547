package http

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// networks are the proxies in front of the gate that are believed about where a client
// is. Nothing else is: whoever could write their own address could pass for the
// person's machine at approvers and in the record.
type networks []netip.Prefix

// parseNetworks reads "10.0.0.0/8" or a single address. A network of everybody would
// have every client choose its address.
func parseNetworks(texts []string) (networks, error) {
	var all networks
	for _, text := range texts {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			addr, errAddr := netip.ParseAddr(text)
			if errAddr != nil || addr.Zone() != "" {
				return nil, fmt.Errorf("http: trusted_proxies: %q is neither a network nor an address; write 10.1.2.0/24", text)
			}
			p = netip.PrefixFrom(addr, addr.BitLen())
		}
		if p.Bits() == 0 || p.Addr().Is4In6() {
			return nil, fmt.Errorf("http: trusted_proxies: %q has too many addresses in it; name your proxies alone", text)
		}
		all = append(all, p.Masked())
	}
	return all, nil
}

func (n networks) has(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	for _, p := range n {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// errNoClient says that a trusted proxy did not tell whose request it is. To take the
// proxy's own address instead would make all its clients one.
var errNoClient = &refusal{status: http.StatusBadRequest, say: "the proxy before this gate does not say which client it forwards for; have it set X-Forwarded-For"}

// forwarded is the client's address in what trusted proxies added to X-Forwarded-For:
// each writes whom it forwards for at the right, so the first from there that is no
// proxy of ours is the client. What stands further left is the client's own invention.
func (n networks) forwarded(h http.Header) (netip.Addr, error) {
	entries := strings.Split(strings.Join(h["X-Forwarded-For"], ","), ",")
	for i := len(entries) - 1; i >= 0; i-- {
		text := strings.TrimSpace(entries[i])
		addr, err := netip.ParseAddr(text)
		if err != nil {
			ap, errPort := netip.ParseAddrPort(text) // some add the port
			if errPort != nil {
				return netip.Addr{}, errNoClient
			}
			addr = ap.Addr()
		}
		addr = addr.Unmap().WithZone("")
		if i == 0 || !n.has(addr) {
			return addr, nil
		}
	}
	return netip.Addr{}, errNoClient
}

// from finds the client's address and sets it as the request's RemoteAddr, for the
// pages too. A proxy that asks for itself, whether the gate is well, needs no client.
func (c *conn) from(r *http.Request) error {
	if !c.behind || r.URL.Path == "/healthz" || r.URL.Path == "/readyz" {
		return nil
	}
	if scheme := r.Header.Values("X-Forwarded-Proto"); len(scheme) > 0 && !strings.EqualFold(scheme[len(scheme)-1], "https") {
		return &refusal{status: http.StatusBadRequest, say: "this came to the proxy in plaintext; use https"}
	}
	addr, err := c.h.trusted.forwarded(r.Header)
	if err != nil {
		return err
	}
	r.RemoteAddr = netip.AddrPortFrom(addr, 0).String()
	return nil
}

// source is where a request comes from; its port is zero behind a proxy.
func source(r *http.Request) netip.AddrPort {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.AddrPort{} // a unix socket
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// signature begins a header of the PROXY protocol, version 2
// (haproxy.org/download/2.6/doc/proxy-protocol.txt, section 2.2).
const signature = "\r\n\r\n\x00\r\nQUIT\n"

// maxPreamble bounds what follows the fixed 16 bytes: addresses and TLVs, which may
// hold a certificate's names.
const maxPreamble = 4 << 10

// preamble reads such a header off a connection and returns the client's address; nil
// where the proxy speaks for itself.
func preamble(c io.Reader) (*net.TCPAddr, error) {
	var head [16]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return nil, fmt.Errorf("read the PROXY header: %w", err)
	}
	size := int(binary.BigEndian.Uint16(head[14:]))
	if !bytes.Equal(head[:12], []byte(signature)) || head[12]>>4 != 2 || size > maxPreamble {
		return nil, errors.New("a trusted proxy sends no PROXY header of version 2; have it send one, or leave proxy_protocol out")
	}
	rest := make([]byte, size)
	if _, err := io.ReadFull(c, rest); err != nil {
		return nil, fmt.Errorf("read the PROXY header: %w", err)
	}
	n := 4
	switch command, family := head[12]&0xf, head[13]; {
	case command == 0: // LOCAL: a health check
		return nil, nil //nolint:nilnil // nobody is forwarded, and that is no error
	case command == 1 && family == 0x11: // TCP over IPv4
	case command == 1 && family == 0x21: // TCP over IPv6
		n = 16
	default:
		return nil, errors.New("the PROXY header tells of no TCP client")
	}
	if len(rest) < 2*n+4 {
		return nil, errors.New("the PROXY header is too short for its addresses")
	}
	return &net.TCPAddr{IP: rest[:n:n], Port: int(binary.BigEndian.Uint16(rest[2*n:]))}, nil
}
