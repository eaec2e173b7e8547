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
	{
		"policy/when.always-the-same", "policy/when/operators.go",
		"if holds(l.least, r.most) == holds(l.most, r.least) {",
		"if false {",
		"./policy", "TestTrapsOfConditions/an_hour_that_is_none", "silent defaults and spelling",
	},
	{
		"policy/when.never-equal", "policy/when/operators.go",
		"if l.kind == isNumber && (l.most < r.least || r.most < l.least) {",
		"if false {",
		"./policy", "TestTrapsOfConditions/an_hour_that_never_comes", "silent defaults and spelling",
	},
}
