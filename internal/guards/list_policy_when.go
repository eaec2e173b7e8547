package guards

var policyWhen = []Guard{
	{
		"policy/when.policy-never-equal", "policy/when/compile.go",
		"case !o.fixed && len(o.domain) > 0 && !slices.Contains(o.domain, literal):",
		"case false && (!o.fixed && len(o.domain) > 0 && !slices.Contains(o.domain, literal)):",
		"./policy", "TestTrapsOfConditions", "a condition silently false",
	},
	{
		"policy/when.policy-midnight", "policy/when/functions.go",
		"if from < until {",
		"if true {",
		"./policy", "TestNightWindows", "a night window that refuses 02:00 (hoop)",
	},
	{
		"policy/when.policy-operand-kinds", "policy/when/operators.go",
		"if l.kind != r.kind {",
		"if false && (l.kind != r.kind) {",
		"./policy", "TestTrapsOfConditions", "a condition silently false",
	},
}
