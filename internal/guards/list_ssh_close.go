package guards

// lost is the class of what a tunnel drops at its end.
const lost = "output, end of input, exit-signal and exit-status out of their order, or lost"

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
		"./protocols/ssh", "TestInputBehindAClose", "live connections outlive the grant",
	},
}
