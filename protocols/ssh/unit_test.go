package ssh

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/policy"
)

func TestTerminalKnowsWhenItCanBeWrittenTo(t *testing.T) {
	for _, trial := range []struct{ drawn, words string }{
		{"$ ", "\r\nhello\r\n"},
		{"\x1b[1m$ \x1b[0m", "\r\nhello\r\n"},
		{"\x1b[?1049h\x1b[2J", "\x1b]2;hello\x07"},
		{"\x1b[?1;1049h", "\x1b]2;hello\x07"},
		{"\x1b[?1049h\x1b[?1049l", "\r\nhello\r\n"},
		{"\x1b[?25l", "\x1b]2;hello\x07"},
		{"\x1b[?25l\x1b[?25h", "\r\nhello\r\n"},
		{"\x1b[3", ""},
		{"\x1b]2;title", ""},
		{"\x1b]2;title\x07", "\r\nhello\r\n"},
		{"\x1b]2;title\x1b\\", "\r\nhello\r\n"},
		{"\xe6\xbc", ""},
		{"\xe6\xbc\xa2", "\r\nhello\r\n"},
		{"\xff\xfe plain", "\r\nhello\r\n"},
		{"\x1b(B", "\r\nhello\r\n"},
	} {
		screen := &tty{}
		for _, c := range []byte(trial.drawn) { // however it is cut
			screen.see([]byte{c})
		}
		whole := &tty{}
		whole.see([]byte(trial.drawn))
		if got := screen.words("hello"); got != trial.words || whole.words("hello") != got {
			t.Errorf("%q: %q, whole %q", trial.drawn, got, whole.words("hello"))
		}
	}
}

func TestRules(t *testing.T) {
	all, none := rules{}, rules{policy.Scope{Channels: []string{"exec"}}}
	some := rules{policy.Scope{Channels: []string{"forward", "agent"}, Forward: []string{"db:5432", "[::1]:80"}}}
	for name, trial := range map[string]struct{ got, want bool }{
		"all shell":      {all.allows(channelShell), true},
		"all agent":      {all.allows(channelAgent), false},
		"all x11":        {all.allows(channelX11), false},
		"none shell":     {none.allows(channelShell), false},
		"none exec":      {none.allows(channelExec), true},
		"some agent":     {some.allows(channelAgent), true},
		"some x11":       {some.allows(channelX11), false},
		"all forward":    {all.forwards(place("x", 1)), true},
		"none forward":   {none.forwards(place("x", 1)), false},
		"some forward":   {some.forwards(place("DB", 5432)), true},
		"other port":     {some.forwards(place("db", 5433)), false},
		"other name":     {some.forwards(place("db.", 5432)), false},
		"IPv6":           {some.forwards(place("::1", 80)), true},
		"some listen":    {some.listens(place("db", 5432)), false},
		"all listen":     {all.listens(place("x", 1)), true},
		"a socket":       {some.forwards("/run/x"), false},
		"LC_ALL":         {passes("LC_ALL"), true},
		"LD_PRELOAD":     {passes("LD_PRELOAD"), false},
		"LANGUAGEX":      {passes("LANGUAGEX"), false},
		"GIT_SSH":        {passes("GIT_SSH"), false},
		"LC_":            {passes("LC_"), false},
		"LC_A\nB":        {passes("LC_A\nB"), false},
		"target's name":  {targetName("web-1"), true},
		"an address":     {targetName("::1"), false},
		"an empty name":  {targetName(""), false},
		"another's name": {targetName("web-1 "), false},
	} {
		if trial.got != trial.want {
			t.Errorf("%s: %v", name, trial.got)
		}
	}
	if e := extensions(none.scope); e["permit-port-forwarding"] == "" && len(e) != 2 {
		t.Errorf("extensions: %v", e)
	}
	if _, ok := extensions(all.scope)["permit-agent-forwarding"]; ok {
		t.Error("the session's certificate lends the agent")
	}
	if _, ok := extensions(none.scope)["permit-port-forwarding"]; ok {
		t.Error("the session's certificate forwards")
	}
}

