package guards

var approvals = []Guard{
	{
		"approvals.run-of-a-grant", "session/identify.go",
		"|| !sameRun(gr.User, in.User) {",
		"{",
		"./session", "TestAYesForOneRunOpensNothingForTheNext", "a remembered yes for one token opens for the user's other tokens",
	},
	{
		"approvals.ended-workload", "session/workload.go",
		"return true, ErrBadWorkload",
		"return true, nil",
		"./session", "TestADisabledPipelineIsShutOut", "live connections outlive the grant",
	},
	{
		"approvals.own-pipeline", "policy/decide.go",
		"case requester.OwnedBy(approver):",
		"case false:",
		"./session", "TestNobodyApprovesAPipelineThatTheySetGoing", "administrators approve themselves",
	},
	{
		"approvals.workload-over", "protocols/http/client.go",
		"if !l.proves() {",
		"if false {",
		"./protocols/http", "TestPipelinesTokenThatEndsIsRefused", "live connections outlive the grant",
	},
	{
		"approvals.run-of-a-request", "session/make.go",
		"&& sameRun(r.User, in.User) &&",
		"&&",
		"./session", "TestAYesForOneRunOpensNothingForTheNext", "a remembered yes for one token opens for the user's other tokens",
	},
	{
		"approvals.bearer-for-another", "identity/oidc/workload.go",
		"&& slices.ContainsFunc(said.Audience, func(a string) bool { return slices.Contains(i.config.Audiences, a) })",
		"&& len(slices.Concat(said.Audience)) > 0",
		"./protocols/http", "TestPipelinesTokenIsABearer", "own cookie leaking upstream",
	},
}
