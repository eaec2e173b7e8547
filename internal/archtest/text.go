package archtest

import (
	"bytes"
	"fmt"
	"go/ast"
	"regexp"
	"slices"
	"strings"
)

// top is what may stand at the root.
var top = []string{
	"cmd/", "proxy/", "protocols/", "session/", "policy/", "audit/", "web/",
	"identity/", "credential/", "store/", "notify/", "config/", "internal/", "docs/",
	"tools/", "scripts/", "changelog.d/", ".ci/", "testdata/",
	"go.mod", "go.sum", "proxy.example.hcl", "Makefile", "package.json", "package-lock.json",
	"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "LICENSE",
	".gitignore", ".gitattributes", ".editorconfig", ".golangci.yml",
}

// Top checks that the root holds what docs/architecture.md says and nothing else.
func Top(t *Tree) []string {
	var bad []string
	for _, name := range t.Top {
		if !slices.Contains(top, name) {
			bad = append(bad, name+": not in the tree of docs/architecture.md")
		}
	}
	for _, name := range []string{"cmd/", "proxy/", "protocols/", "session/", "policy/", "audit/", "web/", "go.mod", "proxy.example.hcl"} {
		if !slices.Contains(t.Top, name) {
			bad = append(bad, name+": missing from the tree")
		}
	}
	return bad
}

// machine finds what is true on one machine only. Hosts are put together here, so that
// this file does not name them.
var machine = regexp.MustCompile(`(^|[^\w.$}/-])/(work|root)/|` + strings.Join([]string{
	`proxy\.` + `golang\.org`, `sum\.` + `golang\.org`, `registry\.` + `npmjs\.org`, `deb\.` + `debian\.org`, `security\.` + `debian\.org`,
}, "|"))

// Machine checks that no text names one machine's paths or a package registry's host:
// it would be wrong on the next machine, and a mirror would be bypassed.
func Machine(t *Tree) []string {
	var bad []string
	for p, data := range t.Texts {
		for i, line := range bytes.Split(data, []byte("\n")) {
			if m := machine.Find(line); m != nil {
				bad = append(bad, fmt.Sprintf("%s:%d: %q is true on one machine only", p, i+1, m))
			}
		}
	}
	slices.Sort(bad)
	return bad
}

// Example checks that a test of config loads the example configuration.
func Example(t *Tree) []string {
	for _, f := range t.Go {
		if f.Dir == "config" && f.Test && bytes.Contains(t.Texts[f.Path], []byte("proxy.example.hcl")) {
			return nil
		}
	}
	return []string{"config: no test loads proxy.example.hcl, so it can rot"}
}

// row finds a module path in the first cell of a table's line.
var row = regexp.MustCompile("(?m)^\\| `([^`]+)`")

// Dependencies checks that docs/dependencies.md gives a reason for each module that
// go.mod requires directly, and for no other.
func Dependencies(t *Tree) []string {
	const page = "docs/dependencies.md"
	said := map[string]bool{}
	for _, m := range row.FindAllSubmatch(t.Texts[page], -1) {
		said[string(m[1])] = true
	}
	var bad []string
	for _, m := range t.Direct {
		if !said[m] {
			bad = append(bad, page+": no line for "+m+": say what it is for and why not the standard library")
		}
		delete(said, m)
	}
	for m := range said {
		bad = append(bad, page+": has a line for "+m+", which go.mod does not require directly")
	}
	slices.Sort(bad)
	return bad
}

// testName finds a test that a page names.
var testName = regexp.MustCompile("`((?:Test|Fuzz)[A-Z][A-Za-z0-9]*)`")

// NamedTests checks that the tests which pages name are there: a page of proofs must not
// outlive them.
func NamedTests(t *Tree) []string {
	there := map[string]bool{}
	for _, f := range t.Go {
		if f.Test {
			for _, d := range f.AST.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok {
					there[fn.Name.Name] = true
				}
			}
		}
	}
	var bad []string
	for page, text := range t.Texts {
		if !strings.HasSuffix(page, ".md") {
			continue
		}
		for _, m := range testName.FindAllSubmatch(text, -1) {
			if !there[string(m[1])] {
				bad = append(bad, page+": there is no test "+string(m[1]))
			}
		}
	}
	slices.Sort(bad)
	return bad
}
