package archtest

import (
	"fmt"
	"go/ast"
	"slices"
	"strings"
	"unicode"
)

// Sizes in lines. They keep one thing in one head; tests are not counted.
const (
	maxFile     = 500
	maxFunction = 90
	maxPackage  = 2000
)

// notUsed are words that say nothing about the thing they name.
var notUsed = []string{"Manager", "Service", "Provider", "Helper", "Util", "Utils", "Base", "Impl"}

// Sizes checks how long files, functions and packages are.
func Sizes(t *Tree) []string {
	var bad []string
	packages := map[string]int{}
	for _, f := range t.Go {
		if f.Test {
			continue
		}
		packages[f.Dir] += f.Lines
		if f.Lines > maxFile {
			bad = append(bad, fmt.Sprintf("%s: %d lines, at most %d: split it by what it is about", f.Path, f.Lines, maxFile))
		}
		for _, d := range f.AST.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if n := t.Fset.Position(fn.End()).Line - t.Fset.Position(fn.Pos()).Line + 1; n > maxFunction {
				bad = append(bad, fmt.Sprintf("%s: %s has %d lines, at most %d: name its steps", t.at(fn), fn.Name.Name, n, maxFunction))
			}
		}
	}
	for dir, n := range packages {
		limit := maxPackage
		if big, ok := bigPackages[dir]; ok {
			limit = big.lines
		}
		if n > limit {
			bad = append(bad, fmt.Sprintf("%s: %d lines, at most %d: a part of it wants to be its own package", dir, n, limit))
		}
	}
	slices.Sort(bad)
	return bad
}

// Words checks what types and packages are called.
func Words(t *Tree) []string {
	var bad []string
	for _, f := range t.Go {
		if !f.Test && slices.Contains([]string{"util", "utils", "helper", "helpers", "common", "base", "misc"}, f.AST.Name.Name) {
			bad = append(bad, fmt.Sprintf("%s: package %s says nothing about what is in it", f.Path, f.AST.Name.Name))
		}
		ast.Inspect(f.AST, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			for _, w := range words(spec.Name.Name) {
				if slices.Contains(notUsed, w) && standardTerms[f.Dir+"."+spec.Name.Name] == "" {
					bad = append(bad, fmt.Sprintf("%s: type %s: %q says nothing about the thing; see the words in docs/architecture.md", t.at(spec), spec.Name.Name, w))
				}
			}
			return true
		})
	}
	return bad
}

// words splits a Go name at its capitals and gives each word a capital.
func words(name string) []string {
	var out []string
	start := 0
	for i, r := range name {
		if i > start && unicode.IsUpper(r) {
			out = append(out, strings.ToUpper(name[start:start+1])+name[start+1:i])
			start = i
		}
	}
	return append(out, strings.ToUpper(name[start:start+1])+name[start+1:])
}

// Hidden checks that nothing runs or lives where a reader does not look: no init, and
// no context kept in a struct, except under a nolint that gives its reason.
func Hidden(t *Tree) []string {
	var bad []string
	for _, f := range t.Go {
		ast.Inspect(f.AST, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				if n.Recv == nil && n.Name.Name == "init" {
					bad = append(bad, fmt.Sprintf("%s: no init: what is built in is an explicit list", t.at(n)))
				}
			case *ast.StructType:
				for _, field := range n.Fields.List {
					if isSelector(field.Type, "context", "Context") && !excused(field.Comment) {
						bad = append(bad, fmt.Sprintf("%s: no context in a struct: pass it", t.at(field)))
					}
				}
			}
			return true
		})
	}
	return bad
}

// excused says whether a comment is a nolint with its reason. Comment.Text would drop it
// as a directive.
func excused(c *ast.CommentGroup) bool {
	return c != nil && slices.ContainsFunc(c.List, func(l *ast.Comment) bool {
		return strings.HasPrefix(l.Text, "//nolint:containedctx // ")
	})
}

func isSelector(e ast.Expr, pkg, name string) bool {
	sel, ok := e.(*ast.SelectorExpr)
	if !ok || sel.Sel.Name != name {
		return false
	}
	x, ok := sel.X.(*ast.Ident)
	return ok && x.Name == pkg
}

// Tests checks that no test skips, and that none sleeps outside of a synctest bubble,
// where the clock is not the real one.
func Tests(t *Tree) []string {
	var bad []string
	for _, f := range t.Go {
		if !f.Test {
			continue
		}
		ast.Inspect(f.AST, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			sel, ok := call.Fun.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if isSelector(sel, "synctest", "Test") {
				return false
			}
			x, _ := sel.X.(*ast.Ident)
			switch {
			case slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, sel.Sel.Name) && x != nil && slices.Contains([]string{"t", "b", "tb"}, x.Name):
				bad = append(bad, fmt.Sprintf("%s: no skipping: a test that skips where it is run proves nothing", t.at(call)))
			case isSelector(sel, "time", "Sleep"):
				bad = append(bad, fmt.Sprintf("%s: no time.Sleep in a test: use testing/synctest, or wait for the event", t.at(call)))
			}
			return true
		})
	}
	return bad
}

// PackageDocs checks that each package says once what it is for.
func PackageDocs(t *Tree) []string {
	docs, dirs := map[string]int{}, map[string]string{}
	for _, f := range t.Go {
		if f.Test || f.Dir == "tools" {
			continue
		}
		dirs[f.Dir] = f.AST.Name.Name
		if doc := f.AST.Doc.Text(); strings.HasPrefix(doc, "Package "+f.AST.Name.Name+" ") || strings.HasPrefix(doc, "Command ") {
			docs[f.Dir]++
		}
	}
	var bad []string
	for dir, name := range dirs {
		if n := docs[dir]; n != 1 {
			bad = append(bad, fmt.Sprintf("%s: %d package comments, want one: say what package %s is for and what it promises", dir, n, name))
		}
	}
	slices.Sort(bad)
	return bad
}
