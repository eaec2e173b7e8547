package record

import (
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/sallyport/sallyport/audit"
)

// Bounds of Options.Largest, in bytes.
const (
	standardLargest = 64 << 10
	mostLargest     = 1 << 20
)

// Options is the `record` block of a target's options in the signed policy.
type Options struct {
	// Headers are recorded of requests and answers. Cookies and credentials show as hidden.
	Headers []string `hcl:"headers,optional"`
	// Bodies are the media types whose bodies are recorded: "application/json", "text/*",
	// "*/*". A body without a type is "application/octet-stream".
	Bodies []string `hcl:"bodies,optional"`
	// Messages has the messages of websockets recorded; default: their frames are counted.
	Messages bool `hcl:"messages,optional"`
	// Largest is how many bytes are kept of one body or message. Default: 65536; at most
	// 1048576. What is longer has its beginning, its size and its SHA-256 on the record.
	Largest int `hcl:"largest,optional"`
	// Secrets are names whose values are not recorded: fields of JSON and of forms,
	// parameters of the query, headers. Capitals make no difference, and user[password]
	// and user.password are named by "password".
	Secrets []string `hcl:"secrets,optional"`
}

// Flaws calls bad for each option that says nothing that could be done.
func (o Options) Flaws(bad func(option, say string)) {
	for _, name := range o.Headers {
		if !httpguts.ValidHeaderFieldName(name) {
			bad("headers", fmt.Sprintf("%q is no name of a header.", name))
		}
	}
	for _, kind := range o.Bodies {
		if main, sub, ok := strings.Cut(kind, "/"); !ok || !mediaWord(main) || !mediaWord(sub) || main == "*" && sub != "*" {
			bad("bodies", fmt.Sprintf("%q is no media type; write \"application/json\", \"text/*\" or \"*/*\".", kind))
		}
	}
	if o.Largest < 0 || o.Largest > mostLargest {
		bad("largest", fmt.Sprintf("largest is a number of bytes, at most %d.", mostLargest))
	}
	if slices.Contains(o.Secrets, "") {
		bad("secrets", "A secret has a name.")
	}
}

func mediaWord(s string) bool { return s == "*" || httpguts.ValidHeaderFieldName(s) }

// Rules are Options that can be followed. They are safe for many goroutines.
type Rules struct{ o Options }

// New makes the rules; nil asks for nothing beside the request lines.
func New(o *Options) *Rules {
	r := &Rules{}
	if o != nil {
		r.o = *o
	}
	if r.o.Largest == 0 {
		r.o.Largest = standardLargest
	}
	return r
}

// Messages reports that the messages of websockets are recorded.
func (r *Rules) Messages() bool { return r.o.Messages }

// Bodies reports that some bodies are recorded.
func (r *Rules) Bodies() bool { return len(r.o.Bodies) > 0 }

// hidden stands in the place of a secret.
const hidden = "(hidden)"

// secret reports that a name, or a part of one such as user[password], is of a secret.
func (r *Rules) secret(name string) bool {
	if len(r.o.Secrets) == 0 {
		return false
	}
	parts := append(strings.FieldsFunc(name, func(c rune) bool { return c == '[' || c == ']' || c == '.' }), name)
	return slices.ContainsFunc(parts, func(part string) bool {
		return slices.ContainsFunc(r.o.Secrets, func(s string) bool { return strings.EqualFold(s, part) })
	})
}

// credentials are headers whose values are nobody's to read.
var credentials = []string{"Authorization", "Proxy-Authorization", "Cookie", "Set-Cookie", "Sallyport-Identity"}

// Headers are those of h that are recorded.
func (r *Rules) Headers(h http.Header) (kept []audit.Header) {
	for _, name := range r.o.Headers {
		name = http.CanonicalHeaderKey(name)
		for _, value := range h[name] {
			if r.secret(name) || slices.Contains(credentials, name) {
				value = hidden
			}
			kept = append(kept, audit.Header{Name: name, Value: value})
		}
	}
	return kept
}

// Path is path and query as they came, without the values of secrets.
func (r *Rules) Path(u *url.URL) string {
	if len(r.o.Secrets) == 0 || u.RawQuery == "" {
		return u.RequestURI()
	}
	query, _ := r.form(u.RawQuery)
	return u.EscapedPath() + "?" + query
}

// wants reports that the body that comes with these headers is recorded, and its type.
func (r *Rules) wants(h http.Header) (kind string, wanted bool) {
	kind = "application/octet-stream"
	if text := h.Get("Content-Type"); text != "" {
		kind = strings.ToLower(strings.TrimSpace(text))
		if parsed, _, err := mime.ParseMediaType(text); err == nil {
			kind = parsed
		} else {
			kind, _, _ = strings.Cut(kind, ";")
		}
	}
	return kind, slices.ContainsFunc(r.o.Bodies, func(pattern string) bool {
		main, sub, _ := strings.Cut(strings.ToLower(pattern), "/")
		haveMain, haveSub, _ := strings.Cut(kind, "/")
		return (main == "*" || main == haveMain) && (sub == "*" || sub == haveSub)
	})
}
