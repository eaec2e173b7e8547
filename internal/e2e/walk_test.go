package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A newcomer types what a text shows, word for word but for these words.
type newcomer struct {
	words *strings.Replacer
	env   []string
}

// types runs one command of the text, as a shell reads it.
func (w newcomer) types(t *testing.T, line string, env ...string) *terminal {
	t.Helper()
	return start(t, append(slices.Clone(w.env), env...), "/bin/sh", "-c", "exec "+w.words.Replace(line)) // one process, which the test can end
}

// done is types, for a command that ends by itself and must succeed.
func (w newcomer) done(t *testing.T, line, want string, env ...string) string {
	t.Helper()
	shown, err := w.types(t, line, env...).ends(t)
	if err != nil || !strings.Contains(shown, want) {
		t.Fatalf("%s (%v) shows:\n%s", line, err, shown)
	}
	return shown
}

// shown are the indented or fenced commands of a text that begin with a word, in order.
func shown(t *testing.T, text, begins string) []string {
	t.Helper()
	var all []string
	for _, line := range strings.Split(strings.ReplaceAll(text, "\\\n", " "), "\n") {
		line = strings.TrimPrefix(strings.TrimSpace(line), "$ ")
		if before, _, found := strings.Cut(line, "  #"); found {
			line = strings.TrimSpace(before)
		}
		if strings.HasPrefix(line, begins) {
			all = append(all, line)
		}
	}
	if len(all) == 0 {
		t.Fatalf("no command begins with %q in:\n%s", begins, text)
	}
	return all
}

func section(t *testing.T, text, title string) string {
	t.Helper()
	_, rest, found := strings.Cut(text, "\n## "+title+"\n")
	if !found {
		t.Fatalf("there is no section %q", title)
	}
	body, _, _ := strings.Cut(rest, "\n## ")
	return body
}

// The README's way to a real gate, from its first command to its last: nothing else is
// typed, and what it says to write is written.
func TestReadmeSetsUpARealGate(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	m := prepared(t)
	bob := sshKey(t, "bob")
	bin := t.TempDir()
	if err := os.Symlink(binary, filepath.Join(bin, "sallyport")); err != nil {
		t.Fatal(err)
	}
	keys := t.TempDir()
	for who, key := range map[string]string{"alice": m.key, "bob": bob} {
		pub, err := os.ReadFile(key + ".pub")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(keys, who+".pub"), pub, 0o600); err != nil {
			t.Fatal(err)
		}
		ssh := filepath.Join(keys, who, ".ssh")
		if err := os.MkdirAll(ssh, 0o700); err != nil {
			t.Fatal(err)
		}
		private, err := os.ReadFile(key)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(ssh, "id_ed25519"), private, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w := newcomer{
		words: strings.NewReplacer("/etc/sallyport", m.Dir, "/var/lib/sallyport", m.at("..", "var"), "https://gate.example.com", m.Web,
			"alice.pub", filepath.Join(keys, "alice.pub"), "bob.pub", filepath.Join(keys, "bob.pub")),
		env: []string{"PATH=" + bin + ":" + os.Getenv("PATH")},
	}
	setup := shown(t, section(t, string(text), "Set up a real one"), "sallyport ")
	type step struct{ begins, want, who string }
	var serve string
	for i, s := range []step{
		{"sallyport init ", "What comes next:", ""},
		{"sallyport policy check ", "", ""},
		{"sallyport policy release 1 ", "", ""},
		{"sallyport policy sign 1 ", "", "alice"},
		{"sallyport check ", "is fine; policy version 1", ""},
		{"sallyport serve ", "", ""},
	} {
		if i >= len(setup) || !strings.HasPrefix(setup[i], s.begins) {
			t.Fatalf("command %d of the README is not %q: %q", i+1, s.begins, setup)
		}
		switch s.begins {
		case "sallyport serve ":
			serve = setup[i]
			continue
		case "sallyport check ": // one signature of two is none
			if shown, err := w.types(t, setup[i]).ends(t); err == nil || !strings.Contains(shown, "policy refused: ") {
				t.Errorf("check with one signature of two (%v) shows:\n%s", err, shown)
			}
			w.done(t, setup[i-1], "", "HOME="+filepath.Join(keys, "bob"))
		}
		w.done(t, setup[i], s.want, "HOME="+filepath.Join(keys, s.who))
		if s.begins == "sallyport init " {
			m.fill(t)
		}
	}
	if len(setup) != 6 {
		t.Errorf("the README shows more commands than are tried: %q", setup)
	}
	if got, want := w.words.Replace(serve), "sallyport serve --config "+m.config; got != want {
		t.Fatalf("the README starts the gate by %q, want %q", got, want)
	}
	m.serve(t)
	useAsReadme(t, m, w, string(text))
}

