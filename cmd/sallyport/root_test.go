package main

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/internal/cli"
	"github.com/sallyport/sallyport/internal/shellword"
)

func every(c *cobra.Command, do func(*cobra.Command)) {
	do(c)
	for _, sub := range c.Commands() {
		every(sub, do)
	}
}

func TestEveryVerbHasHelpWithAnExample(t *testing.T) {
	every(newRoot(), func(c *cobra.Command) {
		if c.Short == "" || c.Example == "" || !strings.Contains(c.Example, "sallyport") {
			t.Errorf("%s: short %q, example %q", c.CommandPath(), c.Short, c.Example)
		}
		for _, line := range strings.Split(c.Example, "\n") {
			if !strings.HasPrefix(line, "  ") {
				t.Errorf("%s: the example %q is not indented", c.CommandPath(), line)
			}
		}
	})
}

// What examples and the README show can be typed: verbs and flags exist.
func TestExamplesParse(t *testing.T) {
	every(newRoot(), func(c *cobra.Command) { typed(t, c.CommandPath(), c.Example) })
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(strings.ReplaceAll(string(readme), "\\\n", " "), "```")
	for i := 1; i < len(blocks); i += 2 {
		typed(t, "README.md", blocks[i])
	}
}

// typed checks every `sallyport ...` of a text.
func typed(t *testing.T, where, text string) {
	t.Helper()
	for _, line := range strings.Split(text, "\n") {
		line, _, _ = strings.Cut(line, " #")
		for _, part := range strings.Split(line, "&&") {
			words := strings.Fields(part)
			if len(words) < 2 || words[0] != "sallyport" {
				continue
			}
			found, rest, err := newRoot().Find(words[1:])
			if err != nil || found.HasSubCommands() {
				t.Errorf("%s: %q: %v", where, part, err)
				continue
			}
			for _, word := range rest {
				name := strings.TrimPrefix(strings.SplitN(word, "=", 2)[0], "--")
				if strings.HasPrefix(word, "--") && found.Flags().Lookup(name) == nil {
					t.Errorf("%s: %q: %s has no flag --%s", where, part, found.CommandPath(), name)
				}
			}
		}
	}
}

func TestEveryVerbThatReadsCanPrintJSON(t *testing.T) {
	reads := map[string]bool{"list": true, "show": true, "whoami": true, "verify": true, "tail": true, "check": true, "version": true, "status": true, "token": true}
	every(newRoot(), func(c *cobra.Command) {
		authors := strings.HasPrefix(c.CommandPath(), "sallyport policy ") && !c.HasSubCommands() // all of them answer programs
		if (reads[c.Name()] || authors) && c.Flags().Lookup("json") == nil {
			t.Errorf("%s has no --json", c.CommandPath())
		}
	})
}

func TestWrongUsageExitsWithTwo(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"servve"}, `there is no "servve" in sallyport; did you mean serve?`},
		{[]string{"requests", "aprove"}, `there is no "aprove" in sallyport requests; did you mean approve?`},
		{[]string{"requests", "approve"}, "accepts 1 arg(s)"},
		{[]string{"serve", "--confg", "x"}, "unknown flag: --confg"},
		{[]string{"demo", "--ports", "some"}, "--ports is usual or random"},
		{[]string{"audit", "verify", "--dir", "a", "--config", "b"}, "not both"},
		{[]string{"init", "/x", "--signer", "alice"}, "say where browsers will reach the gate"},
	} {
		_, err := run(t, c.args...)
		var failure *cli.Exit
		if !errors.As(err, &failure) || failure.Code != cli.Mistyped || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v", c.args, err)
		}
	}
}

func TestClientVerbsWithoutLoginSayWhatToType(t *testing.T) {
	t.Setenv("SALLYPORT_HOME", t.TempDir())
	for _, args := range [][]string{{"whoami"}, {"requests", "list"}, {"grants", "revoke", "x"}, {"logout"}, {"audit", "tail"}, {"users", "list"}, {"login"}} {
		if _, err := run(t, args...); err == nil || !strings.Contains(err.Error(), "type: sallyport login --server") {
			t.Errorf("%v: %v", args, err)
		}
	}
}

