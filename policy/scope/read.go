package scope

import (
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/sallyport/sallyport/policy/strict"
)

var channelWords = []string{"shell", "exec", "sftp", "forward", "listen", "agent", "x11"}

// Read reads a scope block; b may be nil. what names its rule in sentences.
func Read(f *strict.Findings, b *hclsyntax.Block, what string) Scope {
	if b == nil {
		return Scope{}
	}
	f.Blocks(b, "scope of "+what)
	r := f.Block(b, "scope of "+what)
	s := Scope{ReadOnly: r.Flag("read_only"), Databases: r.List("databases"), Channels: r.List("channels"), Forward: r.List("forward"), Listen: r.List("listen"), Methods: r.List("methods"), Paths: r.List("paths"), Query: r.List("query")}
	r.Done()
	for _, q := range s.Query {
		if name, _, ok := strings.Cut(q, "="); !ok || strings.TrimSuffix(name, "?") == "" || strings.ContainsAny(name, "&;%+*") {
			f.Bad(r.Where("query"), "Not a parameter", "Write \"name=pattern\", or \"name?=pattern\" for one that may be left out.")
		}
	}
	for _, c := range s.Channels {
		if !slices.Contains(channelWords, c) {
			f.Bad(r.Where("channels"), "Unknown word", "channels names some of %s.%s", strings.Join(channelWords, ", "), strict.DidYouMean(c, channelWords))
		}
	}
	for _, p := range s.parts() {
		for _, word := range *p.list {
			if say := odd(p.name, word); say != "" {
				f.Bad(r.Where(p.name), "Never matches", "%q never matches: %s.", word, say)
			}
		}
	}
	if len(s.Forward) > 0 && !slices.Contains(s.Channels, "forward") {
		f.Bad(r.Where("forward"), "Never used", "forward names destinations, but channels has no \"forward\".")
	}
	if slices.Contains(s.Channels, "forward") && len(s.Forward) == 0 {
		f.Bad(r.Where("channels"), "To everywhere", "The channel forward needs forward = [\"host:port\"].")
	}
	if len(s.Listen) > 0 && !slices.Contains(s.Channels, "listen") {
		f.Bad(r.Where("listen"), "Never used", "listen names places, but channels has no \"listen\".")
	}
	if slices.Contains(s.Channels, "listen") && len(s.Listen) == 0 {
		f.Bad(r.Where("channels"), "Anywhere", "The channel listen needs listen = [\"host:port\"].")
	}
	return s
}
