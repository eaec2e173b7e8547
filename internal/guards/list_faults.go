package guards

// faults are lines by which somebody is told what is wrong with a target or a certificate.
var faults = []Guard{
	{
		"protocols/http.target-stranger", "protocols/http/relay.go",
		"if errors.As(err, &stranger) {",
		"if false && errors.As(err, &stranger) {",
		"./internal/e2e", "TestWebTargetsThatMisbehave", "a target that is another is not said to be",
	},
	{
		"identity.certificate-shown", "identity/ca.go",
		"if cert == nil {",
		"if false && (cert == nil) {",
		"./identity", "TestCertificateOfTheCASignsInNobody", "a key or certificate that is merely shown taken as proof",
	},
	{
		"identity.certificate-ended", "identity/ca.go",
		"if now.After(cert.NotAfter) && cert.CheckSignatureFrom(c.cert) == nil {",
		"if false && (now.After(cert.NotAfter) && cert.CheckSignatureFrom(c.cert) == nil) {",
		"./identity", "TestCertificateOutsideItsTimeIsRefused", "a refusal that does not say what to do next",
	},
	{
		"identity.ca-kinds", "identity/authority.go",
		"if block == nil || block.Type != kind {",
		"if false && (block == nil || block.Type != kind) {",
		"./identity", "TestLoginCAAndTLSCAAreNeverMixed", "one CA's key is another's",
	},
}
