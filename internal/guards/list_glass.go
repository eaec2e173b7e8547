package guards

var glass = []Guard{
	{
		"glass.door", "session/review.go",
		"if v.Late(in.Time) {",
		"if v.Late(in.Time) && v.State == ReviewDone {",
		"./session", "TestOverdueReviewKeepsTheGlassWhole", "an emergency that nobody looks at afterwards",
	},
	{
		"glass.own-review", "session/review.go",
		"if by.Same(v.User) {",
		"if false {",
		"./session", "TestGlassIsBrokenAtOnceAndReviewedAfterwards", "administrators approve themselves",
	},
	{
		"glass.owner", "session/review.go",
		"if err := p.MayApprove(policy.Stage{Count: 1, From: v.owners(p)}, v.User, by); err != nil {",
		"if err := p.MayApprove(policy.Stage{Count: 1, From: v.owners(p)}, v.User, by); err != nil && v.User.IsZero() {",
		"./session", "TestGlassIsBrokenAtOnceAndReviewedAfterwards", "an endpoint that assigns rights lacks its own check",
	},
	{
		"glass.active", "session/review.go",
		"if gr.State == GrantActive {",
		"if false {",
		"./session", "TestGlassIsBrokenAtOnceAndReviewedAfterwards", "an emergency that nobody looks at afterwards",
	},
	{
		"glass.word", "session/review.go",
		`if strings.TrimSpace(word) == "" {`,
		"if false {",
		"./session", "TestGlassIsBrokenAtOnceAndReviewedAfterwards", "an emergency that nobody looks at afterwards",
	},
	{
		"glass.person", "session/review.go",
		"if in.User.Kind != identity.Person {",
		"if false {",
		"./session", "TestPipelineBreaksNoGlass", "an agent never approves",
	},
	{
		"glass.hidden", "session/review.go",
		"case b.May || v.User.ID() == by.User.ID() || p.Has(policy.RightAudit, by.User, v.Key.Target) || v.By != nil && v.By.Same(by.User):",
		"case b.ID != \"\":",
		"./session", "TestGlassIsBrokenAtOnceAndReviewedAfterwards", "an endpoint lacks its own check",
	},
	{
		"glass.fresh-review", "web/reviews.go",
		"if s.stale(v) {",
		"if false {",
		"./web", "TestGlassIsBrokenForAllToSee", "a screen left open",
	},
	{
		"glass.unasked", "session/identify.go",
		"if in.BreakGlass && !gr.Decision.BreakGlass {",
		"if false {",
		"./session", "TestGlassIsBrokenThoughALesserGrantRuns", "a remembered yes that matches too widely",
	},
}
