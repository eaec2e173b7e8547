package guards

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestListIsTrue(t *testing.T) {
	names := map[string]bool{}
	for _, g := range append(All(), Canary()) {
		if names[g.Name] {
			t.Errorf("%s: twice in the list", g.Name)
		}
		names[g.Name] = true
		if err := g.Check("../.."); err != nil {
			t.Errorf("%s: %s", g.Name, err)
		}
	}
	if len(names) < 100 {
		t.Errorf("%d guards: the list is not whole", len(names))
	}
}

// module is a small tree with one guard and its tests.
var module = map[string]string{
	"go.mod":       "module example.com/door\n\ngo 1.26\n",
	"door/door.go": "package door\n\nfunc Open(key string) bool {\n\tif key != \"right\" {\n\t\treturn false\n\t}\n\treturn true\n}\n",
	"door/a_test.go": `package door

import (
	"os"
	"testing"
)

func TestWrongKey(t *testing.T) {
	if Open("wrong") {
		t.Error("opens")
	}
}

func TestRightKey(t *testing.T) {
	if !Open("right") {
		t.Error("stays shut")
	}
}

func TestBroken(t *testing.T) { t.Error("always") }

func TestSkipped(t *testing.T) { t.` + `Skip("never") }

// later says whether a file was made by an earlier run.
func later(name string) bool {
	_, err := os.Stat(name)
	if err != nil {
		os.WriteFile(name, nil, 0o600)
	}
	return err == nil
}

func TestNowAndThen(t *testing.T) {
	if Open("wrong") && later("once") {
		t.Error("opens")
	}
}

func TestAlone(t *testing.T) {
	if Open("wrong") || !later("alone") {
		t.Error("opens")
	}
}

func TestWaits(t *testing.T) {
	if Open("wrong") {
		select {}
	}
}
`,
}

func TestTrial(t *testing.T) {
	root := t.TempDir()
	for name, text := range module {
		p := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	on := `key != "right"`
	cases := []struct{ name, text, off, test, how, want string }{
		{"noticed", on, "false", "TestWrongKey", "fails", ""},
		{"hangs", on, "false", "TestWaits", "hangs", ""},
		{"nobody notices", on, "false", "TestRightKey", "", "nobody notices: TestRightKey passes twice with it off"},
		{"noticed the second time", on, "false", "TestNowAndThen", "fails at times", ""},
		{"red among the others", on, "false", "TestAlone", "fails", ""},
		{"does not compile", on, "key =! nil", "TestWrongKey", "", "did not run"},
		{"no such test", on, "false", "TestNone", "", "did not run"},
		{"skipped", on, "false", "TestSkipped", "", "did not run"},
		{"red before", on, "false", "TestBroken", "", "fails with every guard on"},
		{"not found", `key != "left"`, "false", "TestWrongKey", "", "0 times"},
		{"found twice", "return", "return", "TestWrongKey", "", "2 times"},
		{"changes nothing", on, on, "TestWrongKey", "", "the text itself"},
	}
	trial := &Trial{Root: root, Limit: 5 * time.Second}
	for _, c := range cases {
		trial.Guards = append(trial.Guards, Guard{Name: c.name, File: "door/door.go", Text: c.text, Off: c.off, Package: "./door", Test: c.test})
	}
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			o := trial.Run(t.Context(), trial.Guards[i])
			switch {
			case c.want == "" && (o.Err != nil || o.How != c.how):
				t.Errorf("outcome %q, %v", o.How, o.Err)
			case c.want != "" && (o.Err == nil || !strings.Contains(o.Err.Error(), c.want)):
				t.Errorf("outcome %v, want %q", o.Err, c.want)
			}
		})
	}
	harmless := Guard{File: "door/door.go", Text: on, Off: `!(key == "right")`, Package: "./door", Test: "TestWrongKey"}
	if err := trial.Survives(t.Context(), harmless); err != nil {
		t.Errorf("canary: %s", err)
	}
	harmless.Off = "false"
	if err := trial.Survives(t.Context(), harmless); err == nil {
		t.Error("a harmful canary survived")
	}
}

func TestNamed(t *testing.T) {
	all := []Guard{{Name: "identity.a"}, {Name: "identity/oidc.b"}, {Name: "identityx.c"}}
	if n := len(Named(all, "identity")); n != 2 {
		t.Errorf("identity names %d guards", n)
	}
	if n := len(Named(all, "identity/oidc.b")); n != 1 {
		t.Errorf("the whole name names %d guards", n)
	}
}

