package guards

// narrowed are the lines that keep a yes to less from being one to more.
var narrowed = []Guard{
	{
		"narrow.never-widens", "session/narrow.go",
		"refusedScope(d.Scope.Takes(v.Scope)); err != nil {",
		"refusedScope(d.Scope.Takes(v.Scope)); false {",
		"./session", "TestYesToLess", "the reviewer approves something other than what runs",
	},
	{
		"narrow.given", "session/make.go",
		"scope, err := given(d, r.Approvals)",
		"scope, err := given(d, nil)",
		"./session", "TestYesToLess", "the reviewer approves something other than what runs",
	},
	{
		"narrow.every-yes", "session/narrow.go",
		"scope, err = scope.Narrow(a.Scope)",
		"scope, err = d.Scope.Narrow(a.Scope)",
		"./session", "TestTwoYesesHaveToHaveSomethingInCommon", "the reviewer approves something other than what runs",
	},
	{
		"narrow.nothing-left", "policy/scope/narrow.go",
		"if len(*p.list) == 0 {\n\t\t\treturn Scope{}",
		"if false {\n\t\t\treturn Scope{}",
		"./policy/scope", "TestNothingInCommonIsNotEverything", "an empty list that means everything",
	},
	{
		"narrow.none-named", "policy/scope/narrow.go",
		"if *p.list != nil && len(*p.list) == 0 {",
		"if false {",
		"./policy/scope", "TestNarrowedScopes/none", "an empty list that means everything",
	},
	{
		"narrow.none-ticked", "web/narrow.go",
		"if len(ticked) == 0 {",
		"if false {",
		"./web", "TestYesToFewerChannels", "an empty list that means everything",
	},
	{
		"narrow.agent-by-name", "policy/scope/scope.go",
		`return []string{"shell", "exec", "sftp", "forward", "listen"}`,
		`return []string{"shell", "exec", "sftp", "forward", "listen", "agent", "x11"}`,
		"./policy/scope", "TestAgentIsOpenOnlyWhereItIsNamed", "a sub-channel not authorised",
	},
	{
		"narrow.bounded", "policy/scope/narrow.go",
		"if len(*p.list) > mostWords {",
		"if false {",
		"./policy/scope", "TestNarrowedScopes/more_than_anybody_reads", "unbounded input",
	},
	{
		"narrow.own-database", "session/make.go",
		"Scope: ofObject(scope, r.Input.Object),",
		"Scope: scope,",
		"./session", "TestGrantNamesItsOwnDatabase", "the reviewer approves something other than what runs",
	},
	{
		"narrow.when-asked", "web/reviews.go",
		"s.now().Sub(v.by.Authenticated) > freshFor",
		"s.now().Sub(v.by.Created) > freshFor",
		"./web", "TestTheProvidersOldSessionIsNoFreshSignIn", "approving with an old sign-in",
	},
	{
		"narrow.clock-ahead", "identity/oidc/signin.go",
		"asked.After(now) { // by a clock",
		"false { // by a clock",
		"./identity/oidc", "TestWhenThePersonWasAsked", "approving with an old sign-in",
	},
	{
		"narrow.refused-found", "cmd/sallyport/rules.go",
		`body["manifest"], body["signatures"] = string(refused.Manifest), refused.Signatures`,
		`body["signers"] = len(refused.Signatures)`,
		"./cmd/sallyport", "TestWhateverIsSlippedInIsAnEntry", "an attempt that leaves no trace",
	},
}