// useAsReadme runs the README's first example and its section "Use it".
func useAsReadme(t *testing.T, m *machine, w newcomer, text string) {
	t.Helper()
	host, port, _ := strings.Cut(m.Postgres, ":")
	w.words = strings.NewReplacer("https://gate.example.com", m.Web, "host=gate.example.com", "host="+host+" port="+port+" sslrootcert="+m.CA)
	psql := w.types(t, shown(t, text, "psql ")[0])
	link, phrase := psql.link(t)
	m.browser(t, "alice@example.com").confirm(t, link, phrase, nil)
	psql.says(t, "waiting for 1 of: dba")

	use := shown(t, section(t, text, "Use it"), "sallyport ")
	open, address := handsOver(t)
	w.env = append(w.env, "BROWSER="+open, "SALLYPORT_HOME="+t.TempDir())
	ids := map[string]string{}
	for _, line := range use {
		for word, id := range ids {
			if strings.HasPrefix(line, word) {
				line = strings.Replace(line, "7Q2KMX", id, 1)
			}
		}
		switch {
		case strings.HasPrefix(line, "sallyport login "):
			login := w.types(t, line+" --ca "+m.CA)
			m.browser(t, "bob@example.com").loginIn(t, address())
			if shown, err := login.ends(t); err != nil || !strings.Contains(shown, "You are signed in as bob@example.com") {
				t.Fatalf("%s (%v) shows:\n%s", line, err, shown)
			}
		case strings.HasPrefix(line, "sallyport requests list "):
			ids["sallyport requests approve "] = idForm.FindString(w.done(t, line, "alice@example.com"))
		case strings.HasPrefix(line, "sallyport requests approve "):
			w.done(t, line, "Approved.")
			psql.says(t, "approved by bob@example.com until")
			psql.types(t, "SELECT count(*) FROM customers;")
			psql.says(t, "1000")
		case strings.HasPrefix(line, "sallyport sessions list "):
			ids["sallyport sessions kill "] = idForm.FindString(w.done(t, line, "alice@example.com"))
		case strings.HasPrefix(line, "sallyport sessions kill "):
			w.done(t, line, "is cut")
			psql.types(t, "SELECT 1;")
			psql.says(t, "this session was ended by bob@example.com: wrong database")
		case strings.HasPrefix(line, "sallyport audit tail "):
			// Bob has no right to the whole log, and is told so; Sam has.
			if shown, err := w.types(t, line).ends(t); err == nil || !strings.Contains(shown, "sallyport: ") {
				t.Errorf("%s as bob (%v) shows:\n%s", line, err, shown)
			}
			follow := w.types(t, line, "SALLYPORT_HOME="+m.login(t, "sam@example.com"))
			follow.says(t, "session.ended")
			_ = follow.cmd.Process.Signal(os.Interrupt)
		default:
			t.Errorf("the README shows a command that is not tried: %s", line)
		}
	}
}

var idForm = regexp.MustCompile(`(?m)^[0-9A-Za-z_-]{20,}`)

