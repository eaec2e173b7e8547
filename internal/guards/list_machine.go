package guards

// machine are the guards of setting up, starting and reloading a gate.
var machine = []Guard{
	{
		"cmd/sallyport.audit-init", "cmd/sallyport/audit.go",
		"if _, err := os.Stat(loaded.Store.Path); !errors.Is(err, os.ErrNotExist) {",
		"if _, err := os.Stat(loaded.Store.Path); err == os.ErrExist {",
		"./cmd/sallyport", "TestLogIsBegunAnewWithItsStore", "a log begun anew under a store that remembers more",
	},
	{
		"cmd/sallyport.need-restart", "cmd/sallyport/rules.go",
		"changed[name] = now.Blocks[name] != fresh.Blocks[name]",
		`changed[name] = name != "listen" && now.Blocks[name] != fresh.Blocks[name]`,
		"./cmd/sallyport", "TestReloadNamesWhatNeedsARestart", "a change that is thought to hold and does not",
	},
	{
		"store.pages", "store/tx.go",
		"(created < ? OR created = ? AND id > ? AND ? <> '')",
		"(created < ? AND ? <> 0 AND ? <> '0' AND ? <> '0')",
		"./store", "TestPagesLoseNothingOfOneInstant", "rows of one instant lost between two pages",
	},
	{
		"policy.config-digest", "policy/policy.go",
		"d.Version, d.Digest, d.Config = p.Version(), p.Digest(), p.config",
		"d.Version, d.Digest = p.Version(), p.Digest()",
		"./internal/e2e", "TestDecisionsNameTheConfiguration", "a decision whose configuration nobody can tell",
	},
	{
		"session.refusals-bounded", "session/open.go",
		"if g.refusers.Add(who.user.String()) > maxRefused {",
		"if g.refusers.Add(who.user.String()) > 1<<30 {",
		"./session", "TestRefusalsOfOneUserAreBounded", "unbounded input: one user fills the log",
	},
	{
		"session.joined-stays", "session/make.go",
		"if keep && !r.Keep {",
		"if keep && r.Keep {",
		"./session", "TestJoinedRequestStaysForWhoWasTold", "a request that was said to stay goes with another connection",
	},
	{
		"internal/calm.flood", "internal/calm/calm.go",
		"case lines > Most+1:",
		"case lines > 1<<30:",
		"./internal/calm", "TestFloodIsCounted", "unbounded input: strangers fill the program's log",
	},
	{
		"proxy.each-its-own", "proxy/server.go",
		"\t\tgo func() {\n\t\t\tdefer done()",
		"\t\tfunc() {\n\t\t\tdefer done()",
		"./internal/e2e", "TestSilentClientsHoldUpNobody", "handshake stall: one silent TCP connection",
	},
}
