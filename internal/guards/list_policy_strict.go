package guards

var policyStrict = []Guard{
	{
		"policy/strict.policy-unknown-attribute", "policy/strict/fields.go",
		"if !slices.Contains(r.known, name) {",
		"if false && (!slices.Contains(r.known, name)) {",
		"./policy", "TestTrapsOfBlocks", "silent defaults and spelling",
	},
	{
		"policy/strict.policy-key-twice", "policy/strict/fields.go",
		"if _, twice := o.Attrs[key]; twice {",
		"if _, twice := o.Attrs[key]; false && twice {",
		"./policy", "TestTrapsOfBlocks", "silent defaults and spelling",
	},
	{
		"policy/strict.policy-unknown-block", "policy/strict/findings.go",
		"if !slices.Contains(allowed, inner.Type) {",
		"if false && (!slices.Contains(allowed, inner.Type)) {",
		"./policy", "TestTrapsOfBlocks", "silent defaults and spelling",
	},
}
