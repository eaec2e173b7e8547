package guards

var recovery = []Guard{
	{
		"session.stranded", "session/recover.go",
		"if !r.Keep {",
		"if false && !r.Keep {",
		"./session", "TestHeldRequestDoesNotOutliveACrash", "a yes for a client that has gone used as permission for the next one",
	},
	{
		"session.disable-resumed", "session/recover.go",
		"if a.Disabled.IsZero() {",
		"if true || a.Disabled.IsZero() {",
		"./session", "TestDisableIsBroughtToItsEndAfterACrash", "live connections outlive the grant",
	},
	{
		"session.sign-out-resumed", "session/recover.go",
		"if !s.Ended.IsZero() {",
		"if false && !s.Ended.IsZero() {",
		"./session", "TestGrantsOfASignInThatEndedDoNotSurviveACrash", "live connections outlive the grant",
	},
	{
		"session.policy-at-start", "session/recover.go",
		`return g.recheck(ctx, Filter{State: string(GrantActive)}, "the gate started again")`,
		`return nil`,
		"./session", "TestPolicyThatChangedWhileTheGateWasDownCuts", "live connections outlive the grant",
	},
	{
		"session.settled-by-deciders", "session/decide.go",
		"stage-- // whoever sees it is not yet somebody who decides",
		"return d, nil",
		"./session", "TestOnlyThoseWhoDecideSettleWhatNeedsNobodyElse", "an approver whose right was withdrawn",
	},
	{
		"session.nobody-to-settle", "session/decide.go",
		"if stage == 0 {",
		"if stage == 0 {\nreturn d, nil\n}\nif false {",
		"./session", "TestOnlyThoseWhoDecideSettleWhatNeedsNobodyElse", "an approver whose right was withdrawn",
	},
}
