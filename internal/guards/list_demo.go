package guards

var demo = []Guard{
	{
		"internal/demo.hba", "internal/demo/postgres.go",
		`hba := "hostssl orders reader,writer 127.0.0.1/32 scram-sha-256\n"`,
		`hba := "host all all 127.0.0.1/32 trust\n"`,
		"./internal/demo", "TestPostgresAdmitsTheRolesOnlyByTLSAndPassword", "the demo's target open to all",
	},
	{
		"internal/demo.guest", "internal/demo/sshd.go",
		`found, err := lookup(Guest)`,
		`found, err := otherUser()`,
		"./internal/demo", "TestSSHDAdmitsOnlyTheSessionCA", "whoever enters web-1 owns the database",
	},
}
