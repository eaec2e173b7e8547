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
}
