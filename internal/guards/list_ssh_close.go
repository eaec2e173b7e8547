package guards

// lost is the class of what a tunnel drops at its end.
const lost = "output, end of input, exit-signal and exit-status out of their order, or lost"

// outlives is the class of what goes on behind a cut.
const outlives = "live connections outlive the grant"

// spelling is the class of names that are taken for others.
const spelling = "silent defaults and spelling"

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
	{
		"protocols/ssh.forward-host", "protocols/ssh/forward.go",
		"to.Port > 65535 || !isHost(to.Host) {",
		"to.Port > 65535 {",
		"./protocols/ssh", "TestPlacesAndPathsAreTwo", spelling,
	},
	{
		"protocols/ssh.forward-path", "protocols/ssh/forward.go",
		"!isPath(to.Path)",
		`to.Path == ""`,
		"./protocols/ssh", "TestPlacesAndPathsAreTwo", spelling,
	},
	{
		"protocols/ssh.back-host", "protocols/ssh/forward.go",
		"isHost(from.Host) && ",
		"",
		"./protocols/ssh", "TestPlacesAndPathsAreTwo", spelling,
	},
	{
		"protocols/ssh.back-path", "protocols/ssh/forward.go",
		"isPath(from.Path) && ",
		"",
		"./protocols/ssh", "TestPlacesAndPathsAreTwo", spelling,
	},
	{
		"protocols/ssh.listen-host", "protocols/ssh/forward.go",
		" || !isHost(at.Host)",
		"",
		"./protocols/ssh", "TestPlacesAndPathsAreTwo", spelling,
	},
	{
		"protocols/ssh.listen-path", "protocols/ssh/forward.go",
		"!isPath(at.Path) || ",
		"",
		"./protocols/ssh", "TestPlacesAndPathsAreTwo", spelling,
	},
	{
		"protocols/ssh.unlisten-host", "protocols/ssh/forward.go",
		" && isHost(tcp.Host)",
		"",
		"./protocols/ssh", "TestPlacesAndPathsAreTwo", spelling,
	},
	{
		"protocols/ssh.unlisten-path", "protocols/ssh/forward.go",
		" && isPath(local.Path)",
		"",
		"./protocols/ssh", "TestPlacesAndPathsAreTwo", spelling,
	},
	{
		"protocols/ssh.overtaken", "protocols/ssh/forward.go",
		`if what == "" && channel.ChannelType() == channelForwarded {`,
		`if what != "" {`,
		"./protocols/ssh", "TestConnectionOvertakesItsPort", lost,
	},
	{
		"protocols/ssh.begun-done", "protocols/ssh/forward.go",
		"ssh.DiscardRequests(farRequests)\n\t\tr.over(r.rec.done(n, \"failed\", 0, since))",
		"ssh.DiscardRequests(farRequests)",
		"./protocols/ssh", "TestForwardWhoseClientGoesHasItsEnd", "recorder or logger fails open",
	},
}
