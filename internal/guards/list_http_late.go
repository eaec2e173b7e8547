package guards

// httpLate is what was found missing once all of HTTP stood.
var httpLate = []Guard{
	{
		"protocols/http.cut-answer", "protocols/http/relay.go",
		"\t\ta.cut()\n",
		"",
		"./protocols/http", "TestCutSlowReader", "live connections outlive the grant: a client that takes nothing",
	},
	{
		"protocols/http.call-recorded", "protocols/http/relay.go",
		"callOf(w.Header()), done.Cut",
		"\"\", done.Cut",
		"./protocols/http", "TestCallsAreRecorded", "a refused call is recorded as a success",
	},
	{
		"policy.options-checked", "policy/load.go",
		"\ts.checkOptions(f, o.Check)\n",
		"",
		"./cmd/sallyport", "TestWrongOptionsAreNotLoaded", "silent defaults: an option that nobody reads",
	},
	{
		"protocols/http.overlong", "protocols/http/path.go",
		"\tif !loose && overlong(path) {",
		"\tif !loose && overlong(path) && false {",
		"./protocols/http", "TestPathConfusion", "path matched is not the path forwarded: overlong UTF-8",
	},
	{
		"protocols/http.query", "protocols/http/path.go",
		"\tif err := inQuery(scope.Query, r.URL.RawQuery); err != nil {",
		"\tif err := inQuery(scope.Query, r.URL.RawQuery); err != nil && false {",
		"./protocols/http", "TestScopeOfTheQuery", "a sub-channel not authorised: a parameter outside the grant",
	},
	{
		"protocols/http.query-twice", "protocols/http/query.go",
		"\t\tif seen[plainName] {",
		"\t\tif seen[plainName] && false {",
		"./protocols/http", "TestScopeOfTheQuery", "silent defaults and spelling: one of two parameters",
	},
	{
		"protocols/http.query-missing", "protocols/http/query.go",
		"\t\tif needed {",
		"\t\tif needed && false {",
		"./protocols/http", "TestScopeOfTheQuery", "silent defaults: a parameter that is left out",
	},
	{
		"protocols/http.query-semicolon", "protocols/http/query.go",
		`if strings.Contains(raw, ";") {`,
		`if strings.Contains(raw, ";;;") {`,
		"./protocols/http", "TestScopeOfTheQuery", "requests read in two ways",
	},
	{
		"protocols/http.query-readings", "protocols/http/query.go",
		"\t\tif !in {",
		"\t\tif !in && reading == readings[0] {",
		"./protocols/http", "TestScopeOfTheQuery", "requests read in two ways",
	},
	{
		"policy.query-narrows", "policy/decision.go",
		"if len(limit.Query) > 0 && !slices.Equal(",
		"if false && !slices.Equal(",
		"./policy", "TestScopesCompared", "live connections outlive the grant: a policy that narrows",
	},
	{
		"session.ask-for-more", "session/open.go",
		"gr != nil && !(who.more && gr.narrowed()) {",
		"gr != nil {",
		"./protocols/http", "TestAskForMore", "a remembered yes stands in for another question",
	},
	{
		"protocols/http.hosts-twice", "protocols/http/options.go",
		`if other := hosts[host]; other != "" {`,
		`if other := hosts[host]; other != "" && false {`,
		"./protocols/http", "TestOptionsAreChecked", "host confusion: two targets with one host",
	},
	{
		"protocols/http.record-encoding", "protocols/http/record/body.go",
		"\tdefault:\n\t\treturn nil, ErrEncoding\n",
		"\tdefault:\n\t\treturn nil, nil\n",
		"./protocols/http", "TestBodiesAreRecorded", "a body in another encoding that skips the record",
	},
	{
		"protocols/http.record-form", "protocols/http/record/body.go",
		"if err != nil && t.line.Direction == \"up\" {",
		"if err != nil && t.line.Direction == \"\" {",
		"./protocols/http", "TestBodiesAreRecorded", "a body in another encoding that skips the record",
	},
	{
		"protocols/http.record-types", "protocols/http/record/body.go",
		`if r.Bodies() && len(h.Values("Content-Type")) > 1 {`,
		`if r.Bodies() && len(h.Values("Content-Type")) > 9 {`,
		"./protocols/http", "TestBodiesAreRecorded", "a body of two types that skips the record",
	},
	{
		"protocols/http.record-accept", "protocols/http/relay.go",
		"\t\t\tif l.rules.Bodies() {",
		"\t\t\tif false {",
		"./protocols/http", "TestBodiesAreRecorded", "an answer in another encoding that skips the record",
	},
	{
		"protocols/http.record-bombs", "protocols/http/record/body.go",
		"io.LimitReader(in, int64(t.rules.o.Largest)+1)",
		"io.LimitReader(in, 1<<40)",
		"./protocols/http/record", "TestBombs", "a target that makes the gate's memory grow",
	},
	{
		"protocols/http.record-frames", "protocols/http/websocket.go",
		`if len(res.Header.Values("Sec-Websocket-Extensions")) > 0 && l.rules.Messages() {`,
		`if len(res.Header.Values("Sec-Websocket-Extensions")) > 9 && l.rules.Messages() {`,
		"./protocols/http", "TestRecordedWebsocketsAreNotCompressed", "messages in another encoding that skip the record",
	},
	{
		"protocols/http.record-offers", "protocols/http/websocket.go",
		"\t\tout.Header.Del(\"Sec-Websocket-Extensions\")",
		"\t\t_ = 0",
		"./protocols/http", "TestRecordedWebsocketsAreNotCompressed", "messages in another encoding that skip the record",
	},
	{
		"protocols/http.record-secrets", "protocols/http/record/redact.go",
		"\tif !s.rules.secret(name) {\n",
		"\tif !s.rules.secret(name) || true {\n",
		"./protocols/http/record", "TestSecretsAreLeftOut", "secrets in logs: a field of JSON",
	},
	{
		"protocols/http.record-forms", "protocols/http/record/redact.go",
		"if value != \"\" && (err != nil || r.secret(plain)) {",
		"if value != \"\" && err != nil {",
		"./protocols/http/record", "TestSecretsAreLeftOut", "secrets in logs: a field of a form",
	},
	{
		"protocols/http.record-parts", "protocols/http/record/redact.go",
		"case r.secret(part.FormName()):",
		"case r.secret(\"\"):",
		"./protocols/http/record", "TestSecretsAreLeftOut", "secrets in logs: a part of a form",
	},
	{
		"protocols/http.record-credentials", "protocols/http/record/options.go",
		"if r.secret(name) || slices.Contains(credentials, name) {",
		"if r.secret(name) {",
		"./protocols/http/record", "TestPathsAndHeaders", "secrets in logs: cookies",
	},
	{
		"protocols/http.record-broken", "protocols/http/record/redact.go",
		"\t\ts.in = s.in[:max(s.at, s.from)] //",
		"\t\t//",
		"./protocols/http", "TestAnswersThatAreNoJSON", "secrets in logs: behind what cannot be read",
	},
}
