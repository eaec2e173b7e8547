package guards

var proxy = []Guard{
	{
		"proxy.hold-bound", "proxy/reader.go",
		"if n > MaxHold {",
		"if n < 0 {",
		"./proxy", "TestHoldingTooMuchEndsTheRelay", "unbounded input",
	},
	{
		"proxy.cut-mid-message", "proxy/relay.go",
		"if g.broken || g.tail > 0 {",
		"if g.broken {",
		"./proxy", "TestCutInMidMessageResets", "live connections outlive the grant",
	},
	{
		"proxy.cut-boundary", "proxy/relay.go",
		"if verdict != Pass || cutting {",
		"if verdict != Pass {",
		"./proxy", "TestCutCompletesTheMessageOfTheClient", "the cut while rows stream",
	},
	{
		"proxy.cut-stalled", "proxy/relay.go",
		"_ = r.client.SetWriteDeadline(now.Add(CutWait)) //",
		"_ = now //",
		"./proxy", "TestCutResetsAClientThatDoesNotDrain", "the cut while rows stream to a slow reader",
	},
	{
		"proxy.observe-up", "proxy/relay.go",
		"verdict, err := observe(r.up, p)",
		"verdict, err := observe(r.up, p); err = nil",
		"./proxy", "TestObserverEndsTheRelayBeforeTheBytes", "recorder or logger fails open",
	},
	{
		"proxy.cap-source", "proxy/server.go",
		"case source.IsValid() && s.perSource[source] >= orDefault(s.MaxPerSource, DefaultMaxPerSource):",
		"case false:",
		"./proxy", "TestConnectionsOverACapAreClosed/per_source", "handshake stall: one client uses up the gate",
	},
	{
		"proxy.cap-total", "proxy/server.go",
		"case len(s.conns) >= orDefault(s.MaxConnections, DefaultMaxConnections):",
		"case false:",
		"./proxy", "TestConnectionsOverACapAreClosed/in_total", "handshake stall: one client uses up the gate",
	},
	{
		"proxy.handshake", "proxy/server.go",
		"_ = c.SetDeadline(time.Now().Add(s.handshake())) //",
		"_ = s.handshake() //",
		"./proxy", "TestHandlersStartWithADeadline", "handshake stall: one silent TCP connection",
	},
	{
		"proxy.one-network", "internal/netsource/netsource.go",
		"if addr.Is6() {",
		"if false && addr.Is6() {",
		"./proxy", "TestOneIPv6NetworkIsOneSource", "handshake stall: one client uses up the gate",
	},
	{
		"proxy.panic-observer", "proxy/relay.go",
		"defer contain.Panic(&err)",
		"_ = contain.Panic",
		"./proxy", "TestPanicOfAnObserverEndsItsRelay", "unbounded input: one client ends everybody's sessions",
	},
	{
		"proxy.panic-handler", "proxy/server.go",
		"defer contain.Panic(&err)",
		"_ = contain.Panic",
		"./proxy", "TestPanicEndsItsConnectionOnly", "unbounded input: one client ends everybody's sessions",
	},
	{
		"session.panic", "session/live.go",
		"defer contain.Panic(&err)",
		"_ = contain.Panic",
		"./session", "TestPanicEndsItsSessionAndIsRecorded", "unbounded input: one client ends everybody's sessions",
	},
	{
		"protocols/ssh.panic", "protocols/ssh/relay.go",
		"defer contain.Panic(&err)",
		"_ = contain.Panic",
		"./protocols/ssh", "TestPanicInAChannelEndsItsSession", "unbounded input: one client ends everybody's sessions",
	},
	{
		"store.panic", "store/store.go",
		"defer contain.Panic(&err)",
		"_ = contain.Panic",
		"./store", "TestUpdatesShareACommitOnly", "unbounded input: one client ends everybody's sessions",
	},
	{
		"internal/contain.no-value", "internal/contain/contain.go",
		"what := fmt.Sprintf(\"a %T\", value)",
		"what := fmt.Sprintf(\"a %v\", value)",
		"./internal/contain", "TestPanic", "secrets in logs and errors",
	},
	{
		"proxy.target-vanished", "proxy/server.go",
		"gone, closed := c.vanished()\n",
		"gone, closed := false && c == nil, false\n",
		"./proxy", "TestTargetThatVanishes", "a session that its target cannot hear any more",
	},
	{
		"proxy.target-forgotten", "proxy/server.go",
		"delete(s.targets, c)",
		"_ = s.targets[c]",
		"./proxy", "TestTargetThatVanishes", "unbounded input: connections that are kept for ever",
	},
	{
		"proxy.vanished", "proxy/server.go",
		"if gone, _ := c.vanished(); gone {",
		"if gone, _ := c.vanished(); false && gone {",
		"./proxy", "TestClientThatVanishes", "live connections outlive their client",
	},
}