// What a check tries: guards whose file, test or own entry is another one than it was, and
// new files before anybody has added them.
func TestChanged(t *testing.T) {
	root := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		p := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	a := Guard{"a.one", "a/a.go", "x\n", "y", "./a", "TestA", "none"}
	b := Guard{"b.one", "b/b.go", "x", "y", "./b", "TestB", "none"}
	c := Guard{"c.one", "c/c.go", "x", "y", "./c", "TestC", "none"}
	entry := func(g Guard) string {
		return fmt.Sprintf("\t{%q, %q, %q, %q, %q, %q,\n\t\t%q + \"\"},\n", g.Name, g.File, g.Text, g.Off, g.Package, g.Test, g.Class)
	}
	list := func(guards ...Guard) string {
		text := "package guards\n\nvar x = []Guard{\n"
		for _, g := range guards {
			text += entry(g)
		}
		return text + "}\n"
	}
	const listFile = "internal/guards/list_x.go"
	for _, g := range []Guard{a, b, c} {
		write(g.File, g.Text)
	}
	write(listFile, list(a, b))
	for _, args := range [][]string{{"init", "-q"}, {"add", "."}, {"-c", "user.name=x", "-c", "user.email=x@localhost", "commit", "-qm", "x"}} {
		if _, err := git(root, args...); err != nil {
			t.Fatal(err)
		}
	}
	changed := func(want ...Guard) {
		t.Helper()
		got, err := Changed([]Guard{a, b, c}, root, "HEAD")
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("changed are %v (%v), want %v", got, err, want)
		}
	}
	changed()
	write(listFile, list(b, a))
	changed()
	b.Off = "z"
	write(listFile, list(a, b))
	changed(b)
	write("internal/guards/list_y.go", list(c))
	changed(b, c)
	write("a/more_test.go", "package a")
	changed(a, b, c)
	if _, err := Changed(nil, root, "nothing"); err == nil {
		t.Error("a commit that is not there is no error")
	}
}

// Every test and guard that docs/threats.md names is there, and every class has one.
func TestThreatsAreTried(t *testing.T) {
	text, err := os.ReadFile("../../docs/threats.md")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, g := range All() {
		known[g.Name] = true
	}
	named := regexp.MustCompile("`([a-z0-9/]+)\\.([A-Za-z0-9-]+)`")
	rows := 0
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(line, " | ")
		if len(cells) != 3 || strings.HasPrefix(line, "| class") {
			continue
		}
		rows++
		tests, guards := named.FindAllStringSubmatch(cells[1], -1), named.FindAllStringSubmatch(cells[2], -1)
		if len(tests) == 0 || len(guards) == 0 {
			t.Errorf("%s has no test or no guard", cells[0])
		}
		for _, m := range tests {
			folder := m[1]
			if folder == "e2e" {
				folder = "internal/e2e"
			}
			g := Guard{Name: "x", Class: "x", File: "go.mod", Text: "module ", Off: "", Package: "./" + folder, Test: m[2]}
			if err := g.Check("../.."); err != nil {
				t.Errorf("%s: %v", cells[0], err)
			}
		}
		for _, m := range guards {
			if name := m[1] + "." + m[2]; !known[name] {
				t.Errorf("%s: there is no guard %s", cells[0], name)
			}
		}
	}
	if rows < 40 {
		t.Errorf("docs/threats.md has %d classes: this is not all of it", rows)
	}
}

// A run of some guards changes their rows of the page and no others.
func TestPage(t *testing.T) {
	a := Guard{Name: "door.key", Package: "./door", Test: "TestKey", Class: "a wrong key | none"}
	b := Guard{Name: "door.lock", Package: "./door", Test: "TestLock", Class: "no lock"}
	c := Guard{Name: "wall.door", Package: "./door", Test: "TestWall", Class: "no wall"}
	all := []Guard{a, b, c}
	page := Page(nil, all, []Outcome{{Guard: a, How: "fails"}, {Guard: c, How: "hangs"}}, time.Minute)
	page = Page(page, all, []Outcome{{Guard: b, Err: errors.New("nobody notices: TestLock passes")}}, time.Minute)
	for _, want := range []string{
		"2 of 3 guards are noticed", "| key | a wrong key \\| none | `TestKey` | fails |", "| lock | no lock | `TestLock` | **nobody notices** |",
		"## wall", "| door | no wall | `door TestWall` | hangs |",
	} {
		if !strings.Contains(string(page), want) {
			t.Errorf("%q is not on the page:\n%s", want, page)
		}
	}
	if left := Untried(page, all); len(left) != 1 || left[0].Name != b.Name {
		t.Errorf("untried are %v", left)
	}
	if again := Page(page, all, nil, 0); !bytes.Equal(again, page) {
		t.Errorf("it does not stay as it is:\n%s", again)
	}
	const took = "The last run of all tried 3 guards in 41 minutes.\n"
	full := Page(page, all, []Outcome{{Guard: a, How: "fails"}, {Guard: b, How: "fails"}, {Guard: c, How: "fails"}}, 41*time.Minute+12*time.Second)
	if bytes.Contains(page, []byte("last run")) || !bytes.Contains(full, []byte(took)) || !bytes.Contains(Page(full, all, nil, 0), []byte(took)) {
		t.Errorf("the time of a run is not there:\n%s", full)
	}
	a.Test = "TestOtherKey"
	if page := Page(page, []Guard{a}, nil, 0); !strings.Contains(string(page), "| `TestOtherKey` | "+untried+" |") {
		t.Errorf("another test has noticed:\n%s", page)
	}
}

// docs/guards.md is about the guards of now, and somebody has noticed each.
func TestPageIsOfNow(t *testing.T) {
	page, err := os.ReadFile("../../docs/guards.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range Untried(page, All()) {
		t.Errorf("nobody has noticed %s: go run ./internal/guards/run --untried --write docs/guards.md", g.Name)
	}
	if again := Page(page, All(), nil, 0); !bytes.Equal(again, page) {
		t.Error("docs/guards.md is about other guards: go run ./internal/guards/run --untried --write docs/guards.md")
	}
}
