package guards

// clocks are the lines by which a clock that is set lengthens nothing and leaves nothing behind.
var clocks = []Guard{
	{
		"session.clock-forward", "session/due.go",
		"g.eachLive(change.ID, (*Session).expire)",
		"_ = change",
		"./session", "TestClockSetForwardEndsWhatTheGrantLetIn", "live connections outlive the grant",
	},
	{
		"session.clock-back-at-start", "session/identify.go",
		"if gr.Ends.Add(-gr.term()).After(g.clock.Now()) {",
		"if false && (gr.Ends.Add(-gr.term()).After(g.clock.Now())) {",
		"./session", "TestClockSetBackBeforeAStartLengthensNothing", "live connections outlive the grant",
	},
}
