package http

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/session"
)

// inForm refuses requests that somebody behind us could read in another way than we do.
func inForm(r *http.Request, s *site) error {
	switch {
	case r.Method == http.MethodConnect || r.Method == http.MethodTrace:
		return bad("the method " + r.Method + " does not pass this gate")
	case r.RequestURI == "*":
		return bad("asterisk-form requests do not pass this gate")
	case r.URL.Host != "" || r.URL.Scheme != "" || !strings.HasPrefix(r.RequestURI, "/"):
		return bad("send the path alone in the request line")
	case len(r.Header.Values("Host")) > 0: // HTTP/2 may have one beside :authority
		return bad("there are two hosts")
	case r.URL.RequestURI() != r.RequestURI:
		return bad("this address is not in its normal form")
	}
	if err := upgrade(r); err != nil {
		return err
	}
	return plainPath(r.URL.EscapedPath(), s.LoosePaths)
}

// upgrade refuses every change of protocol but to websocket.
func upgrade(r *http.Request) error {
	asked := r.Header.Values("Upgrade")
	if len(asked) == 0 && !httpguts.HeaderValuesContainsToken(r.Header.Values("Connection"), "upgrade") && len(r.Header.Values("Http2-Settings")) == 0 {
		return nil
	}
	if len(asked) != 1 || !strings.EqualFold(asked[0], "websocket") || r.Method != http.MethodGet || r.ProtoMajor != 1 ||
		!httpguts.HeaderValuesContainsToken(r.Header.Values("Connection"), "upgrade") || r.ContentLength != 0 {
		return bad("the only upgrade that passes this gate is websocket")
	}
	return nil
}

func isWebsocket(r *http.Request) bool { return len(r.Header.Values("Upgrade")) == 1 }

// plainPath refuses paths that different programs read in different ways. path is as
// it came, percent-encoded.
func plainPath(path string, loose bool) error {
	lower := strings.ToLower(path)
	switch {
	case strings.ContainsFunc(path, func(c rune) bool { return c <= ' ' || c >= 0x7f || c == '\\' }):
		return bad("the path has signs that must be percent-encoded")
	case strings.Contains(lower, "%00"), strings.Contains(lower, "%0a"), strings.Contains(lower, "%0d"):
		return bad("the path has encoded control characters")
	case strings.Contains(lower, "%25"):
		if !loose {
			return bad("the path is encoded twice")
		}
	}
	if !loose && (strings.Contains(lower, "%2f") || strings.Contains(lower, "%5c")) {
		return bad("the path has encoded slashes")
	}
	if !loose && overlong(path) {
		return bad("the path has signs that are encoded longer than they are")
	}
	segments := strings.Split(strings.ReplaceAll(strings.ReplaceAll(strings.ReplaceAll(lower, "%2f", "/"), "%5c", "/"), "%2e", "."), "/")
	for i, segment := range segments[1:] {
		name, _, _ := strings.Cut(strings.ReplaceAll(segment, "%3b", ";"), ";") // path parameters hide dots from some
		switch {
		case name == "." || name == "..":
			return bad("the path has dot segments")
		case segment == "" && i < len(segments)-2 && !loose:
			return bad("the path has empty segments")
		}
	}
	return nil
}

// overlong reports UTF-8 of more bytes than a sign needs (RFC 3629, section 3): decoders
// that take it read a dot or a slash where others see none.
func overlong(path string) bool {
	plain, err := url.PathUnescape(path)
	if err != nil {
		return true
	}
	for i := 1; i < len(plain); i++ {
		lead, next := plain[i-1], plain[i]
		if next&0xc0 == 0x80 && (lead == 0xc0 || lead == 0xc1 || lead == 0xe0 && next < 0xa0 || lead == 0xf0 && next < 0x90) {
			return true
		}
	}
	return false
}

// within holds a request to the grant's scope.
func within(scope policy.Scope, r *http.Request) error {
	socket := isWebsocket(r)
	word := r.Method
	if socket {
		word = "WEBSOCKET"
	}
	switch {
	case scope.ReadOnly && (socket || r.Method != http.MethodGet && r.Method != http.MethodHead && r.Method != http.MethodOptions):
		return outside("your grant is read-only, and " + word + " may write")
	case len(scope.Methods) > 0 && !slices.Contains(scope.Methods, word):
		return outside("your grant does not have the method " + word)
	}
	if err := inQuery(scope.Query, r.URL.RawQuery); err != nil {
		return err
	}
	if len(scope.Paths) == 0 {
		return nil
	}
	path := r.URL.EscapedPath()
	if err := plainPath(path, false); err != nil {
		return err
	}
	for _, pattern := range scope.Paths {
		if matches(pattern, path) {
			return nil
		}
	}
	return outside("your grant does not have this path")
}

// matches compares a path, as it came, with a pattern of a scope.
func matches(pattern, path string) bool {
	rest, prefix := strings.CutSuffix(pattern, "/**")
	want, have := strings.Split(rest, "/"), strings.Split(path, "/")
	if prefix && len(have) <= len(want) || !prefix && len(have) != len(want) {
		return false
	}
	for i, segment := range want {
		if !glob(segment, have[i]) {
			return false
		}
	}
	return true
}

// glob compares one segment, where * is any run of bytes.
func glob(pattern, s string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == s
	}
	if !strings.HasPrefix(s, parts[0]) {
		return false
	}
	s = s[len(parts[0]):]
	last := parts[len(parts)-1]
	for _, part := range parts[1 : len(parts)-1] {
		i := strings.Index(s, part)
		if i < 0 {
			return false
		}
		s = s[i+len(part):]
	}
	return strings.HasSuffix(s, last)
}

func bad(say string) error { return &refusal{status: http.StatusBadRequest, say: say} }

func outside(say string) error {
	return &refusal{status: http.StatusForbidden, say: say, ask: true, err: &session.Denied{Reason: say}}
}
