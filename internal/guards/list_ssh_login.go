package guards

var sshLogin = []Guard{
	{
		"web.ssh-key-kind", "web/cli.go",
		"if err != nil || len(options) > 0 || len(rest) > 0 || !identity.SSHKeyType(key) {",
		"if err != nil || len(options)+len(rest) > 1<<30 {",
		"./web", "TestCommandLineSSHCertificate", "unchecked token type",
	},
	{
		"web.ssh-certificate-logged", "web/cli.go",
		`if err := s.gate.CertificateIssued(ctx, by, fmt.Sprintf("ssh %016x", cert.Serial), ends); err != nil {`,
		`if err := error(nil); err != nil && fmt.Sprint() == "" {`,
		"./web", "TestCommandLineSSHCertificate", "a certificate without an entry",
	},
	{
		"cmd/sallyport.ssh-fits", "cmd/sallyport/sshkey.go",
		"if err != nil || !ok || cert.CertType != ssh.UserCert || !bytes.Equal(cert.Key.Marshal(), k.public.Marshal()) {",
		"if err != nil || !ok && cert.CertType != ssh.UserCert && bytes.Equal(nil, []byte{1}) {",
		"./cmd/sallyport", "TestSSHCertificateForAnotherKeyIsNotKept", "a certificate for another key",
	},
	{
		"cmd/sallyport.ssh-agent-lifetime", "cmd/sallyport/sshkey.go",
		"LifetimeSecs: uint32(max(1, min(left, 48*time.Hour).Seconds())),",
		"LifetimeSecs: 0 * uint32(max(1, min(left, 48*time.Hour).Seconds())),",
		"./cmd/sallyport", "TestAgentHoldsTheLastLoginsCertificate", "a credential that outlives its use",
	},
	{
		"cmd/sallyport.ssh-agent-logout", "cmd/sallyport/whoami.go",
		"agent := outOfAgent(c.Context(), home.sshCertificate())",
		"agent := error(nil)",
		"./cmd/sallyport", "TestAgentHoldsTheLastLoginsCertificate", "a credential that outlives its use",
	},
	{
		"cmd/sallyport.ssh-config-host", "cmd/sallyport/sshconfig.go",
		`if err != nil || !sshHost.MatchString(host) || strings.Trim(port, "0123456789") != "" {`,
		`if err != nil {`,
		"./cmd/sallyport", "TestSSHConfigTakesNamesOnly", "a line injected into a configuration",
	},
	{
		"cmd/sallyport.ssh-config-target", "cmd/sallyport/sshconfig.go",
		"if t.Protocol == ssh.Name && sshTarget.MatchString(t.Target) && !slices.Contains(all, t.Target) {",
		"if t.Protocol == ssh.Name {",
		"./cmd/sallyport", "TestSSHConfigTakesNamesOnly", "a host CA trusted for every host",
	},
	{
		"cmd/sallyport.login-ca-alone", "cmd/sallyport/ssh.go",
		"if login != nil && bytes.Equal(key.Marshal(), login.PublicKey().Marshal()) {",
		"if login != nil && bytes.Equal(key.Marshal(), nil) {",
		"./cmd/sallyport", "TestLoginCAIsNoKeyOfTheListener", "one key for two uses",
	},
}
