package guards

var policyCatalog = []Guard{
	{
		"policy/catalog.policy-issuer-plaintext", "policy/catalog/issuer.go",
		`case u.Scheme == "http" && isLoopback(u.Hostname()):`,
		`case u.Scheme == "http":`,
		"./policy", "TestTrapsOfTargetsAndIssuers", "identity provider in plaintext",
	},
	{
		"policy/catalog.policy-plaintext", "policy/catalog/target.go",
		`if tls.Mode == "off" && !local {`,
		`if false && (tls.Mode == "off" && !local) {`,
		"./policy", "TestTrapsOfTargetsAndIssuers", "credentials in plaintext upstream",
	},
}
