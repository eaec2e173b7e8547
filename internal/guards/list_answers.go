package guards

// answers are more of the lines that keep a yes to its question and a session to its grant.
var answers = []Guard{
	{
		"session.answer-late", "session/decide.go",
		"if !now.Before(r.TimesOut) {",
		"if false && (!now.Before(r.TimesOut)) {",
		"./session", "TestAnswersAtTheInstantOfTheTimeOut", "approved but unused requests never end",
	},
	{
		"session.more-people", "session/decide.go",
		"if _, missing := progress(d.Stages, r.User, r.Approvals); missing > 0 {",
		"if _, missing := progress(d.Stages, r.User, r.Approvals); false && (missing > 0) {",
		"./session", "TestTwoApprovalsAreTwoPeople", "one person satisfies 2-of-N",
	},
	{
		"session.withdraw-over", "session/decide.go",
		`		if r.State != RequestPending {
			return &Denied{Reason: "this request is " + string(r.State) + " already"}
		}
		r.State, r.Decided, r.Outcome = RequestWithdrawn`,
		"\t\tr.State, r.Decided, r.Outcome = RequestWithdrawn",
		"./session", "TestWhatIsOverIsSaid", "two outcomes in the log",
	},
	{
		"session.void-yes", "session/make.go",
		"if !a.Yes || a.Void {",
		"if false && (!a.Yes || a.Void) {",
		"./session", "TestYesOfSomebodyWhoMayNoLongerDoesNotCount", "a yes of somebody who may no longer",
	},
	{
		"session.lengthen-over", "session/make.go",
		"if gr.State != GrantActive || !now.Before(gr.Ends) || gr.Key.User != r.User.ID() || g.isCut(gr.ID) != nil {",
		"if false && (gr.State != GrantActive || !now.Before(gr.Ends) || gr.Key.User != r.User.ID() || g.isCut(gr.ID) != nil) {",
		"./session", "TestWhatHasEndedIsNotLengthened", "live connections outlive the grant",
	},
	{
		"session.certificate-signed-out", "session/identify.go",
		`		return &Denied{Reason: "the sign-in of your client certificate has ended", Next: again}`,
		"\t\t_ = again",
		"./session", "TestCertificateOfAnEndedSignIn", "a refusal that does not say what to do next",
	},
	{
		"session.signed-out-said", "session/identify.go",
		"\t\t_, err := standing(t, s.who.signIn)\n\t\tif errors.Is(err, ErrNotFound) {",
		"\t\t_, err := standing(t, s.who.signIn)\n\t\tif errors.Is(err, ErrNotFound) {\n\t\t\terr = nil\n\t\t}\n\t\tif false {",
		"./session", "TestSignedOutBeforeItRuns", "live connections outlive the grant",
	},
	{
		"session.decided-again", "session/identify.go",
		"\td := p.Decide(in)\n\tif d.Effect != policy.Allow {",
		"\td := p.Decide(in)\n\tif false {",
		"./session", "TestYesForSomebodyWhoLostTheGroupOpensNothing", "live connections outlive the grant",
	},
	{
		"session.confirmed-once", "session/hold.go",
		"\th.mu.Lock()\n\tif h.state != holdWaiting {\n\t\th.mu.Unlock()\n\t\treturn &Denied",
		"\th.mu.Lock()\n\tif false {\n\t\th.mu.Unlock()\n\t\treturn &Denied",
		"./session", "TestOneConfirmationAConnection", "a yes names its question",
	},
	{
		"session.crowded", "session/hold.go",
		"if !opened || crowded {",
		"if false && (!opened || crowded) {",
		"./session", "TestNobodyConfirms", "unbounded input",
	},
	{
		"session.enables-themselves", "session/people.go",
		"if account.User.Same(by.User) {",
		"if false && (account.User.Same(by.User)) {",
		"./session", "TestNobodyEnablesThemselves", "administrators approve themselves",
	},
	{
		"session.token-over", "session/people.go",
		`		return s, &Denied{Reason: "that token has ended", Next: "run: sallyport login"}`,
		"\t\t_ = s",
		"./session", "TestWhatIsOverIsSaid", "a refusal that does not say what to do next",
	},
	{
		"session.stopping", "session/gate.go",
		"\tif g.closing != nil {\n\t\tcancel(",
		"\tif false {\n\t\tcancel(",
		"./session", "TestBrokenLogStopsTheGate", "recorder or logger fails open",
	},
	{
		"session.ready", "session/gate.go",
		"\tif g.closing != nil {\n\t\treturn g.closing",
		"\tif false {\n\t\treturn g.closing",
		"./session", "TestWhatIsOverIsSaid", "a gate that has stopped looks well",
	},
	{
		"session.glass-review-owed", "session/make.go",
		"if d.BreakGlass {",
		"if false && (d.BreakGlass) {",
		"./session", "TestGlassIsBrokenAtOnceAndReviewedAfterwards", "an emergency that nobody looks at afterwards",
	},
	{
		"session.glass-lengthened", "session/make.go",
		"if gr.Decision.BreakGlass {",
		"if false && (gr.Decision.BreakGlass) {",
		"./session", "TestOverdueReviewKeepsTheGlassWhole", "an emergency that nobody looks at afterwards",
	},
}
