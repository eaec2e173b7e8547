package guards

var sshCut = []Guard{
	{
		"protocols/ssh.lives-on", "protocols/ssh/channels.go",
		"case <-until:\n\t\treturn true",
		"case <-until:\n\t\treturn p.ended && false",
		"./protocols/ssh", "TestProgramThatRunsOnIsAnAlarm", "live connections outlive the grant",
	},
	{
		"protocols/ssh.leave", "protocols/ssh/channels.go",
		"if !p.ending.Load() {",
		"if !p.ending.Load() || p != nil {",
		"./protocols/ssh", "TestTargetsSideIsKeptForTheHangUp", "live connections outlive the grant",
	},
	{
		"protocols/ssh.editor", "protocols/ssh/tty.go",
		"if t.alt || t.drawn {",
		"if t.drawn && t.state != ground {",
		"./protocols/ssh", "TestWarningDoesNotGarbleAnEditor", "terminal escape sequences in names and reasons",
	},
	{
		"protocols/ssh.owed", "protocols/ssh/channels.go",
		`if text == "" {`,
		`if text = prefix + line; text == "" {`,
		"./protocols/ssh", "TestWarningWaitsForTheEndOfASequence", "terminal escape sequences in names and reasons",
	},
	{
		"web.cast-right", "web/terminals.go",
		"record, recording, err := s.opened(v)\n\tif err != nil {",
		"record, err := s.gate.Session(v.r.Context(), v.by, v.id())\n\tif err != nil {\n\t\treturn err\n\t}\n\trecording, err := s.records.Read(v.id())\n\tif err != nil {",
		"./web", "TestRecordingOfTerminals", "an endpoint that streams a live recording lacks its own check",
	},
	{
		"protocols/ssh.question-name", "protocols/ssh/question.go",
		"n, err := c.names(meta)\n\tif err != nil {\n\t\treturn c.no(err)",
		"n, err := c.names(meta)\n\tif err != nil && n.role == \"\" {\n\t\treturn c.no(err)",
		"./protocols/ssh", "TestQuestionIsOfOneName", "sign-in state shared between users",
	},
}
