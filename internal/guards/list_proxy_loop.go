package guards

var proxyLoop = []Guard{
	{
		"proxy.loop-observe-up", "proxy/flow_linux.go",
		"verdict, err := observe(f.up, p)",
		"verdict, err := observe(f.up, p); err = nil",
		"./proxy", "TestObserverEndsTheRelayBeforeTheBytes", "recorder or logger fails open",
	},
	{
		"proxy.loop-observe-down", "proxy/flow_linux.go",
		"if held, end, err = f.show(f.down, p, f.cutting); err != nil {",
		"if held, end, err = f.show(f.down, p, f.cutting); false {",
		"./proxy", "TestObserverEndsTheRelayBeforeTheBytes", "recorder or logger fails open",
	},
	{
		"proxy.loop-cut-stalled", "proxy/loop_linux.go",
		"l.timed = append(l.timed, timed{time.Now().Add(CutWait), f})",
		"_ = f",
		"./proxy", "TestCutResetsAClientThatDoesNotDrain", "the cut while rows stream to a slow reader",
	},
	{
		"proxy.loop-cut-hung", "proxy/flow_linux.go",
		"f.client.sock.sever()",
		"_ = f.client.sock",
		"./proxy", "TestAHungRecordDoesNotHoldUpTheCut", "live connections outlive the grant",
	},
	{
		"proxy.target-ends-too-early", "proxy/relay.go",
		"if e, ok := down.(Ender); ok && !clientFirst {",
		"if e, ok := down.(Ender); ok && clientFirst && false {",
		"./proxy", "TestATargetThatEndsTooEarlyBroke", "the cut while rows stream",
	},
	{
		"proxy.loop-hold-bound", "proxy/flow_linux.go",
		"if held > MaxHold {",
		"if held < 0 {",
		"./proxy", "TestHoldingTooMuchEndsTheRelay", "unbounded input",
	},
	{
		"proxy.loop-closed", "proxy/socket_linux.go",
		"case n == 0 && s.cut():",
		"case n == 0 && false:",
		"./proxy", "TestClosingASocketEndsItsRelay", "live connections outlive the grant",
	},
	{
		"proxy.word-left", "proxy/relay.go",
		"for r.waiting() && r.writing.TryLock() {",
		"for once := true; once && r.waiting() && r.writing.TryLock(); once = false {",
		"./proxy", "TestWordWhileAnotherIsWritten", "the client is not told of its end",
	},
}
