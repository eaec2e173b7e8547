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
		"protocols/http.hosts-twice", "protocols/http/options.go",
		`if other := hosts[host]; other != "" {`,
		`if other := hosts[host]; other != "" && false {`,
		"./protocols/http", "TestOptionsAreChecked", "host confusion: two targets with one host",
	},
}