// fake is an API that answers everything alike, and remembers what it was asked.
func fake(t *testing.T, status int, answer string) (server *httptest.Server, asked *[]*http.Request) {
	t.Helper()
	asked = &[]*http.Request{}
	server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*asked = append(*asked, r)
		w.WriteHeader(status)
		_, _ = w.Write([]byte(answer))
	}))
	t.Cleanup(server.Close)
	dir := t.TempDir()
	t.Setenv("SALLYPORT_HOME", dir)
	h := home(dir)
	saved, err := json.Marshal(savedLogin{Server: server.URL, CA: true})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{loginFile: string(saved), tokenFile: "spa_secret", caFile: pemOf(server)} {
		if err := h.save(name, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	return server, asked
}

// A token is for the gate that gave it.
func TestTokenIsSentToNoOtherGate(t *testing.T) {
	_, asked := fake(t, http.StatusOK, "{}")
	_, err := run(t, "whoami", "--server", "https://elsewhere.example.com")
	if err == nil || !strings.Contains(err.Error(), "the last login was at") || len(*asked) != 0 {
		t.Errorf("%v", err)
	}
}

func TestTokenFileOthersCanRead(t *testing.T) {
	fake(t, http.StatusOK, "{}")
	path := filepath.Join(os.Getenv("SALLYPORT_HOME"), tokenFile)
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := run(t, "requests", "list"); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("%v", err)
	}
}

