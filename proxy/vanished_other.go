//go:build !linux

package proxy

// vanished is Linux's: elsewhere only the system's own limits end a peer that has gone
// while something was under way to it.
func (c *Conn) vanished() (gone, closed bool) {
	return false, c.raw == nil || c.raw.Control(func(uintptr) {}) != nil
}
