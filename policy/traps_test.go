package policy

import (
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"

	"github.com/sallyport/sallyport/policy/strict"
)

// found compiles a policy and returns its findings as "file:line summary: detail" lines.
func found(src map[string][]byte) string {
	s, _, f := compile(src)
	s.enforceable(f, map[string][]string{"postgres": {"databases"}})
	s.whole(f)
	var lines []string
	for _, d := range f.Diags {
		if err := strict.Err(hcl.Diagnostics{d}); err != nil {
			lines = append(lines, err.Error())
		}
	}
	return strings.Join(lines, "\n")
}

func ruleWith(text string) string {
	return `rule "r" {
  target  = { name = "orders" }
  role    = ["reader"]
  who     = { everybody = true }
  longest = "1h"
  ` + text + `
}`
}

// The traps of HCL's expressions: each is found before a policy is signed.
func TestTrapsOfConditions(t *testing.T) {
	for name, c := range map[string]struct{ when, say string }{
		"unknown behind a short-circuit": {`request.hour < 0 && user.nmae == "x"`, `There is no user.nmae. Did you mean "user.name"?`},
		"unknown root":                   {`requst.hour < 6`, `There is no requst.hour. Did you mean "request.hour"?`},
		"number and text":                {`request.hour == "22"`, "A number never equals a text."},
		"text and number":                {`request.time == 22`, "A text never equals a number."},
		"null":                           {`request.ticket == null`, "Leave the attribute out instead"},
		"not bool":                       {`user.email`, "when is true or false; this is a text."},
		"not bool in and":                {`request.hour < 6 && user.email`, "&& and || join conditions; this is a text."},
		"not of text":                    {`!user.email`, "! negates true or false"},
		"always":                         {`true`, "This is always the same"},
		"always behind or":               {`request.hour < 6 || true`, "One side is always the same"},
		"two literals":                   {`1 == 1`, "This is always the same"},
		"absent label":                   {`target.labels.region == "eu"`, `Target orders, which it covers, has no label "region".`},
		"misspelt label":                 {`target.labels.evn == "prod"`, `has no label "evn". Did you mean "env"?`},
		"unmapped claim":                 {`user.claims.team == "x"`, `No issuer maps a claim "team".`},
		"for":                            {`[for g in user.groups : g] == user.groups`, "for is not supported"},
		"splat":                          {`user.groups[*] == "x"`, "[*] is not supported"},
		"template":                       {`"${user.email}x" == "x"`, "Templates are not supported"},
		"template alone":                 {`"${user.email}" == "x"`, "Templates are not supported"},
		"index":                          {`user.groups[0] == "x"`, "[ ] is not supported"},
		"conditional":                    {`request.hour < 6 ? true : false`, "? : is not supported"},
		"arithmetic":                     {`request.hour + 2 < 6`, "Arithmetic is not supported"},
		"times by order":                 {`request.time < "06:00"`, `write between(request.time, "22:00", "06:00")`},
		"unknown function":               {`hsa(user.groups, "x")`, `There is no function hsa. Did you mean "has"?`},
		"a clock":                        {`timestamp() == "x"`, "There is no function timestamp."},
		"number of arguments":            {`has(user.groups)`, "has takes 2 arguments"},
		"kind of argument":               {`has(user.email, "x")`, "has takes a list of texts here; this is a text."},
		"lists compared":                 {`user.groups == ["a"]`, "Lists are not compared"},
		"weekday":                        {`request.weekday == "Monday"`, `"Monday" is never equal: it is one of monday`},
		"weekday in a list":              {`has(["saturday", "sundy"], request.weekday)`, `"sundy" is never equal`},
		"e-mail in capitals":             {`user.email == "Bob@example.com"`, "Write it in lower case"},
		"kind":                           {`user.kind == "robot"`, `"robot" is never equal`},
		"target":                         {`target.name == "ordres"`, `Did you mean "orders"?`},
		"no window":                      {`between(request.time, "22:00", "22:00")`, "is never, or always: say which"},
		"window of nonsense":             {`between(request.time, "22", "6:00")`, `Write a time of day such as "22:00".`},
		"window of something else":       {`between(user.name, "22:00", "06:00")`, "between is about request.time"},
		"network":                        {`in_network(request.client, "10.0.0.1/8")`, "without bits of a host"},
		"an hour that is none":           {`request.hour > 23`, "This is always the same: it lies between 0 and 23."},
		"never after the last hour":      {`24 <= request.hour`, "it lies between 0 and 23"},
		"always within the hour":         {`request.minute < 60`, "it lies between 0 and 59"},
		"an hour that never comes":       {`request.hour == 24`, "These are never equal: it lies between 0 and 23."},
		"a length below none":            {`request.minutes < 0`, "it is at least 0"},
		"half a number":                  {`request.hour < 6.5`, "Numbers are whole"},
		"object":                         {`{ a = 1 }`, "This is not supported"},
		"heredoc":                        {"user.name == <<E\nx\nE\n", ""}, // a text like any other
	} {
		t.Run(name, func(t *testing.T) {
			got := found(rulesOnly(ruleWith("when = " + c.when)))
			if c.say == "" {
				if got != "" {
					t.Errorf("found %q", got)
				}
				return
			}
			if !strings.Contains(got, c.say) || !strings.HasPrefix(got, "policy/rules.hcl:6: ") {
				t.Errorf("found %q, want %q", got, c.say)
			}
		})
	}
}

