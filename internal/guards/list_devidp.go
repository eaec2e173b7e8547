package guards

var devidp = []Guard{
	{
		"internal/devidp.loopback", "internal/devidp/devidp.go",
		"if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {",
		"if ip := net.ParseIP(host); ip == nil {",
		"./internal/devidp", "TestRefusesToListenElsewhere", "the demo's provider reachable from outside",
	},
	{
		"internal/devidp.password", "internal/devidp/store.go",
		`if !ok || user.disabled || user.Password == "" || user.Password != password {`,
		"if !ok || user == nil {",
		"./internal/devidp", "TestSignInForm", "the demo's provider",
	},
}
