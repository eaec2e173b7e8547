package guards

// shown are lines that pass on what was found wrong with something that was shown.
var shown = []Guard{
	{
		"session.confirmed-words", "session/hold.go",
		"\tif err := checkWords(c.Reason, c.Ticket, c.Duration); err != nil {",
		"\tif err := checkWords(c.Reason, c.Ticket, c.Duration); false && err != nil {",
		"./session", "TestConfirmedWordsAreBounded", "unbounded input",
	},
	{
		"session.may-decide", "session/decide.go",
		"\t\td, err := mayDecide(p, s.User, r, g.clock.Now())\n\t\tif err != nil {",
		"\t\td, err := mayDecide(p, s.User, r, g.clock.Now())\n\t\tif false && err != nil {",
		"./session", "TestNobodyDecidesOnTheirOwn", "administrators approve themselves",
	},
	{
		"session.may-deny", "session/decide.go",
		"if _, err := mayDecide(p, s.User, r, g.clock.Now()); err != nil {",
		"if _, err := mayDecide(p, s.User, r, g.clock.Now()); false && (err != nil) {",
		"./session", "TestOnlyThoseWhoMayDecide", "an endpoint that assigns rights lacks its own check",
	},
	{
		"session.no-is-no-yes", "session/decide.go",
		`if !a.Yes || a.Void || a.Rule != "" ||`,
		`if a.Void || a.Rule != "" ||`,
		"./session", "TestProgressCountsPeople", "one person satisfies 2-of-N",
	},
	{
		"session.rule-is-nobody", "session/decide.go",
		`|| a.Rule != "" || a.By.Same(requester)`,
		"|| a.By.Same(requester)",
		"./session", "TestProgressCountsPeople", "one person satisfies 2-of-N",
	},
	{
		"session.yes-of-a-stage", "session/decide.go",
		"|| !st.From.Has(a.By) ||",
		"||",
		"./session", "TestProgressCountsPeople", "one person satisfies 2-of-N",
	},
	{
		"session.narrows-only", "session/decide.go",
		"\t\tif err := g.narrows(p, r, d, v); err != nil {",
		"\t\tif err := g.narrows(p, r, d, v); false && err != nil {",
		"./session", "TestNarrowNeverWiden", "the reviewer approves something other than what runs",
	},
	{
		"identity/oidc.azp-form", "identity/oidc/idtoken.go",
		`	azp, err := t.claims.text("azp")
	if err != nil {`,
		`	azp, err := t.claims.text("azp")
	if false && err != nil {`,
		"./identity/oidc", "TestTokenMadeForAnotherClient", "unchecked token type or signature",
	},
	{
		"identity/oidc.refreshed-token", "identity/oidc/refresh.go",
		"\t\tt, err := i.idToken(ctx, m, reply)\n\t\tif err != nil {",
		"\t\tt, err := i.idToken(ctx, m, reply)\n\t\tif false && err != nil {",
		"./identity/oidc", "TestRefreshWithAWrongIDToken", "unchecked token type or signature",
	},
	{
		"policy/bundle.accepted", "policy/bundle/write.go",
		"if who, err = root.signer(text, signature); err != nil {",
		"if who, err = root.signer(text, signature); false && err != nil {",
		"./policy/bundle", "TestAcceptedSignatureIsAGoodOne", "a signature that counts for nobody",
	},
}
