//go:build !linux

package proxy

// vanished is Linux's: elsewhere only the system's own limits end a peer that has gone
// while something was under way to it.
func (c *Conn) vanished() (client string, gone bool) { return "", false }
