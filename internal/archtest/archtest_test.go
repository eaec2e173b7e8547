package archtest

import (
	"go/ast"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

var rules = []struct {
	name  string
	rule  func(*Tree) []string
	wrong []wrong
}{
	{"imports", Imports, []wrong{
		{"imports", map[string]string{"protocols/mysql/a.go": "package mysql\nimport _ \"example.com/m/store\"\n"}, "protocols/mysql must not import store"},
		{"imports unknown", map[string]string{"extra/a.go": "package extra\nimport _ \"example.com/m/session\"\n"}, "no line in the import table"},
		{"imports cmd", map[string]string{"web/a_test.go": "package web\nimport _ \"example.com/m/cmd/sallyport\"\n"}, "cmd is the top"},
		{"imports config", map[string]string{"session/a.go": "package session\nimport _ \"example.com/m/config\"\n"}, "session must not import config"},
		{"imports devidp", map[string]string{"web/a.go": "package web\nimport _ \"example.com/m/internal/devidp\"\n"}, "internal/demo, internal/demorun, internal/e2e, internal/gatetest, tests only"},
		{"imports nouns", map[string]string{"protocols/mysql/a.go": "package mysql\nimport \"example.com/m/credential\"\nvar x = credential.New()\n"}, "only nouns from credential, not New"},
	}},
	{"sizes", Sizes, []wrong{
		{"file size", map[string]string{"web/a.go": "package web\n" + strings.Repeat("\n", 500)}, "web/a.go: 501 lines"},
		{"function size", map[string]string{"web/a.go": "package web\nfunc f() {" + strings.Repeat("\n", 90) + "}\n"}, "f has 91 lines"},
		{"package size", map[string]string{"x/a.go": "package x\n" + strings.Repeat("\n", 499), "x/b.go": "package x\n" + strings.Repeat("\n", 499), "x/c.go": "package x\n" + strings.Repeat("\n", 499), "x/d.go": "package x\n" + strings.Repeat("\n", 499), "x/e.go": "package x\n"}, "x: 2001 lines"},
	}},
	{"words", Words, []wrong{
		{"words", map[string]string{"web/a.go": "package web\ntype requestManager struct{}\n"}, `"Manager" says nothing`},
		{"words package", map[string]string{"web/utils/a.go": "package utils\n"}, "package utils says nothing"},
	}},
	{"hidden", Hidden, []wrong{
		{"init", map[string]string{"web/a.go": "package web\nfunc init() {}\n"}, "no init"},
		{"context", map[string]string{"web/a.go": "package web\nimport \"context\"\ntype s struct{ ctx context.Context }\n"}, "no context in a struct"},
	}},
	{"tests", Tests, []wrong{
		{"skip", map[string]string{"web/a_test.go": "package web\nimport \"testing\"\nfunc TestA(t *testing.T) { t.Skip() }\n"}, "no skipping"},
		{"sleep", map[string]string{"web/a_test.go": "package web\nimport \"time\"\nfunc f() { time.Sleep(1) }\n"}, "no time.Sleep"},
	}},
	{"package docs", PackageDocs, []wrong{
		{"package docs", map[string]string{"web/a.go": "package web\n"}, "web: 0 package comments"},
	}},
	{"top", Top, []wrong{
		{"top", map[string]string{"pkg/a.go": "package pkg\n"}, "pkg/: not in the tree"},
		{"top missing", map[string]string{"cmd/a.go": "package cmd\n"}, "audit/: missing from the tree"},
	}},
	{"machine", Machine, []wrong{
		{"machine path", map[string]string{"docs/a.md": "see /ro" + "ot/go"}, "one machine only"},
		{"machine host", map[string]string{"docs/a.md": "see proxy." + "golang.org"}, "one machine only"},
	}},
	{"example", Example, []wrong{
		{"example", map[string]string{"config/a_test.go": "package config\n"}, "no test loads"},
	}},
	{"named tests", NamedTests, []wrong{
		{"named test", map[string]string{"docs/a.md": "see `TestGone`"}, "docs/a.md: there is no test TestGone"},
	}},
	{"dependencies", Dependencies, []wrong{
		{"dependencies", map[string]string{"docs/dependencies.md": "| `example.com/gone` | x |\n"}, "no line for example.com/used"},
		{"dependencies gone", map[string]string{"docs/dependencies.md": "| `example.com/used` | x |\n| `example.com/gone` | x |\n"}, "has a line for example.com/gone"},
	}},
}

// wrong is a tree that a rule must refuse, and what it must say.
type wrong struct {
	name  string
	files map[string]string
	want  string
}

func TestTree(t *testing.T) {
	tree, err := Load(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	if len(tree.Go) < 50 {
		t.Fatalf("read %d Go files: this is not the whole tree", len(tree.Go))
	}
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) {
			for _, sentence := range r.rule(tree) {
				t.Error(sentence)
			}
		})
	}
}

func TestRules(t *testing.T) {
	for _, r := range rules {
		for _, w := range r.wrong {
			t.Run(w.name, func(t *testing.T) {
				f := fstest.MapFS{"go.mod": {Data: []byte("module example.com/m\n\ngo 1.26\n\nrequire example.com/used v1.0.0\n")}}
				for p, text := range w.files {
					f[p] = &fstest.MapFile{Data: []byte(text)}
				}
				tree, err := Load(f)
				if err != nil {
					t.Fatal(err)
				}
				said := r.rule(tree)
				if !slices.ContainsFunc(said, func(s string) bool { return strings.Contains(s, w.want) }) {
					t.Errorf("nothing said %q; it said %q", w.want, said)
				}
			})
		}
	}
}

func TestExceptions(t *testing.T) {
	tree, err := Load(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	lines := map[string]int{}
	for _, f := range tree.Go {
		if !f.Test {
			lines[f.Dir] += f.Lines
		}
	}
	for dir, big := range bigPackages {
		if lines[dir] <= maxPackage {
			t.Errorf("%s: needs no exception any more", dir)
		}
		if big.why == "" {
			t.Errorf("%s: an exception without a reason", dir)
		}
	}
	types := map[string]bool{}
	for _, f := range tree.Go {
		ast.Inspect(f.AST, func(n ast.Node) bool {
			if spec, ok := n.(*ast.TypeSpec); ok {
				types[f.Dir+"."+spec.Name.Name] = true
			}
			return true
		})
	}
	for name, why := range standardTerms {
		if !types[name] || why == "" {
			t.Errorf("%s: an exception without a type or a reason", name)
		}
	}
}

// The parts that the Makefile asks scripts/setup.sh for are parts that it knows: else make
// demo ends at its first line.
func TestSetupKnowsItsParts(t *testing.T) {
	makefile, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	script, err := os.ReadFile("../../scripts/setup.sh")
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	for line := range strings.Lines(string(makefile)) {
		_, parts, found := strings.Cut(line, "scripts/setup.sh ")
		if !found {
			continue
		}
		for _, part := range strings.Fields(parts) {
			asked++
			if !strings.Contains(string(script), "\n\t"+part+")\n") {
				t.Errorf("the Makefile asks for the part %q, which scripts/setup.sh does not know", part)
			}
		}
	}
	if asked < 3 {
		t.Errorf("the Makefile asks for %d parts: this test sees nothing", asked)
	}
}