func TestConditionsThatHold(t *testing.T) {
	in := ask(person("alice", "engineering", "oncall"), "orders", "reader")
	for expr, want := range map[string]bool{
		`request.hour == 12`:                                                 true,
		`request.hour < 22 || has(user.groups, "oncall")`:                    true,
		`request.hour >= 22 && has(user.groups, "oncall")`:                   false,
		`!(request.weekday == "wednesday")`:                                  false,
		`has(["saturday", "sunday"], request.weekday)`:                       false,
		`in_network(request.client, "192.0.2.0/24")`:                         true,
		`in_network(request.client, "2001:db8::/32")`:                        false,
		`starts_with(user.email, "alice@")`:                                  true,
		`target.labels.env == "prod" && user.kind != "workload"`:             true,
		`request.date == "2026-11-25" && request.minute == 0`:                true,
		`request.same_address && request.proof == "browser"`:                 true,
		`request.same_address != true`:                                       false,
		`request.ticket == "" && request.object == "" && user.name == ""`:    true,
		`request.minutes <= 60 && request.role == "reader"`:                  true,
		`user.issuer == "https://id.example.com" && target.name == "orders"`: true,
		`request.minute > 0 || request.minute <= -1`:                         false,
	} {
		p, err := load(t, rulesOnly(ruleWith("when = "+expr)))
		if err != nil {
			if strings.Contains(expr, "-1") {
				continue // negation is arithmetic
			}
			t.Errorf("%s: %v", expr, err)
			continue
		}
		if got := p.Decide(in).Effect == Allow; got != want {
			t.Errorf("%s: %v", expr, got)
		}
	}
}

