package guards

// people are more of the lines that say who somebody is.
var people = []Guard{
	{
		"identity.one-person", "identity/user.go",
		`if u.Person != "" {`,
		`if false && (u.Person != "") {`,
		"./identity", "TestAccountsOfOnePersonAreOne", "one person satisfies 2-of-N",
	},
	{
		"identity.down-once", "identity/refresh.go",
		"if _, is := down.Load(s.User.Issuer); is {",
		"if _, is := down.Load(s.User.Issuer); false && (is) {",
		"./identity", "TestIssuerThatIsDownIsAskedOnce", "live connections outlive the grant",
	},
	{
		"identity.no-refresh-token", "identity/refresh.go",
		"if len(s.Refresh) == 0 {",
		"if false && (len(s.Refresh) == 0) {",
		"./identity", "TestSignInWithoutRefreshTokenMustBeDeclared", "a silent default",
	},
	{
		"identity.new-token-kept", "identity/refresh.go",
		`if fresh.ID != "" { // with its old Checked`,
		"if false { // with its old Checked",
		"./identity", "TestUnreachableIssuerFailsClosedAtTheLimit", "an outage locks everybody out",
	},
	{
		"identity.ssh-ca-key", "identity/sshca.go",
		"if !SSHKeyType(signer.PublicKey()) {",
		"if false && (!SSHKeyType(signer.PublicKey())) {",
		"./identity", "TestSSHCAHasAKeyThatSigns", "a weak key",
	},
	{
		"identity.ssh-sign-in", "identity/sshca.go",
		"if !ValidID(signIn) {",
		"if false && (!ValidID(signIn)) {",
		"./identity", "TestSSHCAIssuesOnlyWhatItMay", "a user has no name on one path",
	},
	{
		"identity.server-names", "identity/authority.go",
		"if len(names)+len(ips) == 0 {",
		"if false && (len(names)+len(ips) == 0) {",
		"./identity", "TestLoginCAAndTLSCAAreNeverMixed", "a silent default",
	},
	{
		"identity/oidc.state-known", "identity/oidc/attempt.go",
		"if !found {",
		"if false && (!found) {",
		"./identity/oidc", "TestLoginCSRF", "login CSRF, replayed state",
	},
	{
		"identity/oidc.one-at", "identity/oidc/claims.go",
		`if !found || local == "" || domain == "" || len(address) > maxEmail {`,
		`if false && (!found || local == "" || domain == "" || len(address) > maxEmail) {`,
		"./identity/oidc", "TestDeceivingEmail", "multi-@ e-mail claims",
	},
	{
		"identity/oidc.address-signs", "identity/oidc/claims.go",
		"if !letter && strings.IndexByte(signs, c) < 0 {",
		"if false && (!letter && strings.IndexByte(signs, c) < 0) {",
		"./identity/oidc", "TestDeceivingEmail", "multi-@ e-mail claims",
	},
	{
		"identity/oidc.claim-form", "identity/oidc/claims.go",
		"if json.Unmarshal(raw, &text) != nil || text == nil {",
		"if text = new(string); json.Unmarshal(raw, &text) != nil && text == nil {",
		"./identity/oidc", "TestDeceivingEmail", "silent defaults and spelling",
	},
	{
		"identity/oidc.claim-printable", "identity/oidc/claims.go",
		"if len(*text) > maxClaim || !printable(*text) {",
		"if false && (len(*text) > maxClaim || !printable(*text)) {",
		"./identity/oidc", "TestDeceivingNameIsLeftOut", "terminal escape sequences in names and reasons",
	},
	{
		"identity/oidc.issuer-twice", "identity/oidc/config.go",
		"if _, twice := r.issuers[c.Issuer]; twice {",
		"if _, twice := r.issuers[c.Issuer]; false && (twice) {",
		"./identity/oidc", "TestConfigIsChecked", "a silent default",
	},
	{
		"identity/oidc.issuer-fragment", "identity/oidc/config.go",
		`case u.User != nil, u.RawQuery != "", strings.ContainsAny(text, "?#\\ "):`,
		`case strings.ContainsAny(text, "\\"):`,
		"./identity/oidc", "TestConfigIsChecked", "silent defaults and spelling",
	},
	{
		"identity/oidc.redirect-url", "identity/oidc/config.go",
		`case err != nil, u.Host == "", u.Opaque != "":`,
		"case err != nil:",
		"./identity/oidc", "TestConfigIsChecked", "a silent default",
	},
	{
		"identity/oidc.outage", "identity/oidc/failure.go",
		`if reply.status >= 500 || reply.status == http.StatusTooManyRequests || reply.code == "temporarily_unavailable" {`,
		`if false && (reply.status >= 500 || reply.status == http.StatusTooManyRequests || reply.code == "temporarily_unavailable") {`,
		"./identity/oidc", "TestRefreshOutagesAreToldFromRefusals", "an outage locks everybody out",
	},
	{
		"identity/oidc.one-signature", "identity/oidc/idtoken.go",
		"if err != nil || len(jws.Signatures) != 1 {",
		"if err != nil && len(jws.Signatures) != 1 {",
		"./identity/oidc", "TestUnsignedToken", "unchecked token type or signature",
	},
	{
		"identity/oidc.keys-silent", "identity/oidc/idtoken.go",
		`if err != nil && strings.HasPrefix(err.Error(), "fetching keys") {`,
		`if false && (err != nil && strings.HasPrefix(err.Error(), "fetching keys")) {`,
		"./identity/oidc", "TestKeysThatDoNotAnswerAreUnreachable", "an outage locks everybody out",
	},
	{
		"identity/oidc.userinfo-status", "identity/oidc/issuer.go",
		"if reply.StatusCode != http.StatusOK {",
		"if false && (reply.StatusCode != http.StatusOK) {",
		"./identity/oidc", "TestRefreshWithoutIDTokenAsksUserinfo", "an error page taken for an answer",
	},
	{
		"identity/oidc.userinfo-kind", "identity/oidc/issuer.go",
		`if kind != "application/json" {`,
		`if false && (kind != "application/json") {`,
		"./identity/oidc", "TestRefreshWithoutIDTokenAsksUserinfo", "an error page taken for an answer",
	},
	{
		"identity/oidc.nobody-said", "identity/oidc/refresh.go",
		`if m.UserInfoURL == "" {`,
		`if false && (m.UserInfoURL == "") {`,
		"./identity/oidc", "TestRefreshThatSaysNothingIsNoAnswer", "a user has no name on one path",
	},
	{
		"identity/oidc.provider-says-no", "identity/oidc/signin.go",
		`if code := query.Get("error"); code != "" {`,
		`if code := query.Get("error"); false && (code != "") {`,
		"./identity/oidc", "TestProviderSaysNo", "a refusal that does not say what to do next",
	},
	{
		"identity/oidc.auth-time", "identity/oidc/signin.go",
		"case when.AuthTime == nil:\n",
		"case false:\n",
		"./identity/oidc", "TestProviderThatDoesNotAskAgain", "an old sign-in taken for a fresh one",
	},
	{
		"identity/oidc.no-id-token", "identity/oidc/signin.go",
		`if raw == "" {`,
		`if false && (raw == "") {`,
		"./identity/oidc", "TestSignInWithoutIDToken", "unchecked token type or signature",
	},
}
