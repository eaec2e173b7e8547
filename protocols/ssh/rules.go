package ssh

import (
	"net"
	"strconv"
	"strings"

	"github.com/sallyport/sallyport/policy"
)

// The words of policy.Scope.Channels.
const (
	channelShell   = "shell"
	channelExec    = "exec"
	channelSFTP    = "sftp"
	channelForward = "forward"
	channelListen  = "listen"
	channelAgent   = "agent"
	channelX11     = "x11"
)

// rules say what a grant's scope lets a session open. Every sub-channel asks on its own.
type rules struct{ scope policy.Scope }

// allows reports a kind of channel; agent and X11 only where the scope names them.
func (r rules) allows(channel string) bool {
	return r.scope.Admits(policy.Scope{Channels: []string{channel}})
}

// forwards reports whether forwards may lead to a place: "host:port", or the path of a
// socket. Names are compared as they are written; the target resolves them.
func (r rules) forwards(place string) bool {
	if !r.allows(channelForward) {
		return false
	}
	return r.scope.Admits(policy.Scope{Forward: []string{place}})
}

// listens reports whether the target may listen at a place for the client (-R). That lets
// the target's programs talk to the client's network, so it is a word of its own.
func (r rules) listens(place string) bool {
	if !r.allows(channelListen) {
		return false
	}
	return r.scope.Admits(policy.Scope{Listen: []string{place}})
}

func place(host string, port uint32) string {
	return net.JoinHostPort(strings.ToLower(host), strconv.FormatUint(uint64(port), 10))
}

// passes reports environment variables that a client may set at the target: the
// language, and what git speaks. LD_PRELOAD and the like are code.
func passes(name string) bool {
	switch name {
	case "LANG", "LANGUAGE", "COLORTERM", "GIT_PROTOCOL", "TZ":
		return true
	}
	category, ok := strings.CutPrefix(name, "LC_")
	return ok && category != "" && strings.Trim(category, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_") == ""
}
