package guards

var recount = []Guard{
	{
		"recount.disabled", "session/decide.go",
		"a.Void = err != nil || !account.Disabled.IsZero() ||",
		"a.Void = err != nil ||",
		"./session", "TestYesOfSomebodyWhoMayNoLongerDoesNotCount/disabled", "an approver whose right was withdrawn",
	},
	{
		"recount.right", "session/decide.go",
		"return p.MayApprove(st, r.User, a.By) == nil\n\t\t})",
		"return true\n\t\t})",
		"./session", "TestYesOfSomebodyWhoMayNoLongerDoesNotCount/left_the_group", "an approver whose right was withdrawn",
	},
	{
		"recount.void", "session/decide.go",
		"if !a.Yes || a.Void ||",
		"if !a.Yes ||",
		"./session", "TestYesOfSomebodyWhoMayNoLongerDoesNotCount/disabled", "an approver whose right was withdrawn",
	},
	{
		"recount.taken-back", "session/decide.go",
		"r.Approvals = slices.Delete(r.Approvals, i, i+1)",
		"r.Approvals = slices.Delete(r.Approvals, i, i)",
		"./session", "TestYesIsTakenBackBeforeItTakesEffect", "a yes that was taken back counts",
	},
	{
		"recount.anothers", "session/decide.go",
		"mine := func(a Approval) bool { return a.Yes && a.Rule == \"\" && a.By.Same(s.User) }",
		"mine := func(a Approval) bool { return a.Yes && a.Rule == \"\" }",
		"./session", "TestYesIsTakenBackBeforeItTakesEffect", "another user's forward cancelled",
	},
	{
		"recount.clock", "internal/steady/steady.go",
		"went.After(at) {",
		"went.After(at) && at.IsZero() {",
		"./session", "TestClockSetBackLengthensNothing", "live connections outlive the grant",
	},
	{
		"recount.settled", "session/settle.go",
		"if d.Effect != policy.Allow {",
		"if d.Effect != policy.Allow && r.ID == \"\" {",
		"./session", "TestReloadSettlesWhatWaits", "a request that nobody can answer",
	},
}
