package guards

// webLate are more of the lines that refuse what a page or the API is sent.
var webLate = []Guard{
	{
		"web.web-token-scheme", "web/guard.go",
		`!strings.EqualFold(scheme, "Bearer") ||`,
		`scheme == "none" ||`,
		"./web", "TestTokenKindsStayApart", "silent defaults and spelling",
	},
	{
		"web.web-request-type", "web/cli.go",
		`if block == nil || block.Type != "CERTIFICATE REQUEST" {`,
		"if block == nil {",
		"./web", "TestCommandLineCertificate", "unchecked token type or signature",
	},
	{
		"web.web-field-text", "web/form.go",
		"if !utf8.ValidString(value) || strings.ContainsRune(value, 0) {",
		"if false && (!utf8.ValidString(value) || strings.ContainsRune(value, 0)) {",
		"./web", "TestInputIsBounded", "terminal escape sequences in names and reasons",
	},
}
