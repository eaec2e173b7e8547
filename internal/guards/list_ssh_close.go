package guards

// lost is the class of what a tunnel drops at its end.
const lost = "output, end of input, exit-signal and exit-status out of their order, or lost"

// outlives is the class of what goes on behind a cut.
const outlives = "live connections outlive the grant"

var sshClose = []Guard{
	{
		"protocols/ssh.drained-there", "protocols/ssh/forward.go",
		"ssh.DiscardRequests(nearRequests); <-there;",
		"ssh.DiscardRequests(nearRequests);",
		"./protocols/ssh", "TestWhatWasSentBeforeACloseIsDelivered", lost,
	},
	{
		"protocols/ssh.drained-back", "protocols/ssh/forward.go",
		"ssh.DiscardRequests(farRequests); <-back;",
		"ssh.DiscardRequests(farRequests);",
		"./protocols/ssh", "TestWhatWasSentBeforeACloseIsDelivered", lost,
	},
	{
		"protocols/ssh.drained-input", "protocols/ssh/channels.go",
		"all.Go(func() { p.input(); p.left(gone) })",
		"all.Go(func() { p.left(gone) })\n\tall.Go(p.input)",
		"./protocols/ssh", "TestWhatWasSentBeforeACloseIsDelivered", lost,
	},
	{
		"protocols/ssh.unread", "protocols/ssh/channels.go",
		`_, _ = p.target.SendRequest("eow@openssh.com", false, nil)`,
		`_ = p.target`,
		"./protocols/ssh", "TestInputBehindAClose", outlives,
	},
	{
		"protocols/ssh.late-settled", "protocols/ssh/channels.go",
		"if !p.settled(until) {",
		"if p == nil {",
		"./protocols/ssh", "TestEndWaitsForWhatIsStarting", outlives,
	},
	{
		"protocols/ssh.late-start", "protocols/ssh/requests.go",
		"case p.r.isOver():",
		"case p == nil:",
		"./protocols/ssh", "TestNothingStartsBehindTheEnd", outlives,
	},
	{
		"protocols/ssh.late-request", "protocols/ssh/requests.go",
		"if p.r.isOver() {\n\t\treturn false // what is asked",
		"if p == nil {\n\t\treturn false // what is asked",
		"./protocols/ssh", "TestNothingStartsBehindTheEnd", outlives,
	},
	{
		"protocols/ssh.refused-start", "protocols/ssh/requests.go",
		"case p.cutting.Load():\n\t\treturn false",
		"case p == nil:\n\t\treturn false",
		"./protocols/ssh", "TestNothingStartsBehindARefusal", outlives,
	},
	{
		"protocols/ssh.late-channel", "protocols/ssh/forward.go",
		"if r.isOver() {",
		"if r == nil {",
		"./protocols/ssh", "TestChannelThatOpensBehindTheEnd", outlives,
	},
	{
		"protocols/ssh.late-back", "protocols/ssh/relay.go",
		"if r.isOver() {\n\t\t_ = channel.Reject(ssh.Prohibited, prefix+r.why) // as below",
		"if r == nil {\n\t\t_ = channel.Reject(ssh.Prohibited, prefix+r.why) // as below",
		"./protocols/ssh", "TestChannelThatOpensBehindTheEnd", outlives,
	},
	{
		"protocols/ssh.late-global", "protocols/ssh/relay.go",
		`kind = "" // nothing`,
		`_ = kind // nothing`,
		"./protocols/ssh", "TestNothingIsAskedOfTheTargetBehindTheEnd", outlives,
	},
	{
		"protocols/ssh.grace-again", "protocols/ssh/conn.go",
		"if c.staying--; c.staying == 0 && c.proof.SSH == nil {",
		"if c.staying--; c.staying < 0 {",
		"./protocols/ssh", "TestLoginGraceBehindAnInnerConnection", "handshake stall",
	},
	{
		"protocols/ssh.grace-configured", "protocols/ssh/client.go",
		"proxy.Handshake(ctx)",
		"proxy.DefaultHandshake",
		"./protocols/ssh", "TestLoginGraceInside", "handshake stall",
	},
}
