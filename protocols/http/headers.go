package http

import (
	"bytes"
	"net/http"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// identityHeader carries the JWT to the target.
const identityHeader = "Sallyport-Identity"

// spoofs are headers by which programs behind proxies learn who asks, from where, and
// for which path; a client must not say them. In the form of plain.
var spoofs = func() map[string]bool {
	all := map[string]bool{}
	for _, name := range []string{
		"forwarded", "x-forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-port", "x-forwarded-server",
		"x-forwarded-prefix", "x-forwarded-user", "x-forwarded-email", "x-forwarded-groups", "x-forwarded-preferred-username",
		"x-real-ip", "x-client-ip", "x-cluster-client-ip", "true-client-ip", "cf-connecting-ip", "remote-user", "x-remote-user",
		"x-auth-request-user", "x-auth-request-email", "x-auth-request-groups", "x-original-url", "x-rewrite-url", "x-original-uri",
		"x-http-method", "x-http-method-override", "x-method-override", "proxy-authorization", "proxy", "prefer",
	} {
		all[name] = true
	}
	return all
}()

// plain brings the spellings of a header's name together, byte by byte: CGI and its
// children read X_Id, X-Id and x.id as one.
func plain(b []byte, name string) []byte {
	for i := range len(name) {
		c := name[i]
		switch {
		case 'A' <= c && c <= 'Z':
			c += 'a' - 'A'
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
		default:
			c = '-'
		}
		b = append(b, c)
	}
	return b
}

// alike reports two spellings of one name.
func alike(a, b string) bool {
	var one, two [64]byte // longer names cost an allocation
	return len(a) == len(b) && bytes.Equal(plain(one[:0], a), plain(two[:0], b))
}

// reserved reports a name that only the gate may set.
func reserved(name string) bool {
	var short [64]byte
	p := plain(short[:0], name)
	return bytes.HasPrefix(p, []byte("sallyport-")) || bytes.HasPrefix(p, []byte("x-sallyport-")) || spoofs[string(p)]
}

// clean takes out of a client's headers or trailers what only the gate may say; own
// are further names that it sets for this target.
func clean(h http.Header, own map[string]string) {
	for name := range h {
		drop := reserved(name)
		for mine := range own {
			drop = drop || alike(mine, name)
		}
		if drop {
			delete(h, name)
		}
	}
}

// hop takes out what is about one connection, and what Connection names.
func hop(h http.Header) {
	for _, line := range h["Connection"] {
		for _, name := range strings.Split(line, ",") {
			h.Del(strings.TrimSpace(name))
		}
	}
	for _, name := range []string{"Connection", "Proxy-Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade"} {
		h.Del(name)
	}
}

// dropCookies takes the gate's cookies out of a request's Cookie lines.
func dropCookies(h http.Header) {
	lines := h["Cookie"]
	var kept []string
	for _, line := range lines {
		var parts []string
		for _, part := range strings.Split(line, ";") {
			if part = strings.TrimSpace(part); part != "" && !ourCookie(part) {
				parts = append(parts, part)
			}
		}
		if len(parts) > 0 {
			kept = append(kept, strings.Join(parts, "; "))
		}
	}
	if len(kept) == 0 {
		h.Del("Cookie")
		return
	}
	h["Cookie"] = kept
}

// ourCookie reports a pair that is, or that some would read as, a cookie of the
// gate's. A nameless cookie "=a=b" is sent as "a=b" (RFC 6265bis, section 5.8.3).
func ourCookie(pair string) bool {
	pair = strings.ToLower(strings.TrimLeft(pair, " \t="))
	return strings.HasPrefix(pair, "__host-sallyport") || strings.HasPrefix(pair, "__secure-sallyport") || strings.HasPrefix(pair, "sallyport")
}

// cleanAnswer takes out of a target's headers what would reach beyond it.
func cleanAnswer(h http.Header) {
	var short [64]byte
	for name := range h {
		switch p := plain(short[:0], name); {
		case bytes.HasPrefix(p, []byte("sallyport-")), string(p) == "alt-svc", string(p) == "proxy-authenticate", string(p) == "proxy-connection":
			delete(h, name)
		}
	}
	lines := h["Set-Cookie"]
	if len(lines) == 0 {
		return
	}
	kept := make([]string, 0, len(lines))
	for _, line := range lines {
		if !widens(line) {
			kept = append(kept, line)
		}
	}
	if len(kept) == 0 {
		h.Del("Set-Cookie")
		return
	}
	h["Set-Cookie"] = kept
}

// widens reports a cookie for other hosts, or under one of the gate's names.
func widens(line string) bool {
	pair, attributes, _ := strings.Cut(line, ";")
	if ourCookie(pair) || !httpguts.ValidHeaderFieldValue(line) {
		return true
	}
	for _, attribute := range strings.Split(attributes, ";") {
		name, _, _ := strings.Cut(attribute, "=")
		if strings.EqualFold(strings.TrimSpace(name), "domain") {
			return true
		}
	}
	return false
}