func TestUnknownCAIsSaid(t *testing.T) {
	server, _ := fake(t, http.StatusOK, "{}")
	gate, err := newClient(server.URL, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := gate.get(t.Context(), "/api/v1/whoami", nil, nil); err == nil || !strings.Contains(err.Error(), "type --ca FILE") {
		t.Errorf("%v", err)
	}
	for _, bad := range []string{"http://gate.example.com", "gate.example.com", "https://gate.example.com/path", "https://u:p@gate.example.com"} {
		if _, err := newClient(bad, ""); err == nil || !strings.Contains(err.Error(), "write it like https://gate.example.com") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestProblemsAreSentences(t *testing.T) {
	for _, c := range []struct {
		p    problem
		want string
	}{
		{problem{Status: 403, Detail: "Nobody approves their own request."}, "nobody approves their own request"},
		{problem{Status: 401, Detail: "You are not signed in."}, "you are not signed in; type: sallyport login"},
		{problem{Status: 409, Detail: "It waits.", Open: "https://g/requests/1"}, "it waits; open https://g/requests/1"},
		{problem{Status: 502}, "the gate answered 502 bad gateway"},
		{problem{Status: 403, Detail: "no \x1b[2J"}, `no \u{1b}[2J`},
	} {
		if got := c.p.Error(); got != c.want {
			t.Errorf("%+v is said %q", c.p, got)
		}
	}
}

// Class: terminal escape sequences in names and reasons that reach another person's terminal.
func TestListsShowEscapesHarmless(t *testing.T) {
	text := recordingLineOf(t, `{"k":"query","at":"2026-01-01T00:00:00Z","n":1,"sql":"SELECT '\u001b]0;x\u0007\u202e'"}`)
	if strings.ContainsAny(text, "\x1b\x07\u202e") || !strings.Contains(text, `\u{1b}`) {
		t.Errorf("%q", text)
	}
	var out bytes.Buffer
	table := cli.NewTable(&out, "REASON")
	table.Row("ok\x1b[2J\nADMIN said yes\u200b")
	if err := table.Flush(); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); strings.Count(got, "\n") != 2 || strings.ContainsAny(got, "\x1b\u200b") {
		t.Errorf("%q", got)
	}
}

func TestTerminalsAndFilesAreShownAsText(t *testing.T) {
	for raw, want := range map[string]string{
		`{"k":"query","at":"2026-01-01T00:00:00Z","n":1,"kind":"exec","sql":"ls"}`:                                              `00:00:00.000  exec ls`,
		`{"k":"terminal","at":"2026-01-01T00:00:00Z","code":"m","data":"channel 1"}`:                                            `00:00:00.000  channel 1:`,
		`{"k":"terminal","at":"2026-01-01T00:00:00Z","code":"o","data":"\u001b[1mhello\u001b[0m\r\n\u001b]0;t\u0007two\u0007"}`: "00:00:00.000    | hello\n              two\\u{7}",
		`{"k":"terminal","at":"2026-01-01T00:00:00Z","code":"o","data_b64":"/2E="}`:                                             "00:00:00.000    | \\u{fffd}a",
		`{"k":"terminal","at":"2026-01-01T00:00:00Z","code":"i","data":"ls\r"}`:                                                 `00:00:00.000    > ls`,
		`{"k":"terminal","at":"2026-01-01T00:00:00Z","code":"r","data":"80x24"}`:                                                `00:00:00.000    the terminal is 80x24`,
		`{"k":"file","at":"2026-01-01T00:00:00Z","name":"/x\u001b[2J","direction":"up","size":5,"sha256":"ab"}`:                 `00:00:00.000  file up: /x\u{1b}[2J, 5 bytes, SHA-256 ab`,
		`{"k":"piece","at":"2026-01-01T00:00:00Z","n":2,"offset":7,"data":"abc"}`:                                               `00:00:00.000  file number 2: 3 bytes at 7`,
	} {
		if got := recordingLineOf(t, raw); got != want {
			t.Errorf("%s is shown as %q, want %q", raw, got, want)
		}
	}
}

func recordingLineOf(t *testing.T, raw string) string {
	t.Helper()
	text, err := recordingLine([]byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// Class: login CSRF. The loopback page takes a code only with this login's state.
func TestLoginCallbackTakesOnlyItsOwnState(t *testing.T) {
	codes := make(chan string, 1)
	server := httptest.NewServer(callback("right", codes))
	defer server.Close()
	visit := func(state string) int {
		answer, err := http.Get(server.URL + "/callback?" + url.Values{"code": {"ABCD"}, "state": {state}}.Encode())
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		return answer.StatusCode
	}
	if status := visit("wrong"); status != http.StatusBadRequest || len(codes) != 0 {
		t.Errorf("a foreign state: %d, %d codes", status, len(codes))
	}
	if status := visit("right"); status != http.StatusOK || <-codes != "ABCD" {
		t.Errorf("the right state: %d", status)
	}
}

func TestCertificateForAnotherKeyIsNotKept(t *testing.T) {
	key, _, _, err := newRequest()
	if err != nil {
		t.Fatal(err)
	}
	if err := fits(key, "no pem"); err == nil || !strings.Contains(err.Error(), "the gate gave no certificate") {
		t.Errorf("%v", err)
	}
	server, _ := fake(t, http.StatusOK, "{}")
	if err := fits(key, pemOf(server)); err == nil || !strings.Contains(err.Error(), "for another key; nothing was saved") {
		t.Errorf("%v", err)
	}
}

func TestNamesUnderLocalhostAreDialledOnLoopback(t *testing.T) {
	server, _ := fake(t, http.StatusOK, "{}")
	_, port, _ := strings.Cut(strings.TrimPrefix(server.URL, "https://"), ":")
	conn, err := dial(t.Context(), "tcp", "any.name.localhost:"+port)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
}

func TestShellQuote(t *testing.T) {
	for in, want := range map[string]string{"/a/b.crt": "/a/b.crt", "": "''", "a b": "'a b'", "it's": `'it'\''s'`, "$(x)": "'$(x)'"} {
		if got := shellword.Quote(in); got != want {
			t.Errorf("%q is quoted %s", in, got)
		}
	}
}

func TestVersion(t *testing.T) {
	out, err := run(t, "version", "--json")
	if err != nil || !strings.Contains(out, `"go": "go1.`) {
		t.Errorf("%v %s", err, out)
	}
}

func TestVerifyWithoutALogCouldNotCheck(t *testing.T) {
	out, err := run(t, "audit", "verify", "--dir", t.TempDir())
	var failure *cli.Exit
	if !errors.As(err, &failure) || failure.Code != 2 || !strings.HasPrefix(out, "could not check: ") {
		t.Errorf("%v %s", err, out)
	}
	if _, err = run(t, "audit", "verify", "--config", "/nonexistent"); !errors.As(err, &failure) || failure.Code != 2 {
		t.Errorf("%v", err)
	}
}

func pemOf(server *httptest.Server) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
}
