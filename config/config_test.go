package config

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write proxy.example.hcl anew")

var protocols = []string{"postgres", "ssh"}

// machine makes the files that the example names, under a folder of the test.
func machine(t testing.TB) (dir string, text string) {
	t.Helper()
	dir = t.TempDir()
	for _, name := range []string{
		"etc/tls/gate.crt", "etc/tls/gate.key", "etc/login-ca.crt", "etc/login-ca.key", "etc/login-ca-ssh.key", "etc/seal.key",
		"etc/credentials/oidc-client", "etc/credentials/orders-reader", "etc/policy/trust/root.1", "var/.keep",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	if err := Example().Write(&out); err != nil {
		t.Fatal(err)
	}
	return dir, strings.NewReplacer("/etc/sallyport", dir+"/etc", "/var/lib/sallyport", dir+"/var").Replace(out.String())
}

func load(t *testing.T, dir, text string) (*Config, string) {
	t.Helper()
	path := filepath.Join(dir, "proxy.hcl")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(path, protocols)
	if err != nil {
		if c != nil {
			t.Fatal("a configuration beside an error")
		}
		return nil, err.Error()
	}
	return c, ""
}

func TestExampleIsWhatInitWrites(t *testing.T) {
	var want bytes.Buffer
	if err := Example().Write(&want); err != nil {
		t.Fatal(err)
	}
	const path = "../proxy.example.hcl"
	if *update {
		if err := os.WriteFile(path, want.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want.Bytes()) {
		t.Fatal("proxy.example.hcl is not what the template makes; type: go test ./config -update")
	}
}

func TestExampleLoads(t *testing.T) {
	dir, text := machine(t)
	c, report := load(t, dir, text)
	if report != "" {
		t.Fatal(report)
	}
	if c.Gate.URL != "https://gate.example.com" || c.Gate.Base.Host != "gate.example.com" || c.Audit.Origin != "gate.example.com" {
		t.Errorf("gate is %+v", c.Gate)
	}
	if len(c.Listeners) != 2 || c.Listeners[1].Protocol != "postgres" || c.Listeners[1].Address != ":5432" || c.Listeners[1].Plaintext {
		t.Errorf("listeners are %+v", c.Listeners)
	}
	if c.Limits.SignInTime != 5*time.Minute || c.Limits.Held != 10000 || c.Limits.GraceTime != 30*time.Second {
		t.Errorf("limits are %+v", c.Limits)
	}
	secret, err := c.Set.Read(t.Context(), "orders-reader")
	if err != nil || string(secret.Reveal()) != "x" {
		t.Errorf("credential: %v", err)
	}
	if !strings.HasPrefix(c.Digest, "sha256:") || c.Policy.MinVersion != 1 {
		t.Errorf("digest %s, policy %+v", c.Digest, c.Policy)
	}
}

func TestDefaultsAreThoseOfTheExample(t *testing.T) {
	dir, text := machine(t)
	full, report := load(t, dir, text)
	if report != "" {
		t.Fatal(report)
	}
	begin := strings.Index(text, "limits {")
	short, report := load(t, dir, text[:begin])
	if report != "" {
		t.Fatal(report)
	}
	a, b := *full.Limits, *short.Limits
	a.Body, b.Body = nil, nil
	a.Handshake, a.SignIn, a.Grace = "", "", ""
	if a != b {
		t.Fatalf("the example says %+v, the default is %+v", a, b)
	}
}

func TestAllErrorsAtOnceWithLineAndSnippet(t *testing.T) {
	dir, text := machine(t)
	text = strings.NewReplacer(
		`url = "https://gate.example.com"`, `ulr = "https://gate.example.com"`,
		`plaintext = false`, `plain_text = false`,
		`listen "postgres" ":5432"`, `listen "postgers" "nowhere"`,
		`handshake              = "20s"`, `handshake = "soon"`,
	).Replace(text)
	_, report := load(t, dir, text)
	for _, want := range []string{
		`Did you mean "url"?`, `Did you mean "plaintext"?`, `Did you mean "postgres"?`,
		`"nowhere" is not host:port`, `Not a duration here`,
		"proxy.hcl line ", `handshake = "soon"`, `plain_text = false`,
	} {
		if !strings.Contains(report, want) {
			t.Errorf("the report lacks %q", want)
		}
	}
	if t.Failed() {
		t.Log(report)
	}
}

func TestWhatIsRefused(t *testing.T) {
	dir, text := machine(t)
	for _, c := range []struct{ name, old, new, want string }{
		{"plain http", `"https://gate.example.com"`, `"http://gate.example.com"`, "Not https"},
		{"url with a path", `"https://gate.example.com"`, `"https://gate.example.com/x"`, "More than a host"},
		{"url without a host", `"https://gate.example.com"`, `"gate"`, "No URL"},
		{"node", `node = "gate-1"`, `node = "gate 1"`, "Not a node's name"},
		{"no web", `listen "web"`, `listen "ssh"`, "No web listener"},
		{"same address", `":5432"`, `":443"`, "Address taken"},
		{"pin", `root = "sha256:` + strings.Repeat("0", 64), `root = "` + strings.Repeat("0", 64), "Not a digest"},
		{"no pin", `  root = "sha256:` + strings.Repeat("0", 64) + `"`, ``, `The argument "root" is required`},
		{"mirror", `# mirror = "stdout"`, `mirror = "syslog"`, "Not a mirror"},
		{"origin", `origin = "gate.example.com"`, `origin = "a b"`, "Not an origin"},
		{"credential", `"exec:/usr/bin/pass show orders-writer"`, `"exec:pass show orders-writer"`, "absolute path"},
		{"credential twice", `"orders-writer" {`, `"orders-reader" {`, "Named twice"},
		{"limit", `held_per_source        = 100`, `held_per_source = 0`, "Below one"},
		{"advertise", `# advertise = "gate.example.com:5432"`, `advertise = "gate"`, "is not host:port"},
		{"ca", `# ca = "/etc/ssl/certs/example-ca.pem"`, `ca = "nowhere.pem"`, "Cannot read the certificate"},
		{"variable", `node = "gate-1"`, `node = host`, "Variables not allowed"},
		{"archive", "  min_version = 1\n", "  min_version = 1\n  archive {\n    url = \"http://git.example.com/a.tar.gz\"\n  }\n", "Not an archive"},
		{"archive too often", "  min_version = 1\n", "  min_version = 1\n  archive {\n    url = \"https://git.example.com/a\"\n    every = \"1s\"\n  }\n", "from 10s to 24h"},
		{"archive's credential", "  min_version = 1\n", "  min_version = 1\n  archive {\n    url = \"https://git.example.com/a\"\n    credential = \"x\"\n  }\n", "No such credential"},
		{"protocol", `listen "postgres"`, `listen "mysql"`, "Unknown protocol"},
		{"version below zero", `min_version = 1`, `min_version = -1`, "Below zero"},
		{"no end of a handshake", `handshake              = "20s"`, `handshake = "0s"`, "Not a duration here"},
		{"a long sign-in", `sign_in                = "5m"`, `sign_in = "24h"`, "at most 15m0s"},
		{"unknown block", `store {`, `stoer {`, `Did you mean "store"?`},
		{"block twice", `store {`, "store {\n path = \"/tmp/x\"\n}\nstore {", "Duplicate store block"},
	} {
		changed := strings.Replace(text, c.old, c.new, 1)
		if changed == text {
			t.Fatalf("%s: the example has no %q", c.name, c.old)
		}
		if _, report := load(t, dir, changed); !strings.Contains(report, c.want) {
			t.Errorf("%s: the report lacks %q:\n%s", c.name, c.want, report)
		}
	}
}

// Class: whoever could repoint a target or swap the identity provider would own the policy.
func TestProxyFileCannotRepointATarget(t *testing.T) {
	dir, text := machine(t)
	for _, add := range []string{
		"target \"orders\" {\n  address = \"evil:5432\"\n}\n",
		"identity {\n  issuer = \"https://evil\"\n}\n",
		"issuer = \"https://evil\"\n",
		"rule \"all\" {}\n",
	} {
		_, report := load(t, dir, text+add)
		if !strings.Contains(report, "Only the signed policy may say this") || !strings.Contains(report, "would own the policy") {
			t.Errorf("%q: %s", add, report)
		}
	}
	// Beside the blocks' own keys there is no place for an address either.
	for _, c := range []struct{ old, new string }{
		{`dir  = `, "target_address = \"evil:5432\"\n  dir = "},
		{`plaintext = false`, "plaintext = false\n  upstream = \"evil:5432\""},
		{`from = "file:`, "address = \"evil\"\n  from = \"file:"},
	} {
		if _, report := load(t, dir, strings.Replace(text, c.old, c.new, 1)); !strings.Contains(report, "Unsupported argument") {
			t.Errorf("%q: %s", c.new, report)
		}
	}
}

func TestSecretFilesOthersCanRead(t *testing.T) {
	for _, name := range []string{"tls/gate.key", "login-ca.key", "login-ca-ssh.key", "seal.key", "credentials/orders-reader"} {
		dir, text := machine(t)
		path := filepath.Join(dir, "etc", name)
		if err := os.Chmod(path, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, report := load(t, dir, text); !strings.Contains(report, "type: chmod 600 "+path) {
			t.Errorf("%s: %s", name, report)
		}
	}
}

func TestConfigurationOthersCanWrite(t *testing.T) {
	dir, text := machine(t)
	path := filepath.Join(dir, "proxy.hcl")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o620); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path, protocols); err == nil || !strings.Contains(err.Error(), "others can write to the configuration") {
		t.Fatalf("%v", err)
	}
}

func TestPlaintextWebOnlyOnLoopback(t *testing.T) {
	dir, text := machine(t)
	begin := strings.Index(text, `listen "web"`)
	end := strings.Index(text, "# PostgreSQL clients")
	for address, want := range map[string]string{
		":443": "Plaintext beyond loopback", "0.0.0.0:80": "Plaintext beyond loopback", "[::]:80": "Plaintext beyond loopback",
		"127.0.0.1:80": "", "[::1]:80": "",
	} {
		_, report := load(t, dir, text[:begin]+"listen \"web\" \""+address+"\" {\n  plaintext = true\n}\n"+text[end:])
		if want == "" && report != "" || !strings.Contains(report, want) {
			t.Errorf("%s: %s", address, report)
		}
	}
	_, report := load(t, dir, text[:begin]+"listen \"web\" \"127.0.0.1:80\" {}\n"+text[end:])
	if !strings.Contains(report, "No TLS") {
		t.Errorf("neither TLS nor plaintext: %s", report)
	}
}

// Class: secrets in error texts.
func TestReportNeverShowsAPassword(t *testing.T) {
	dir, text := machine(t)
	for _, add := range []string{
		"credential \"x\" {\n  from = \"hunter2\"\n}\n",
		"credential \"x\" {\n  password = \"hunter2\"\n}\n",
		"credential \"x\" {\n  from = \"file:/x\"\n  passwrod = \"hunter2\"\n}\n",
	} {
		_, report := load(t, dir, text+add)
		if report == "" || strings.Contains(report, "hunter2") {
			t.Errorf("%q: %s", add, report)
		}
	}
}

func TestOptionsBelongToTheProtocol(t *testing.T) {
	dir, text := machine(t)
	text = strings.Replace(text, "plaintext = false", "options {\n    size = 3\n    colour = \"red\"\n  }", 1)
	c, report := load(t, dir, text)
	if report != "" {
		t.Fatal(report)
	}
	var exact struct {
		Size   int    `hcl:"size"`
		Colour string `hcl:"colour,optional"`
	}
	if err := c.Listeners[1].Options(&exact); err != nil || exact.Size != 3 || exact.Colour != "red" {
		t.Errorf("%+v, %v", exact, err)
	}
	var narrow struct {
		Size int `hcl:"size"`
	}
	err := c.Listeners[1].Options(&narrow)
	if err == nil || !strings.Contains(err.Error(), `"colour" is not expected here`) || !strings.Contains(err.Error(), "proxy.hcl line ") {
		t.Errorf("unknown option: %v", err)
	}
	if err := c.Listeners[0].Options(&struct {
		Size int `hcl:"size,optional"`
	}{}); err != nil {
		t.Errorf("no block: %v", err)
	}
}

// withSSH is the example with its ssh block put to use.
func withSSH(t *testing.T) (dir, text string) {
	t.Helper()
	dir, text = machine(t)
	begin := strings.Index(text, "# listen \"ssh\"")
	end := begin + strings.Index(text[begin:], "\n# }\n") + len("\n# }\n")
	return dir, text[:begin] + strings.ReplaceAll(strings.TrimPrefix(text[begin:end], "# "), "\n# ", "\n") + text[end:]
}

// keyFiles are options that name files, as those of ssh do.
type keyFiles struct {
	HostKeys  []string `hcl:"host_keys"`
	HostCA    string   `hcl:"host_ca"`
	SessionCA string   `hcl:"session_ca"`
	Names     []string `hcl:"names,optional"`
}

func (o *keyFiles) Files() []*string { return []*string{&o.HostKeys[0], &o.HostCA} }

func TestEncryptedProtocolNeedsNoTLS(t *testing.T) {
	dir, text := withSSH(t)
	c, report := load(t, dir, strings.Replace(text, dir+"/etc/ssh/host\"", "ssh/host\"", 1))
	if report != "" {
		t.Fatal(report)
	}
	l := c.Listeners[2]
	var o keyFiles
	if err := l.Options(&o); err != nil || l.Protocol != "ssh" || l.Advertise != "gate.example.com:22" {
		t.Fatalf("%+v, %v", l, err)
	}
	if o.HostKeys[0] != filepath.Join(dir, "ssh/host") || o.HostCA != filepath.Join(dir, "etc/ssh/host-ca") {
		t.Errorf("the paths are %+v", o)
	}
	for _, add := range []string{"plaintext = true", "plaintext = false", "tls {\n certificate = \"" + dir + "/etc/tls/gate.crt\"\n key = \"" + dir + "/etc/tls/gate.key\"\n}"} {
		_, report := load(t, dir, strings.Replace(text, "listen \"ssh\" \":22\" {", "listen \"ssh\" \":22\" {\n"+add, 1))
		if !strings.Contains(report, "The protocol ssh brings its own encryption, so neither tls nor plaintext") {
			t.Errorf("%s: %s", add, report)
		}
	}
}

func TestLoginCAForSSH(t *testing.T) {
	dir, text := machine(t)
	text = strings.Replace(text, `ssh_key = "`+dir+`/etc/login-ca-ssh.key"`, `ssh_key = "etc/another"`, 1)
	path := filepath.Join(dir, "etc/another")
	if _, report := load(t, dir, text); !strings.Contains(report, path) {
		t.Errorf("a key that is not there: %s", report)
	}
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, report := load(t, dir, text)
	if report != "" || c.LoginCA.SSHKey != path {
		t.Errorf("%s", report)
	}
}

func TestMissingFile(t *testing.T) {
	_, err := Load(filepath.Join(t.TempDir(), "proxy.hcl"), protocols)
	if err == nil || !strings.Contains(err.Error(), "type: sallyport init") {
		t.Fatalf("%v", err)
	}
	dir, text := machine(t)
	if _, report := load(t, dir, text+strings.Repeat("#", MaxSize)); !strings.Contains(report, "is larger than 1048576 bytes") {
		t.Errorf("a file without an end: %.200s", report)
	}
}

func FuzzParse(f *testing.F) {
	_, text := machine(f)
	f.Add([]byte(text))
	f.Add([]byte("credential \"x\" {\n from = \"y\nz\"\n}"))
	f.Add([]byte("listen \"web\" {}\ngate = 3\nlimits { held = 1e99 }"))
	f.Fuzz(func(t *testing.T, source []byte) {
		c, err := Parse(source, "/nonexistent/proxy.hcl", protocols)
		if (c == nil) == (err == nil) {
			t.Fatalf("%v, %v", c, err)
		}
		if err != nil && err.Error() == "" {
			t.Fatal("an error without words")
		}
	})
}

// notifying is the example with its notify block put to use.
func notifying(t *testing.T) (dir, text string) {
	t.Helper()
	dir, text = machine(t)
	begin := strings.Index(text, "# notify {")
	end := begin + strings.Index(text[begin:], "\n# }\n") + len("\n# }\n")
	block := strings.ReplaceAll(strings.TrimPrefix(text[begin:end], "# "), "\n# ", "\n")
	return dir, text[:begin] + block + text[end:] + `
credential "alerts-webhook" {
  from = "env:ALERTS"
}
credential "mail" {
  from = "env:MAIL"
}
`
}

func TestNotifyOfTheExampleLoads(t *testing.T) {
	dir, text := notifying(t)
	c, report := load(t, dir, text)
	if report != "" {
		t.Fatal(report)
	}
	n := c.Notify
	if len(n.Webhooks) != 1 || n.Webhooks[0].Name != "alerts" || n.Webhooks[0].Secret != "alerts-webhook" || n.Mail == nil || n.Mail.From != "Gate <gate@example.com>" {
		t.Errorf("notify is %+v", n)
	}
	dir, text = machine(t)
	if c, report = load(t, dir, text); report != "" || c.Notify == nil || c.Notify.Webhooks != nil || c.Notify.Mail != nil {
		t.Errorf("without the block: %s", report)
	}
}

func TestNotifyIsCheckedInPlace(t *testing.T) {
	dir, text := notifying(t)
	text = strings.NewReplacer(
		`"https://hooks.example.com/sallyport"`, `"http://hooks.example.com/pathsecret"`, `secret = "alerts-webhook"`, `secret = "whsec_hunter2"`,
		`"smtp.example.com"`, `"smtp.example.com:587"`, `password = "mail"`, `password = "hunter3"`, `user     = "gate"`, "ca = \"no-such-ca.pem\"\n user = \"gate\"",
	).Replace(text)
	_, report := load(t, dir, text)
	for _, want := range []string{"Not https", "No such credential", "Not a host", `host     = "smtp.example.com:587"`, "Cannot use the CA", filepath.Join(dir, "no-such-ca.pem")} {
		if !strings.Contains(report, want) {
			t.Errorf("the report lacks %q", want)
		}
	}
	for _, no := range []string{"hunter2", "hunter3", "pathsecret"} {
		if strings.Contains(report, no) {
			t.Errorf("the report shows %q", no)
		}
	}
	if n := strings.Count(report, "No such credential"); n != 2 {
		t.Errorf("%d missing credentials", n)
	}
	if t.Failed() {
		t.Log(report)
	}
}

func TestNotifyOfTheGuideLoads(t *testing.T) {
	guide, err := os.ReadFile("../docs/notify.md")
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(string(guide), "```\n")
	if len(parts) < 2 || !strings.Contains(parts[1], "notify {") {
		t.Fatal("the guide has no configuration")
	}
	dir, text := machine(t)
	for _, name := range []string{"alerts-webhook", "mail"} {
		if err := os.WriteFile(filepath.Join(dir, "etc/credentials", name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, report := load(t, dir, text+strings.ReplaceAll(parts[1], "/etc/sallyport", dir+"/etc"))
	if report != "" {
		t.Fatal(report)
	}
	if len(c.Notify.Webhooks) != 1 || c.Notify.Mail == nil || c.Notify.Mail.User != "gate" {
		t.Errorf("notify is %+v", c.Notify)
	}
}
