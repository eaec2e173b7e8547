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
}
