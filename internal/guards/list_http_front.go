package guards

// httpFront is what stands before HTTP: proxies, and clients that are slow or many.
var httpFront = []Guard{
	{
		"protocols/http.forwarded-by-anybody", "protocols/http/behind.go",
		"if !c.behind || r.URL.Path",
		"if r.URL.Path",
		"./protocols/http", "TestBehindAProxyThatIsNotTrusted", "a forwarded address believed from anybody",
	},
	{
		"protocols/http.forwarded-leftmost", "protocols/http/behind.go",
		"if i == 0 || !n.has(addr) {",
		"if i == 0 {",
		"./protocols/http", "TestBehindAProxy", "a forwarded address that the client wrote",
	},
	{
		"protocols/http.forwarded-unread", "protocols/http/behind.go",
		"\t\t\tif errPort != nil {\n\t\t\t\treturn netip.Addr{}, errNoClient\n",
		"\t\t\tif errPort != nil {\n\t\t\t\tcontinue\n",
		"./protocols/http", "TestForwardedAddresses", "a forwarded address that the client wrote",
	},
	{
		"protocols/http.forwarded-plaintext", "protocols/http/behind.go",
		`if scheme := r.Header.Values("X-Forwarded-Proto"); len(scheme) > 0 &&`,
		`if scheme := r.Header.Values("X-Forwarded-Proto"); len(scheme) > 9 &&`,
		"./protocols/http", "TestTrustedProxyProvesNobody", "credentials in plaintext",
	},
	{
		"protocols/http.forwarded-missing", "protocols/http/conn.go",
		"case from != nil:",
		"case from != nil && false:",
		"./protocols/http", "TestTrustedProxyProvesNobody", "silent defaults: all clients of a proxy are one",
	},
	{
		"protocols/http.proxys-certificate", "protocols/http/client.go",
		"len(r.TLS.PeerCertificates) > 0 && !c.behind:",
		"len(r.TLS.PeerCertificates) > 0:",
		"./protocols/http", "TestTrustedProxyProvesNobody", "sign-in state shared between users: a proxy's certificate",
	},
	{
		"protocols/http.everybody-trusted", "protocols/http/behind.go",
		"if p.Bits() == 0 || p.Addr().Is4In6() {",
		"if false {",
		"./protocols/http", "TestForwardedAddresses", "a forwarded address believed from anybody",
	},
	{
		"protocols/http.preamble-source", "protocols/http/protocol.go",
		"if h.preamble && h.trusted.has(proxy.Source(base)) {",
		"if h.preamble {",
		"./protocols/http", "TestBehindPassedOnTLS", "a forwarded address believed from anybody: PROXY headers",
	},
	{
		"protocols/http.preamble-size", "protocols/http/behind.go",
		"|| size > maxPreamble {",
		"{",
		"./protocols/http", "TestPreamble", "unbounded input: a PROXY header",
	},
	{
		"protocols/http.call-refused", "protocols/http/refuse.go",
		"\tif isCall(r.Header) {\n\t\trefuseCall",
		"\tif false {\n\t\trefuseCall",
		"./protocols/http", "TestCallsAreRefused", "a refusal that the client cannot read: gRPC",
	},
	{
		"protocols/http.cut-call", "protocols/http/relay.go",
		"\tu.stopped.Store(true)\n\t_ = u.a.rc.SetReadDeadline(time.Now().Add(-time.Hour))\n",
		"",
		"./protocols/http", "TestCutCalls", "live connections outlive the grant: gRPC",
	},
	{
		"session.signed-out-before-run", "session/identify.go",
		"if s.who.proof != identity.ByToken {",
		"if false && s.who.proof != identity.ByToken {",
		"./session", "TestSignedOutBeforeItRuns", "live connections outlive the grant: signed out between Open and Run",
	},
	{
		"session.signing-out-before-run", "session/live.go",
		"if why := g.cut[s.who.signIn]; why != nil && s.who.proof == identity.ByBrowser {",
		"if why := g.cut[s.who.signIn]; why != nil && false {",
		"./session", "TestSigningOutBeforeItRuns", "live connections outlive the grant: signed out between Open and Run",
	},
	{
		"protocols/http.call-boundary", "protocols/http/grpc.go",
		"if size > uint64(len(rest)) && size <= proxy.MaxHold {",
		"if false && size <= proxy.MaxHold {",
		"./protocols/http", "TestCutCallEndsBetweenMessages", "a cut says why: a gRPC call is cut between messages",
	},
}
