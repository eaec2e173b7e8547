package archtest

import (
	"fmt"
	"go/ast"
	"path"
	"slices"
	"strings"
)

// imports is the table of docs/architecture.md. Each package may import what its line
// names and nothing else of ours; internal/ packages are open to all, except those in
// onlyFor. A package without a line is a violation: whoever adds one says here where
// it stands.
var imports = []struct {
	from string // a folder, or a path.Match pattern
	may  []string
	why  string
}{
	{"cmd/*", []string{"**"}, "the command wires everything"},
	{"cmd/*/*", []string{"audit", "config", "credential", "identity", "identity/oidc", "policy", "policy/*", "session"}, "a part of the command starts nothing"},
	{"config", []string{"audit", "credential", "identity", "identity/oidc", "notify", "policy", "policy/bundle", "proxy", "session", "store"}, "config fills each package's own Config"},
	{"protocols", []string{"protocols/*", "proxy"}, "protocols is the list of what is built in"},
	{"protocols/http", []string{"audit", "credential", "identity", "policy", "protocols/http/*", "proxy", "session"}, "a protocol knows its wire, its own parts, the gate and nothing that stores, configures or shows"},
	{"protocols/*/*", []string{"audit", "proxy"}, "a part of a protocol knows bytes and their record"},
	{"protocols/*", []string{"audit", "credential", "identity", "policy", "proxy", "session"}, "a protocol knows its wire, the gate and nothing that stores, configures or shows"},
	{"proxy", []string{"policy", "session"}, "proxy owns connections and knows no wire language"},
	{"proxy/proxytest", []string{"**"}, "the trials of every protocol, on a whole gate"},
	{"session", []string{"audit", "credential", "identity", "policy", "session/outbox"}, "the gate is above policy, audit and credential, and below everything that reaches people"},
	{"session/outbox", []string{"audit"}, "the way from store to log knows neither rules nor people"},
	{"policy", []string{"identity", "policy/*"}, "policy is pure: users in, decisions out"},
	{"policy/author", []string{"identity", "policy", "policy/*"}, "what authors of rules use stands on the policy that runs, and adds nothing to it"},
	{"policy/*", []string{"identity", "policy/*"}, "policy is pure: users in, decisions out"},
	{"audit", nil, "the log knows no product words but its own"},
	{"identity", nil, "nouns import nothing of ours"},
	{"identity/oidc", []string{"identity"}, "the relying party turns tokens into users"},
	{"credential", nil, "a secret knows nobody"},
	{"credential/*", []string{"credential"}, "a source of secrets knows secrets"},
	{"store", []string{"audit", "identity", "policy", "session"}, "store keeps the gate's nouns"},
	{"notify", []string{"audit", "credential", "identity", "session"}, "notify carries what the gate says to people"},
	{"web", []string{"audit", "identity", "identity/oidc", "policy", "session"}, "web is pages over the gate"},
	{"internal/demo", []string{"**"}, "the demo is the whole product in one process"},
	{"internal/bench", []string{"**"}, "the whole product beside a direct connection"},
	{"internal/demorun", []string{"internal/devidp"}, "people sign in at the demo as browsers do"},
	{"internal/e2e", []string{"**"}, "end-to-end tests may look at everything"},
	{"internal/gatetest", []string{"audit", "credential", "identity", "identity/oidc", "internal/devidp", "policy", "policy/*", "session", "store"}, "a whole gate for tests, without protocols and pages"},
	{"internal/devidp", []string{"identity"}, "the demo's OIDC provider is on the other side of the wire"},
	{"internal/*", nil, "internal packages carry no product word"},
	{"internal/*/*", []string{"internal/*"}, "internal packages carry no product word"},
}

// onlyFor names internal packages that not everybody may use.
var onlyFor = map[string][]string{
	"internal/demo":     {"cmd/sallyport", "internal/e2e", "internal/bench"},
	"internal/devidp":   {"internal/demo", "internal/demorun", "internal/e2e", "internal/gatetest"},
	"internal/e2e":      nil,
	"internal/gatetest": {"proxy/proxytest"},
}

// protocolNouns is what a protocol may take from these packages: nouns that the gate
// hands it, never a way to decide, to load rules or to make a secret. ReadFile is for the
// listener's own key files: it refuses what others can read.
var protocolNouns = map[string][]string{
	"policy":     {"Scope", "Target", "Role", "TLS", "Problem"},
	"credential": {"Secret", "ReadFile"},
}

// testOnly are packages that only tests may import, and packages made for them.
var testOnly = map[string]bool{"proxy/proxytest": true, "internal/chromiumtest": true}

// Imports checks the import table, and that protocols take only nouns from policy and
// credential. Test files may import what they like of the packages below cmd.
func Imports(t *Tree) []string {
	var bad []string
	for _, f := range t.Go {
		for _, spec := range f.AST.Imports {
			to, ok := t.local(spec)
			if !ok || to == f.Dir {
				continue
			}
			if why := mayImport(f, to); why != "" {
				bad = append(bad, fmt.Sprintf("%s: %s must not import %s: %s", t.at(spec), f.Dir, to, why))
			}
		}
		if m, _ := path.Match("protocols/*", f.Dir); m && !f.Test {
			bad = append(bad, t.nouns(f)...)
		}
	}
	return bad
}

// mayImport gives the reason why a file may not import a folder, or nothing.
func mayImport(f *GoFile, to string) string {
	if strings.HasPrefix(to, "cmd/") && !strings.HasPrefix(to, f.Dir+"/") {
		return "cmd is the top, and its parts are its own"
	}
	if f.Test {
		return ""
	}
	if testOnly[to] {
		return "it is for tests only"
	}
	if only, ok := onlyFor[to]; ok && !slices.Contains(only, f.Dir) {
		return "it is for " + strings.Join(append(only, "tests"), ", ") + " only"
	}
	if _, ok := onlyFor[to]; !ok && strings.HasPrefix(to, "internal/") {
		return ""
	}
	for _, row := range imports {
		if m, _ := path.Match(row.from, f.Dir); !m {
			continue
		}
		for _, may := range row.may {
			if m, _ := path.Match(may, to); m || may == "**" {
				return ""
			}
		}
		return row.why
	}
	return f.Dir + " has no line in the import table"
}

// nouns checks what a protocol's file takes from policy and credential.
func (t *Tree) nouns(f *GoFile) []string {
	names := map[string]string{}
	for _, spec := range f.AST.Imports {
		if to, ok := t.local(spec); ok && protocolNouns[to] != nil {
			name := path.Base(to)
			if spec.Name != nil {
				name = spec.Name.Name
			}
			names[name] = to
		}
	}
	var bad []string
	ast.Inspect(f.AST, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if x, ok := sel.X.(*ast.Ident); ok && names[x.Name] != "" && !slices.Contains(protocolNouns[names[x.Name]], sel.Sel.Name) {
			bad = append(bad, fmt.Sprintf("%s: a protocol takes only nouns from %s, not %s: what is decided or secret comes from the gate", t.at(sel), x.Name, sel.Sel.Name))
		}
		return true
	})
	return bad
}