func signer(t testing.TB) ssh.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestTargetIsKnownByThePolicyAlone(t *testing.T) {
	key, ca, other := signer(t), signer(t), signer(t)
	line := func(s ssh.Signer) string { return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(s.PublicKey()))) }
	known, err := knownHost(policy.Target{Name: "web-1", Address: "web-1.internal:22", Options: func(into any) error {
		*into.(*TargetOptions) = TargetOptions{HostKeys: []string{line(key)}, HostCA: []string{line(ca)}} //nolint:forcetypeassert // the only one
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	cert := func(by ssh.Signer, kind uint32, name string, ends time.Duration) ssh.PublicKey {
		c := &ssh.Certificate{
			Key: other.PublicKey(), CertType: kind, ValidPrincipals: []string{name},
			ValidAfter: uint64(time.Now().Add(-time.Hour).Unix()), ValidBefore: uint64(time.Now().Add(ends).Unix()),
		}
		if err := c.SignCert(rand.Reader, by); err != nil {
			t.Fatal(err)
		}
		return c
	}
	for name, trial := range map[string]struct {
		key ssh.PublicKey
		ok  bool
	}{
		"its key":          {key.PublicKey(), true},
		"another key":      {other.PublicKey(), false},
		"certified":        {cert(ca, ssh.HostCert, "web-1.internal", time.Hour), true},
		"by another CA":    {cert(other, ssh.HostCert, "web-1.internal", time.Hour), false},
		"by its own key":   {cert(key, ssh.HostCert, "web-1.internal", time.Hour), false},
		"for another name": {cert(ca, ssh.HostCert, "web-2.internal", time.Hour), false},
		"ended":            {cert(ca, ssh.HostCert, "web-1.internal", -time.Minute), false},
		"a user's":         {cert(ca, ssh.UserCert, "web-1.internal", time.Hour), false},
		"the CA's own key": {ca.PublicKey(), false},
	} {
		err := known.check("", nil, trial.key)
		var unknown *unknownHost
		if (err == nil) != trial.ok || (err != nil && !errors.As(err, &unknown)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := knownHost(policy.Target{Name: "web-1", Address: "web-1:22"}); err == nil || !strings.Contains(err.Error(), "neither host_keys nor host_ca") {
		t.Errorf("a target without keys: %v", err)
	}
}

// said is ssh.ConnMetadata of which only the user name is asked.
type meta struct {
	ssh.ConnMetadata
	user string
}

func (m meta) User() string { return m.user }

func TestUserNameDoesNotChangeDuringTheSignIn(t *testing.T) {
	c := &conn{}
	if n, err := c.names(meta{user: "ops+token+nowait@web-1"}); err != nil || n != (name{role: "ops", target: "web-1", token: true, nowait: true}) {
		t.Fatalf("%+v, %v", n, err)
	}
	if _, err := c.names(meta{user: "root@web-1"}); err == nil || !strings.Contains(err.Error(), "the user name changed during the sign-in") {
		t.Errorf("err %v", err)
	}
}

func TestPasswordAnswersOneHiddenQuestion(t *testing.T) {
	ask := answer("secret")
	for name, trial := range map[string]struct {
		questions []string
		echos     []bool
		want      string
	}{
		"shown":   {[]string{"Password: "}, []bool{true}, ""},
		"two":     {[]string{"Password: ", "Code: "}, []bool{false, false}, ""},
		"nothing": {nil, nil, ""},
	} {
		if got, err := ask("", "", trial.questions, trial.echos); len(got) > 0 || (err == nil && len(trial.questions) > 0) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if got, err := ask("", "", []string{"Password: "}, []bool{false}); err != nil || got[0] != "secret" {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := ask("", "", []string{"And again: "}, []bool{false}); err == nil || len(got) > 0 {
		t.Errorf("a second time: %q", got)
	}
}

func TestClientTextsNameTargets(t *testing.T) {
	ca := signer(t).PublicKey()
	line := KnownHosts([]string{"web-1", "web-2"}, "2222", ca)
	if !strings.HasPrefix(line, "@cert-authority [web-1]:2222,[web-2]:2222 ssh-ed25519 ") || KnownHosts(nil, "22", ca) != "" {
		t.Errorf("known_hosts: %q", line)
	}
	text := ClientConfig(ClientGate{Name: "gate", Host: "gate.example.com", Port: "2222", KnownHosts: "/k", Identity: "/i", Certificate: "/c"}, []string{"web-1", "web-2"})
	if strings.Contains(text, "*") || !strings.Contains(text, "Host web-1 web-2\n  ProxyJump gate\n") || !strings.Contains(text, "Host gate\n  HostName gate.example.com\n  Port 2222\n  User jump\n") || !strings.Contains(text, "  CertificateFile /c\n") {
		t.Errorf("ssh_config:\n%s", text)
	}
}

// A target that says nothing, or no more than who it is, is not one that refuses.
func TestSilentTargetIsNotSaidToRefuse(t *testing.T) {
	for _, says := range []string{"", "SSH-2.0-silent\r\n"} {
		gate, target := net.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = target.Write([]byte(says))  // it may be over
			_, _ = io.Copy(io.Discard, target) // as above
		}()
		if err := gate.SetDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		_, _, _, err := ssh.NewClientConn(gate, "", &ssh.ClientConfig{User: "deploy", HostKeyCallback: func(string, net.Addr, ssh.PublicKey) error { return nil }})
		if got := notIn("deploy", err); got != "did not finish the login within 15s" {
			t.Errorf("%q: %v is said as %q", says, err, got)
		}
		_ = gate.Close() // closed by the failure
		<-done
		_ = target.Close() // as above
	}
	if got := notIn("deploy", errors.New("ssh: unable to authenticate")); got != "does not let the gate log in as deploy" {
		t.Errorf("%q", got)
	}
}

func TestAlgorithmsAreNarrowedByName(t *testing.T) {
	c, err := choose(Options{Ciphers: []string{ssh.CipherAES256GCM}, MACs: []string{ssh.HMACSHA512ETM}, KeyExchanges: []string{ssh.KeyExchangeMLKEM768X25519}})
	if err != nil || len(c.Ciphers) != 1 || c.Ciphers[0] != ssh.CipherAES256GCM || len(c.MACs) != 1 || c.MACs[0] != ssh.HMACSHA512ETM ||
		len(c.KeyExchanges) != 1 || c.KeyExchanges[0] != ssh.KeyExchangeMLKEM768X25519 {
		t.Errorf("%+v, %v", c, err)
	}
	for _, old := range []Options{{Ciphers: []string{"3des-cbc"}}, {MACs: []string{"hmac-sha1"}}, {KeyExchanges: []string{"diffie-hellman-group1-sha1"}}} {
		if _, err := choose(old); err == nil || !strings.Contains(err.Error(), "this gate does not speak") {
			t.Errorf("%+v: %v", old, err)
		}
	}
}

func TestDigestOfShortInputIsNotKept(t *testing.T) {
	d := newDigest()
	d.add([]byte("tops3cret"))
	if got := d.String(); got != "9 bytes" {
		t.Errorf("%q", got)
	}
	d.add(bytes.Repeat([]byte("x"), smallInput))
	if got := d.String(); !strings.Contains(got, "SHA-256") {
		t.Errorf("%q", got)
	}
}

func TestSCPIsRecognisedOnlyWhereAllOfItIsUnderstood(t *testing.T) {
	for command, want := range map[string]string{
		"scp -t /x": directionUp, "scp -r -p -f -- /x": directionDown, "/usr/bin/scp -v -t .": directionUp, "scp -v -r -p -d -t -- -odd": directionUp,
		"scp -f *.log ~/a 'b c' \"d e\" f\\ g h\\&": directionDown,
		"scp /a /b": "", "scp -- -t": "", "rm -t": "", "scp": "", "": "", "scp -t": "", "scp -t --": "", "scp -f -- ": "",
		"scp -f x; sh": "", "scp -f x;sh": "", "scp -f x\nsh": "", "scp -f x & sh": "", "scp -f x | sh": "", "scp -t /x && sh": "", "scp -f $(sh)": "", "scp -f `sh`": "", "scp -f \"$(sh)\"": "", "scp -f x > y": "",
		"scp -f $HOME": "", "scp -f x -S sh": "", "scp -S sh -f x": "", "scp -f {a,b}": "", "./scp -f x": "", "A=b scp -f x": "", "scp -f x \\\nsh": "", "scp -f 'a\nb'": "", "scp -t /a /b": "",
		"scp -f x # y": "", "scp -f (x)": "", "scp -f <(sh)": "", "scp -f 'x": "", "scp -f x\\": "", "scp -f -t x": "", "scp -f \"a\\\"; sh\"": "",
	} {
		if got, ok := scpEndOf(command); ok != (want != "") || ok && got.direction != want {
			t.Errorf("%q: %+v", command, got)
		}
	}
}

func TestSCPsFilesAreNamedByTheirPlaceAtTheTarget(t *testing.T) {
	for _, trial := range []struct {
		command, called, want string
	}{
		{"scp -t /etc/cron.d/x", "notes.txt", "/etc/cron.d/x, or /etc/cron.d/x/notes.txt"},
		{"scp -d -t /srv", "notes.txt", "/srv/notes.txt"},
		{"scp -t /srv/", "notes.txt", "/srv/notes.txt"},
		{"scp -t .", "notes.txt", "./notes.txt"},
		{"scp -t ~", "notes.txt", "~/notes.txt"},
		{"scp -t ''", "notes.txt", "notes.txt"},
		{"scp -t -- '/srv/a b'", "../x", "/srv/a b, or /srv/a b/../x"},
		{"scp -r -t /srv/site", "site/css/a.css", "/srv/site/css/a.css, or /srv/site/site/css/a.css"},
		{"scp -r -d -t /srv", "site/css/a.css", "/srv/site/css/a.css"},
		{"scp -f /etc/passwd", "passwd", "/etc/passwd"},
		{"scp -f /var/log/*.log", "a.log", "/var/log/a.log"},
		{"scp -f /a/x /b/x c", "x", "/a/x, or /b/x"},
		{"scp -r -f /srv/site", "site/a", "/srv/site/a"},
		{"scp -f notes", "notes", "notes"},
		{"scp -r -f .", "site/a", "site/a, of the paths that the command names"},
		{"scp -f x*y *x*y *x**y x**y x***y", "xy", "xy, of the paths that the command names"},
	} {
		end, ok := scpEndOf(trial.command)
		if got := end.names(strings.Split(trial.called, "/")); !ok || got != trial.want && trial.called != "../x" {
			t.Errorf("%s, %s: %q, want %q", trial.command, trial.called, got, trial.want)
		}
		if got := end.names([]string{trial.called}); trial.called == "../x" && got != trial.want {
			t.Errorf("%s, %s: %q, want %q", trial.command, trial.called, got, trial.want)
		}
	}
}

// What a client says of folders and paths is on the record with every file, so it has an end.
func TestSCPsNamesAreBounded(t *testing.T) {
	if _, ok := scpEndOf("scp -t /" + strings.Repeat("x", maxSCPLine)); ok {
		t.Error("a command of more than 8 KiB is recognised")
	}
	s := &scp{scpEnd: scpEnd{direction: directionUp, paths: []string{"/srv"}}}
	folder := "D0755 0 " + strings.Repeat("x", 4000)
	for s.command(folder) && len(s.around) < 10 {
	}
	if len(s.around) != 2 {
		t.Errorf("%d folders of 4,000 bytes each", len(s.around))
	}
}

// closes is a channel that counts how often it is closed.
type closes struct {
	ssh.Channel
	n int
}

func (c *closes) Close() error {
	c.n++
	return nil
}

// What runs behind a closed channel cannot be sent a signal any more.
func TestTargetsSideIsKeptForTheHangUp(t *testing.T) {
	target := &closes{}
	p := &pair{target: target}
	p.ending.Store(true)
	if p.leave(); target.n != 0 {
		t.Error("the target's side was closed ahead of the hang-up")
	}
	p.ending.Store(false)
	if p.leave(); target.n != 1 {
		t.Error("the target's side stays open")
	}
}

// A certificate was shown for one name; the answers must not serve another.
func TestQuestionIsOfOneName(t *testing.T) {
	c := &conn{why: errElse}
	if _, err := c.names(meta{user: "careful@web-1"}); err != nil {
		t.Fatal(err)
	}
	asked := false
	err := c.question(t.Context(), meta{user: "ops@web-1"}, func(string, string, []string, []bool) ([]string, error) {
		asked = true
		return nil, errElse
	}, identity.Proof{})
	if err == nil || asked {
		t.Errorf("asked for another name: %v, %v", asked, err)
	}
}
