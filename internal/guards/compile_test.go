package guards

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"
)

// Every guard compiles with it off. A trial would say so too, but there are so many that
// a check tries only some of them.
func TestEveryGuardCompilesWithItOff(t *testing.T) {
	c, err := newCompiler("../..")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.check(Guard{File: "identity/token.go", Text: "if len(t) != tokenLength {", Off: "if len(t) != nobody {"}); err == nil {
		t.Error("what does not compile is not noticed")
	}
	if err := c.check(Canary()); err != nil {
		t.Errorf("canary: %v", err)
	}
	for _, g := range All() {
		if path.Ext(g.File) != ".go" {
			continue
		}
		if err := c.check(g); err != nil {
			t.Errorf("%s: %v", g.Name, err)
		}
	}
}

// A compiler checks the types of the tree's packages as they would be with a guard off.
type compiler struct {
	root     string
	fset     *token.FileSet
	importer types.Importer
	packages map[string]source // by folder, from the root
}

// source is what a package is made of, without its tests.
type source struct {
	name  string
	files map[string]*ast.File
}

func newCompiler(root string) (*compiler, error) {
	cmd := exec.Command("go", "list", "-export", "-deps", "-json=ImportPath,Dir,Export,GoFiles,Module", "./...")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	c := &compiler{root: root, fset: token.NewFileSet(), packages: map[string]source{}}
	exports := map[string]string{}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			ImportPath, Dir, Export string
			GoFiles                 []string
			Module                  *struct {
				Main bool
				Dir  string
			}
		}
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		exports[p.ImportPath] = p.Export
		if p.Module == nil || !p.Module.Main {
			continue
		}
		folder, err := filepath.Rel(p.Module.Dir, p.Dir)
		if err != nil {
			return nil, err
		}
		s := source{name: p.ImportPath, files: map[string]*ast.File{}}
		for _, f := range p.GoFiles {
			if s.files[f], err = parser.ParseFile(c.fset, filepath.Join(p.Dir, f), nil, parser.SkipObjectResolution); err != nil {
				return nil, err
			}
		}
		c.packages[filepath.ToSlash(folder)] = s
	}
	c.importer = importer.ForCompiler(c.fset, "gc", func(name string) (io.ReadCloser, error) {
		return os.Open(exports[name])
	})
	return c, nil
}

// check gives the first few errors of the guard's package with the guard off.
func (c *compiler) check(g Guard) error {
	text, err := g.Find(c.root)
	if err != nil {
		return err
	}
	s, ok := c.packages[path.Dir(g.File)]
	if !ok || s.files[path.Base(g.File)] == nil {
		return fmt.Errorf("%s is in no package that is built here", g.File)
	}
	changed, err := parser.ParseFile(c.fset, g.File, text, parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	files := []*ast.File{changed}
	for name, f := range s.files {
		if name != path.Base(g.File) {
			files = append(files, f)
		}
	}
	var wrong []string
	conf := types.Config{Importer: c.importer, Error: func(err error) { wrong = append(wrong, err.Error()) }}
	if _, err := conf.Check(s.name, c.fset, files, nil); err != nil {
		return errors.New(strings.Join(wrong[:min(len(wrong), 3)], "; "))
	}
	return nil
}
