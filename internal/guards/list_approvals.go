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
}
