package guards

var command = []Guard{
	{
		"cmd/sallyport.other-gate", "cmd/sallyport/client.go",
		`if f.server != "" && strings.TrimRight(f.server, "/") != saved.Server {`,
		`if f.server == "nowhere" {`,
		"./cmd/sallyport", "TestTokenIsSentToNoOtherGate", "a token given to another gate",
	},
	{
		"cmd/sallyport.server-https", "cmd/sallyport/client.go",
		`if err != nil || base.Scheme != "https" || base.Host == "" || base.Path != "" || base.User != nil {`,
		`if err != nil || base.Host == "nowhere" {`,
		"./cmd/sallyport", "TestUnknownCAIsSaid", "credentials in plaintext",
	},
	{
		"cmd/sallyport.token-file", "cmd/sallyport/home.go",
		"text, err := credential.ReadFile(h.path(tokenFile))",
		"text, err := []byte(nil), error(nil); _ = credential.ReadFile",
		"./cmd/sallyport", "TestTokenFileOthersCanRead", "secrets that others can read",
	},
	{
		"cmd/sallyport.init-overwrites", "cmd/sallyport/init.go",
		"f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)",
		"f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, mode)",
		"./cmd/sallyport", "TestInitMakesAMachineThatServes", "a key overwritten",
	},
	{
		"cmd/sallyport.login-state", "cmd/sallyport/login.go",
		`if subtle.ConstantTimeCompare([]byte(got), []byte(state)) != 1 || code == "" {`,
		`if subtle.ConstantTimeCompare([]byte(got), []byte(got)) != 1 || code == "" {`,
		"./cmd/sallyport", "TestLoginCallbackTakesOnlyItsOwnState", "login CSRF",
	},
	{
		"cmd/sallyport.login-key", "cmd/sallyport/login.go",
		"if err != nil || !key.PublicKey.Equal(cert.PublicKey) {",
		"if err != nil || key == nil || cert == nil {",
		"./cmd/sallyport", "TestCertificateForAnotherKeyIsNotKept", "a certificate for another key",
	},
	{
		"cmd/sallyport.escapes", "internal/cli/output.go",
		"if strings.IndexFunc(s, hostile) < 0 {",
		"if strings.IndexFunc(s, hostile) < 1<<30 {",
		"./cmd/sallyport", "TestListsShowEscapesHarmless", "terminal escape sequences in names and reasons",
	},
	{
		"cmd/sallyport.no-credential", "cmd/sallyport/people.go",
		"if _, found := (*r.secrets.now.Load())[i.ClientSecret]; !found {",
		`if _, found := (*r.secrets.now.Load())[i.ClientSecret]; !found && i.Name == "" {`,
		"./cmd/sallyport", "TestBadInputIsOneSentence", "silent defaults",
	},
	{
		"cmd/sallyport.seal-key", "cmd/sallyport/program.go",
		"if len(seal) != 32 {",
		"if len(seal) > 1<<20 {",
		"./cmd/sallyport", "TestBadInputIsOneSentence", "a weak key",
	},
	{
		"cmd/sallyport.policy-floor", "cmd/sallyport/rules.go",
		"o := policyOptions(c, last, rootFloor)",
		"_ = last\n\to := policyOptions(c, bundle.Pin{}, rootFloor)",
		"./cmd/sallyport", "TestOlderPolicyIsRefusedAfterARestart", "an old, validly signed policy applied again",
	},
}
