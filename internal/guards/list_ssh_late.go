package guards

var sshLate = []Guard{
	{
		"protocols/ssh.over-at-once", "protocols/ssh/channels.go",
		"began := p.begun()",
		"began := p.begun() && p == nil",
		"./protocols/ssh", "TestCommandsThatAreOverAtOnce", "end of input, exit-signal and exit-status in their order",
	},
	{
		"protocols/ssh.tries", "protocols/ssh/client.go",
		"MaxAuthTries: maxTries,",
		"MaxAuthTries: maxTries + 90,",
		"./protocols/ssh", "TestTriesAreBounded", "unbounded input",
	},
	{
		"protocols/ssh.session-principal", "protocols/ssh/keys.go",
		"ValidPrincipals: []string{role.Account},",
		`ValidPrincipals: []string{role.Account, "root"},`,
		"./protocols/ssh", "TestSessionsCertificate", "one key for two uses",
	},
	{
		"protocols/ssh.session-ends", "protocols/ssh/keys.go",
		"ValidBefore: uint64(sess.Ends().Unix()) + 1,",
		"ValidBefore: uint64(sess.Ends().Unix()) + 3600,",
		"./protocols/ssh", "TestSessionsCertificate", "a credential that outlives its use",
	},
	{
		"protocols/ssh.session-extensions", "protocols/ssh/keys.go",
		"if r.allows(one.channel) {",
		`if r.allows(one.channel) || one.channel == channelForward {`,
		"./protocols/ssh", "TestSessionsCertificate", "a sub-channel not authorised",
	},
	{
		"protocols/ssh.input-unasked", "protocols/ssh/requests.go",
		"if p.r.options.Input {\n\t\tt.echo = &echo{}",
		"if p != nil {\n\t\tt.echo = &echo{}",
		"./protocols/ssh", "TestTypedWordsAreNotRecordedUnasked", "secrets in listings, logs, bind values, error texts",
	},
	{
		"protocols/ssh.grace-inner", "protocols/ssh/jump.go",
		"if c.proof.SSH != nil {\n\t\tc.unhurried()",
		"if c.proof.SSH != nil || c.host == \"\" {\n\t\tc.unhurried()",
		"./protocols/ssh", "TestLoginGrace", "handshake stall",
	},
	{
		"protocols/ssh.break-recorded", "protocols/ssh/requests.go",
		`p.said("break") &&`,
		"",
		"./protocols/ssh", "TestBreakReachesTheTarget", fooled,
	},
	{
		"protocols/ssh.token-alone", "protocols/ssh/client.go",
		"case n.token:\n\t\t// Offered alone,",
		"case n.token && n.role == \"\":\n\t\t// Offered alone,",
		"./protocols/ssh", "TestTokenAloneIsAskedFor", "unchecked token type or signature",
	},
	{
		"protocols/ssh.content-unasked", "protocols/ssh/record.go",
		"if !r.content {",
		"if !r.content && data == nil {",
		"./protocols/ssh", "TestFilesAreRecordedWithTheirBytes", "secrets in listings, logs, bind values, error texts",
	},
	{
		"web.file-right", "web/terminals.go",
		"_, recording, err := s.opened(v)\n\tif err != nil {",
		"recording, err := s.records.Read(v.id())\n\tif err != nil {",
		"./web", "TestRecordingOfFiles", "an endpoint that streams a live recording lacks its own check",
	},
	{
		"web.file-digest", "web/terminals.go",
		"if err == nil && hex.EncodeToString(sum.Sum(nil)) != file.SHA256 {",
		"if err == nil && hex.EncodeToString(sum.Sum(nil)) == \"\" {",
		"./web", "TestRecordingOfFiles", "the reviewer approves something other than what runs",
	},
}