func TestTrapsOfBlocks(t *testing.T) {
	for name, c := range map[string]struct{ text, say string }{
		"unknown attribute":     {ruleWith(`reson = "required"`), `rule r has no "reson". Did you mean "reason"?`},
		"unknown block":         {`ruel "x" {}`, `There is no block "ruel". Did you mean "rule"?`},
		"unknown inner block":   {ruleWith(`aprove { from = { groups = ["dba"] } }`), `rule r has no block "aprove". Did you mean "approve"?`},
		"outside a block":       {`longest = "1h"`, "longest stands in no block"},
		"unknown key":           {`right "cut" { who = { group = ["dba"] } }`, `who of right cut has no "group". Did you mean "groups"?`},
		"key twice":             {`right "cut" { who = { groups = ["a"], groups = ["b"] } }`, `"groups" stands twice in who of right cut`},
		"null":                  {ruleWith(`reason = null`), "Leave the attribute out instead"},
		"number for a text":     {ruleWith(`reason = 1`), "Write it in quotes"},
		"text for a number":     {ruleWith(`extensions = "3"`), "extensions is a whole number from 0 to 100"},
		"a text for a list":     {ruleWith(`proof = "token"`), `Write proof = ["..."].`},
		"empty list":            {ruleWith(`proof = []`), "An empty list matches nothing"},
		"variable":              {ruleWith(`reason = user.email`), "only understood in conditions"},
		"function":              {ruleWith(`reason = lower("x")`), "only understood in conditions"},
		"template":              {ruleWith(`ticket = "${1}"`), "only understood in conditions"},
		"unknown word":          {ruleWith(`reason = "requierd"`), `Did you mean "required"?`},
		"unknown proof":         {ruleWith(`proof = ["tokn"]`), `Did you mean "token"?`},
		"unknown ticket":        {ruleWith(`ticket = "jira"`), `Write ticket "jira" { pattern = "..." } somewhere.`},
		"bad pattern":           {`ticket "j" { pattern = "[" }`, "It is a regular expression (RE2)"},
		"no such target":        {`forbid "x" { target = { name = "ordres" } }`, `There is no target "ordres". Did you mean "orders"?`},
		"no such label":         {`forbid "x" { target = { labels = { evn = "prod" } } }`, `No target has a label "evn". Did you mean "env"?`},
		"covers nothing":        {`forbid "x" { target = { labels = { env = "test" } } }`, ""},
		"no such role":          {strings.Replace(ruleWith(""), `"reader"`, `"raeder"`, 1), `No target that it covers has a role "raeder".`},
		"nobody":                {`forbid "x" { who = {} }`, "who of forbid x names nobody"},
		"everybody and some":    {`forbid "x" { who = { everybody = true, groups = ["a"] } }`, "says everybody and then some"},
		"missing who":           {strings.Replace(ruleWith(""), `who `, "# who", 1), "rule r needs who"},
		"missing longest":       {strings.Replace(ruleWith(""), `longest `, "# longest", 1), "rule r needs longest"},
		"too long":              {strings.Replace(ruleWith(""), `"1h"`, `"31d"`, 1), "longest lies between 1m and 30d"},
		"no length":             {strings.Replace(ruleWith(""), `"1h"`, `"1 hour"`, 1), "Write longest as"},
		"default over longest":  {ruleWith(`default = "2h"`), "default is longer than longest"},
		"hold over timeout":     {ruleWith("timeout = \"10m\"\n hold = \"11m\""), "hold is longer than timeout"},
		"hold of no time":       {ruleWith(`hold = "0s"`), "hold lies between 1s and 7d"},
		"approve by nobody":     {ruleWith(`approve { from = {} }`), "from of approve of rule r names nobody"},
		"approve without from":  {ruleWith(`approve { count = 1 }`), "needs from"},
		"fewer than asked":      {ruleWith("approve {\n count = 2\n from = { emails = [\"a@x\"] }\n }"), "2 have to say yes, but only 1 are named"},
		"count of none":         {ruleWith("approve {\n count = 0\n from = { groups = [\"dba\"] }\n }"), "count is a whole number from 1"},
		"unknown channel":       {ruleWith(`scope { channels = ["shel"] }`), `Did you mean "shell"?`},
		"forward to everywhere": {ruleWith(`scope { channels = ["forward"] }`), "The channel forward needs forward"},
		"listen anywhere":       {ruleWith(`scope { channels = ["listen"] }`), "The channel listen needs listen"},
		"places never used":     {ruleWith("scope {\n channels = [\"forward\"]\n forward = [\"db:1\"]\n listen = [\"a:1\"]\n }"), "listen names places, but channels has no"},
		"name twice":            {ruleWith("") + "\n" + ruleWith(""), `rule "r" is already at policy/rules.hcl:1`},
		"rule and forbid":       {ruleWith("") + "\n" + `forbid "r" {}`, `forbid "r" is already at policy/rules.hcl:1`},
		"no name":               {`rule { }`, `Write rule "name" { ... }.`},
		"bad name":              {`forbid "A b" { }`, "Names of rules are of lower-case letters"},
		"unknown right":         {`right "approve" { who = { groups = ["a"] } }`, "A right is one of"},
		"a right of everybody":  {`right "cut" { who = { everybody = true } }`, "is some people's, not everybody's"},
		"users of a target":     {"right \"users\" {\n who = { groups = [\"a\"] }\n target = { name = \"orders\" }\n}", "Users belong to no target"},
		"zone":                  {`clock { zone = "Mars" }`, "Unknown zone"},
		"the machine's zone":    {`clock { zone = "Local" }`, "Unknown zone"},
		"glass without review":  {strings.Replace(ruleWith(""), "rule", "break_glass", 1), "needs review"},
		"glass with approval":   {"break_glass \"x\" {\n approve {}\n}", `has no block "approve"`},
		"syntax":                {`rule "x" {`, "Unclosed configuration block"},
	} {
		t.Run(name, func(t *testing.T) {
			got := found(rulesOnly(c.text))
			if c.say != "" && !strings.Contains(got, c.say) {
				t.Errorf("found %q, want %q", got, c.say)
			}
		})
	}
}

