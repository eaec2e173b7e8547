package guards

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"math/rand/v2"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

// Named keeps the guards with this name, or whose name begins with it at a dot or slash.
func Named(all []Guard, name string) []Guard {
	return keep(all, func(g Guard) bool {
		rest, ok := strings.CutPrefix(g.Name, name)
		return ok && (rest == "" || rest[0] == '.' || rest[0] == '/')
	})
}

// Changed keeps the guards whose file, whose entry in a list or a test file beside whose
// test differs between the commit base and the work tree at root, where new files count
// before they are added.
func Changed(all []Guard, root, base string) ([]Guard, error) {
	differ, err := git(root, "diff", "--name-only", base, "--")
	if err != nil {
		return nil, fmt.Errorf("what changed since %s: %w", base, err)
	}
	others, err := git(root, "ls-files", "--others", "--exclude-standard")
	if err != nil {
		return nil, err
	}
	files, tests := map[string]bool{}, map[string]bool{}
	before, now := map[Guard]bool{}, map[Guard]bool{}
	for _, f := range strings.Fields(string(differ) + string(others)) {
		files[f] = true
		if strings.HasSuffix(f, "_test.go") {
			tests["./"+path.Dir(f)] = true
		}
		if ok, _ := path.Match("internal/guards/list_*.go", f); !ok {
			continue
		}
		if text, err := git(root, "show", base+":"+f); err == nil { // it was there
			listed(text, before)
		}
		if text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(f))); err == nil {
			listed(text, now)
		}
	}
	return keep(all, func(g Guard) bool { return files[g.File] || tests[g.Package] || now[g] && !before[g] }), nil
}

func git(root string, args ...string) ([]byte, error) {
	cmd := exec.Command("git", args...)
	cmd.Dir = root
	return cmd.Output()
}

// listed adds the entries of a list's source.
func listed(source []byte, to map[Guard]bool) {
	file, err := parser.ParseFile(token.NewFileSet(), "", source, parser.SkipObjectResolution)
	if err != nil {
		return
	}
	ast.Inspect(file, func(n ast.Node) bool {
		entry, ok := n.(*ast.CompositeLit)
		if !ok || len(entry.Elts) != 7 {
			return true
		}
		var s [7]string
		for i, e := range entry.Elts {
			s[i] = spelled(e)
		}
		to[Guard{s[0], s[1], s[2], s[3], s[4], s[5], s[6]}] = true
		return false
	})
}

// spelled is a string that stands in one piece, or in pieces with + between them.
func spelled(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		s, _ := strconv.Unquote(e.Value)
		return s
	case *ast.BinaryExpr:
		return spelled(e.X) + spelled(e.Y)
	}
	return ""
}

// Tenth keeps every tenth guard, beginning with the n-th.
func Tenth(all []Guard, n int) []Guard {
	var some []Guard
	for i, g := range all {
		if i%10 == n%10 {
			some = append(some, g)
		}
	}
	return some
}

// Shuffle puts the guards in another order, the same for the same seed, so that runs
// that have no time for all of them do not always try the same ones.
func Shuffle(all []Guard, seed uint64) {
	rand.New(rand.NewPCG(seed, 0)).Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
}

func keep(all []Guard, which func(Guard) bool) []Guard {
	var some []Guard
	for _, g := range all {
		if which(g) {
			some = append(some, g)
		}
	}
	return some
}
