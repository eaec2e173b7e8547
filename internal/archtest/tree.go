package archtest

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"strings"

	"golang.org/x/mod/modfile"
)

// A Tree is the repository, read once.
type Tree struct {
	Module string // the module path of go.mod
	Direct []string
	Top    []string // names at the root, folders with a final slash
	Go     []*GoFile
	Texts  map[string][]byte // every file that is text, by path
	Fset   *token.FileSet
}

// A GoFile is one parsed Go file.
type GoFile struct {
	Path  string // slash separated, from the root
	Dir   string // the package's folder, "." for the root
	Test  bool
	Lines int
	AST   *ast.File
}

// skipped are folders that hold nothing of ours.
var skipped = map[string]bool{".git": true, "bin": true, "node_modules": true, "testdata": true}

// Load reads the repository at the root of f.
func Load(f fs.FS) (*Tree, error) {
	t := &Tree{Texts: map[string][]byte{}, Fset: token.NewFileSet()}
	err := fs.WalkDir(f, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && skipped[d.Name()] {
			return fs.SkipDir
		}
		if p == ".git" { // a file, in a linked worktree
			return nil
		}
		if p != "." && !strings.Contains(p, "/") {
			name := p
			if d.IsDir() {
				name += "/"
			}
			t.Top = append(t.Top, name)
		}
		if !d.Type().IsRegular() {
			return nil
		}
		return t.add(f, p)
	})
	if err != nil {
		return nil, fmt.Errorf("read the tree: %w", err)
	}
	mod, err := modfile.Parse("go.mod", t.Texts["go.mod"], nil)
	if err != nil || mod.Module == nil {
		return nil, fmt.Errorf("read go.mod: %w", err)
	}
	t.Module = mod.Module.Mod.Path
	for _, r := range mod.Require {
		if !r.Indirect {
			t.Direct = append(t.Direct, r.Mod.Path)
		}
	}
	return t, nil
}

func (t *Tree) add(f fs.FS, p string) error {
	data, err := fs.ReadFile(f, p)
	if err != nil {
		return err
	}
	if bytes.IndexByte(data, 0) >= 0 {
		return nil
	}
	t.Texts[p] = data
	if !strings.HasSuffix(p, ".go") {
		return nil
	}
	tree, err := parser.ParseFile(t.Fset, p, data, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	t.Go = append(t.Go, &GoFile{
		Path: p, Dir: path.Dir(p), AST: tree,
		Test:  strings.HasSuffix(p, "_test.go"),
		Lines: bytes.Count(data, []byte("\n")),
	})
	return nil
}

// local gives an import's folder in this module, and whether it is in it.
func (t *Tree) local(spec *ast.ImportSpec) (string, bool) {
	return strings.CutPrefix(strings.Trim(spec.Path.Value, `"`), t.Module+"/")
}

// at names a place as path:line.
func (t *Tree) at(n ast.Node) string {
	p := t.Fset.Position(n.Pos())
	return fmt.Sprintf("%s:%d", p.Filename, p.Line)
}
