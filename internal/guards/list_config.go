package guards

var config = []Guard{
	{
		"config.https", "config/check.go",
		`case base.Scheme != "https":`,
		`case base.Scheme == "":`,
		"./config", "TestWhatIsRefused", "plaintext pages",
	},
	{
		"config.tls", "config/check.go",
		"case l.TLS == nil && !l.Plaintext:",
		"case l == nil:",
		"./config", "TestPlaintextWebOnlyOnLoopback", "a silent default",
	},
	{
		"config.encrypted", "config/check.go",
		`if l.TLS != nil || written(l.Body, "plaintext") {`,
		`if l.TLS != nil && l.Plaintext {`,
		"./config", "TestEncryptedProtocolNeedsNoTLS", "a silent default",
	},
	{
		"config.login-ca-ssh", "config/check.go",
		`v.secret(&ca.SSHKey, ca.Body, "ssh_key")`,
		`v.path(&ca.SSHKey)`,
		"./config", "TestLoginCAForSSH", "secrets others can read",
	},
	{
		"config.plaintext-web", "config/check.go",
		`case l.Protocol == "web" && l.Plaintext && !loopback(host):`,
		`case l.Protocol == "web" && l.Plaintext && host == "nowhere":`,
		"./config", "TestPlaintextWebOnlyOnLoopback", "plaintext pages",
	},
	{
		"config.pin", "config/check.go",
		`if p.Root != "" && !digest.MatchString(p.Root) {`,
		`if p.Root == "unsigned" {`,
		"./config", "TestWhatIsRefused", "a bundle without a pinned trust root",
	},
	{
		"config.secret-file", "config/check.go",
		"if err := credential.CheckFile(*p); err != nil {",
		`if err := credential.CheckFile(*p); err != nil && err.Error() == "" {`,
		"./config", "TestSecretFilesOthersCanRead", "secrets that others can read",
	},
	{
		"config.credential-file", "config/check.go",
		"if err := credential.CheckFile(path); err != nil {",
		`if err := credential.CheckFile(path); err != nil && err.Error() == "" {`,
		"./config", "TestSecretFilesOthersCanRead", "secrets that others can read",
	},
	{
		"config.limits", "config/check.go",
		"} else if *n.value < 1 {",
		"} else if *n.value < -1<<40 {",
		"./config", "TestWhatIsRefused", "unbounded input",
	},
	{
		"config.elsewhere", "config/load.go",
		"diags = append(diags, misplaced(file.Body)...)",
		"_ = misplaced",
		"./config", "TestProxyFileCannotRepointATarget", "proxy.hcl repoints a target",
	},
	{
		"config.writable", "config/load.go",
		"if mode := info.Mode().Perm(); mode&0o022 != 0 {",
		"if mode := info.Mode().Perm(); mode&0o022 == 0xffff {",
		"./config", "TestConfigurationOthersCanWrite", "the pin of the trust root changed by others",
	},
	{
		"config.redacted", "config/load.go",
		"file.Bytes = redacted(file)",
		"_ = redacted",
		"./config", "TestReportNeverShowsAPassword", "secrets in error texts",
	},
}