func TestTrapsOfTargetsAndIssuers(t *testing.T) {
	target := func(text string) string {
		return "target \"x\" {\n protocol = \"postgres\"\n role \"r\" {}\n " + text + "\n}"
	}
	issuer := func(text string) string { return "issuer \"x\" {\n client_id = \"c\"\n " + text + "\n}" }
	for name, c := range map[string]struct{ text, say string }{
		"plaintext":             {target("address = \"db:5432\"\n tls { mode = \"off\" }"), `mode = "off" is only for loopback addresses and unix sockets`},
		"plaintext to a name":   {target("address = \"localhost:5432\"\n tls { mode = \"off\" }"), `mode = "off" is only for loopback`},
		"loopback":              {target("address = \"127.0.0.1:5432\"\n tls { mode = \"off\" }"), ""},
		"no port":               {target(`address = "db"`), `Write "host:port"`},
		"port of a word":        {target(`address = "db:pg"`), `Write "host:port"`},
		"a URL":                 {target(`address = "https://db:5432"`), `Write "host:port"`},
		"userinfo":              {target(`address = "a@db:5432"`), `Write "host:port"`},
		"no such ca":            {target("address = \"db:5432\"\n tls { ca = \"ca.pem\" }"), "There is no file policy/ca.pem in the bundle"},
		"not a ca":              {target("address = \"db:5432\"\n tls { ca = \"rules.hcl\" }"), "has no certificate in PEM"},
		"bad pin":               {target("address = \"db:5432\"\n tls { pin = [\"sha256:x\"] }"), "64 hexadecimal digits"},
		"checked by nobody":     {target("address = \"127.0.0.1:1\"\n tls {\n mode = \"off\"\n server_name = \"db\"\n }"), "nothing checks ca, server_name and pin"},
		"weaker mode":           {target("address = \"db:5432\"\n tls { mode = \"prefer\" }"), "mode is one of"},
		"role twice":            {target("address = \"db:5432\"\n role \"r\" {}"), `has the role "r" already`},
		"role with a plus":      {target("address = \"db:5432\"\n role \"r+token\" {}"), "Names of roles"},
		"no role":               {"target \"x\" {\n protocol = \"ssh\"\n address = \"h:22\"\n}", "needs at least one role"},
		"unknown protocol":      {"target \"x\" {\n protocol = \"postgre\"\n address = \"h:22\"\n role \"r\" {}\n}", `Did you mean "postgres"?`},
		"ssh with tls":          {"target \"x\" {\n protocol = \"ssh\"\n address = \"h:22\"\n role \"r\" {}\n tls {}\n}", "Pin the host keys"},
		"name with a slash":     {strings.Replace(target(`address = "db:5432"`), `"x"`, `"x/y"`, 1), "Names of targets"},
		"issuer without https":  {issuer(`url = "http://id.example.com"`), "http is only for loopback addresses"},
		"issuer on loopback":    {strings.ReplaceAll(issuer("url = \"http://127.0.0.1:1\"\n person_claim = \"p\""), "client_id", "client_id"), ""},
		"issuer twice":          {issuer(`url = "https://id.example.com"`), "Issuer corp has this url already"},
		"a second issuer":       {issuer(`url = "https://other"`), "needs person_claim"},
		"standing without age":  {issuer("url = \"https://other\"\n standing = \"sign-in\""), "write greatest_age"},
		"no openid":             {issuer("url = \"https://other\"\n scopes = [\"email\"]"), "Without the scope"},
		"workload, no audience": {"issuer \"x\" {\n url = \"https://other\"\n kind = \"workload\"\n}", "needs audiences"},
		"whose claim": {"issuer \"x\" {\n url = \"https://a\"\n kind = \"workload\"\n audiences = [\"s\"]\n claims = { repo = \"r\" }\n}\nissuer \"y\" {\n url = \"https://b\"\n kind = \"workload\"\n audiences = [\"s\"]\n claims = { repo = \"r\" }\n}\n" +
			`forbid "f" { who = { claims = { repo = "a" } } }`, `2 issuers map the claim "repo"; write issuer`},
	} {
		t.Run(name, func(t *testing.T) {
			got := found(rulesOnly(c.text))
			if c.say == "" {
				if strings.Contains(got, "x") && !strings.Contains(got, "person_claim") {
					t.Errorf("found %q", got)
				}
				return
			}
			if !strings.Contains(got, c.say) {
				t.Errorf("found %q, want %q", got, c.say)
			}
		})
	}
}