// What the demo prints can be typed as it stands, by each of its people, from the first
// line to the last.
func TestDemoWordForWord(t *testing.T) {
	t.Parallel()
	dir := freshDir(t)
	running := start(t, nil, binary, "demo", "--dir", dir, "--ports", "random")
	text := running.saysWithin(t, 2*time.Minute, "Ctrl-C stops all of it.")
	d := &demo{ready: ready{Dir: dir, CA: filepath.Join(dir, "ca.crt"), Issuer: "https://localhost:"}, log: &output{}}
	for _, m := range regexp.MustCompile(`(?m)^  (\S+@\S+) +password (\S+) +\[(\S+)\]$`).FindAllStringSubmatch(text, -1) {
		d.Users = append(d.Users, user{m[1], m[2], []string{m[3]}})
	}
	d.Web, d.App = shown(t, text, "https://sallyport.localhost:")[0], shown(t, text, "https://app.localhost:")[0]
	if err := d.trust(); err != nil {
		t.Fatal(err)
	}
	w := newcomer{words: strings.NewReplacer(), env: []string{"SHELL="}}

	psql := w.types(t, shown(t, text, "psql ")[0])
	link, phrase := psql.link(t)
	d.browser(t, "alice@example.com").confirm(t, link, phrase, nil)
	psql.says(t, "waiting for 1 of: dba")
	bob := d.browser(t, "bob@example.com")
	first := bob.open(t, d.Web)
	at := slices.IndexFunc(first.links, func(l string) bool { return strings.HasPrefix(l, "/requests/") && l != "/requests/new" })
	if at < 0 {
		t.Fatalf("Bob's first page leads to no request: %s %v", first.text, first.links)
	}
	bob.decide(t, strings.TrimPrefix(first.links[at], "/requests/"), "yes", nil)
	psql.says(t, "approved by bob@example.com until")
	psql.types(t, shown(t, text, "SELECT ")[0])
	psql.says(t, "stuck")

	ssh := w.types(t, shown(t, text, "ssh ")[0]+" -o IdentityFile=/nonexistent -o IdentitiesOnly=yes -F /dev/null -T")
	link, phrase = ssh.link(t)
	d.browser(t, "alice@example.com").confirm(t, link, phrase, nil)
	ssh.says(t, "waiting for 1 of: dba")

	// Bob answers this one on the command line.
	open, address := handsOver(t)
	w.env = append(w.env, "BROWSER="+open, "SALLYPORT_HOME="+t.TempDir())
	program := strings.Fields(shown(t, text, binary)[0])[0]
	login := w.types(t, shown(t, text, program+" login ")[0])
	d.browser(t, "bob@example.com").loginIn(t, address())
	if shown, err := login.ends(t); err != nil || !strings.Contains(shown, "You are signed in as bob@example.com") {
		t.Fatalf("login (%v) shows:\n%s", err, shown)
	}
	id := idForm.FindString(w.done(t, shown(t, text, program+" requests list ")[0], "web-1"))
	w.done(t, strings.Replace(shown(t, text, program+" requests approve ")[0], "REQUEST", id, 1), "Approved.")
	ssh.says(t, "approved by bob@example.com until")
	ssh.types(t, "echo entered $((40 + 2)); exit")
	ssh.says(t, "entered 42")

	if p := d.browser(t, "alice@example.com").open(t, d.App); p.url.Path != "/requests/new" {
		t.Errorf("the application leads to %s: %s", p.url, p.text)
	}
	if p := d.signedIn(t, "sam@example.com").open(t, d.Web+"/sessions"); !strings.Contains(p.text, "1 session is live") || !strings.Contains(p.text, "alice orders as reader") {
		t.Errorf("Sam does not see the sessions: %s", p.text)
	}
	verify := shown(t, text, program+" audit verify ")[0]
	w.done(t, verify, "verified: ")
	if err := running.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	said, err := running.ends(t)
	if err != nil || !strings.Contains(said, "Everything is stopped. The record is in "+filepath.Join(dir, "audit")) {
		t.Errorf("Ctrl-C (%v) shows:\n%s", err, tail(said, 8))
	}
	w.done(t, verify, "verified: ")
	_ = psql.in.Close()
	if shown, _ := psql.ends(t); strings.Contains(shown, "internal error") {
		t.Errorf("after the stop psql shows:\n%s", tail(shown, 5))
	}
	if left, err := exec.Command("pgrep", "-f", dir).Output(); err == nil {
		t.Errorf("something of the demo still runs: %s", left)
	}
}
