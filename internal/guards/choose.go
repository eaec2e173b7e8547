package guards

import (
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path"
	"strings"
)

// Named keeps the guards with this name, or whose name begins with it at a dot or slash.
func Named(all []Guard, name string) []Guard {
	return keep(all, func(g Guard) bool {
		rest, ok := strings.CutPrefix(g.Name, name)
		return ok && (rest == "" || rest[0] == '.' || rest[0] == '/')
	})
}

// Changed keeps the guards whose file, or a test file beside whose test, differs between
// the commit base and the work tree at root.
func Changed(all []Guard, root, base string) ([]Guard, error) {
	cmd := exec.Command("git", "diff", "--name-only", base, "--")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("what changed since %s: %w", base, err)
	}
	files, tests := map[string]bool{}, map[string]bool{}
	for _, f := range strings.Fields(string(out)) {
		files[f] = true
		if strings.HasSuffix(f, "_test.go") {
			tests["./"+path.Dir(f)] = true
		}
	}
	return keep(all, func(g Guard) bool { return files[g.File] || tests[g.Package] }), nil
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