// An absent label is found by check; where one slips through (another version of the
// targets), a rule does not apply, and a forbid does.
func TestAbsentLabelAtRunTimeFailsClosed(t *testing.T) {
	s, _, f := compile(rulesOnly(ruleWith(`when = target.labels.region != "eu"`) + `
forbid "f" {
  target = { name = "billing" }
  when   = target.labels.region == "us" && request.minute > 58
}
rule "b" {
  target  = { name = "billing" }
  role    = ["reader"]
  who     = { everybody = true }
  longest = "1h"
}`))
	if !f.Diags.HasErrors() {
		t.Fatal("check found nothing")
	}
	d := s.decide(ask(person("alice"), "orders", "reader"))
	denied(t, d, "the condition of rule r does not hold")
	if len(d.Errors) != 1 || d.Errors[0] != "rule r: target orders has no label region" {
		t.Errorf("errors %q", d.Errors)
	}
	d = s.decide(ask(person("alice"), "billing", "reader"))
	denied(t, d, "rule f forbids it")
	if len(d.Errors) != 1 {
		t.Errorf("errors %q", d.Errors)
	}
}

func TestItsOwnTestsFail(t *testing.T) {
	src := files()
	src["policy/tests/rules.test.hcl"] = []byte(strings.Replace(testsHCL, "missing  = 1", "missing  = 0", 1))
	_, err := load(t, src)
	if err == nil || !strings.Contains(err.Error(), `its own test "a dba does not approve their own request" fails: missing is 1 and not 0`) {
		t.Errorf("got %v", err)
	}
}

func FuzzHCL(f *testing.F) {
	f.Add(rulesHCL, testsHCL)
	f.Add(ruleWith(`when = request.hour < 22 || has(user.groups, "oncall")`), "")
	f.Add(targetsHCL, nightRules)
	f.Fuzz(func(_ *testing.T, rules, tests string) {
		src := rulesOnly(rules)
		src["policy/x.test.hcl"] = []byte(tests)
		s, trials, found := compile(src)
		s.whole(found)
		if !found.Diags.HasErrors() {
			s.decide(ask(person("alice", "engineering"), "orders", "reader"))
			for _, tr := range trials {
				tr.run(s)
			}
		}
	})
}
