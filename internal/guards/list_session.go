package guards

var session = []Guard{
	{
		"session.own-request", "session/decide.go",
		"if by.Same(r.User) {",
		"if false && (by.Same(r.User)) {",
		"./session", "TestNobodyDecidesOnTheirOwn", "one person satisfies 2-of-N; administrators approve themselves",
	},
	{
		"session.own-approval-uncounted", "session/decide.go",
		`if !a.Yes || a.Void || a.Rule != "" || a.By.Same(requester) ||`,
		`if !a.Yes || a.Void || a.Rule != "" ||`,
		"./session", "TestProgressCountsPeople", "one person satisfies 2-of-N; administrators approve themselves",
	},
	{
		"session.twice", "session/decide.go",
		"if approvedBy(r.Approvals, by) {",
		"if false && (approvedBy(r.Approvals, by)) {",
		"./session", "TestTwoApprovalsAreTwoPeople", "one person satisfies 2-of-N",
	},
	{
		"session.stop-waits", "session/gate.go",
		`if err := g.drained(ctx); err != nil {
			return errors.Join(g.Err(), fmt.Errorf("stop: sessions did not end: %w", err))
		}
		g.rest()
		return g.Err()`,
		`return g.Err()`,
		"./session", "TestStopOfAFailedGateWaitsForTheCut", "a recording left open by a stop",
	},
	{
		"session.counted-once", "session/decide.go",
		"|| slices.ContainsFunc(counted, a.By.Same) {",
		"{",
		"./session", "TestProgressCountsPeople", "one person satisfies 2-of-N",
	},
	{
		"session.stage-right", "session/decide.go",
		"if !d.Stages[stage].From.Has(by) {",
		"if false && (!d.Stages[stage].From.Has(by)) {",
		"./session", "TestOnlyThoseWhoMayDecide", "an approver whose right was withdrawn",
	},
	{
		"session.visible", "session/decide.go",
		"if !visible(p, u, r) {",
		"if false && (!visible(p, u, r)) {",
		"./session", "TestOnlyThoseWhoMayDecide", "seeing the inbox needs the right too",
	},
	{
		"session.widen", "session/narrow.go",
		"v.Duration > longest {",
		"false && v.Duration > longest {",
		"./session", "TestNarrowNeverWiden", "no approval of one rule combined with the duration of another",
	},
	{
		"session.narrow-enforceable", "session/narrow.go",
		"return g.enforceable(p, r.Input.Target, scope)",
		"return nil",
		"./session", "TestNarrowNeverWiden", "a scope that is decoration",
	},
	{
		"session.policy-at-the-click", "session/decide.go",
		"if d.Effect != policy.Allow {",
		"if false && (d.Effect != policy.Allow) {",
		"./session", "TestDecidedUnderThePolicyOfNow", "the reviewer approves something other than what runs",
	},
	{
		"session.withdraw-own", "session/decide.go",
		"if r.User.ID() != s.User.ID() {",
		"if false && (r.User.ID() != s.User.ID()) {",
		"./session", "TestWithdrawIsTheRequestersOwn", "somebody else's request withdrawn",
	},
	{
		"session.log-failure", "session/gate.go",
		"\t\tg.fail(g.c.Log.Err())",
		"\t\t_ = g",
		"./session", "TestBrokenLogStopsTheGate", "recorder or logger fails open",
	},
	{
		"session.phrase-wrong-twice", "session/hold.go",
		"last := h.wrong >= 2",
		"last := h.wrong >= 200",
		"./session", "TestPhishedLink/wrong_phrase_twice_ends_it", "phishing (RFC 8628 5.4)",
	},
	{
		"session.phrase", "session/hold.go",
		"if picked == h.right {",
		`if picked != "" {`,
		"./session", "TestPhishedLink/wrong_phrase_twice_ends_it", "phishing (RFC 8628 5.4)",
	},
	{
		"session.link-owner", "session/hold.go",
		"case h.owner != by.ID:",
		"case false:",
		"./session", "TestPhishedLink/belongs_to_the_first_who_opens_it", "phishing (RFC 8628 5.4)",
	},
	{
		"session.link-known", "session/hold.go",
		"case h.known != nil && h.known.user.ID() != by.User.ID():",
		"case false:",
		"./session", "TestAReasonIsAskedForOnThePage", "sign-in state shared between users",
	},
	{
		"session.hold-cap-source", "session/hold.go",
		"g.held >= g.c.MaxHeld || g.perSource[source] >= g.c.MaxHeldPerSource",
		"g.held >= g.c.MaxHeld",
		"./session", "TestCapsBeforeIdentity", "unbounded input",
	},
	{
		"session.same-address", "session/identify.go",
		"if !in.SameAddress() {",
		"if false && (!in.SameAddress()) {",
		"./session", "TestPhishedLink/another_address_uses_no_grant_and_no_automatic_rule", "phishing (RFC 8628 5.4)",
	},
	{
		"session.token-own-grant", "session/identify.go",
		`if who.grant != "" && gr.ID != who.grant {`,
		`if false && (who.grant != "" && gr.ID != who.grant) {`,
		"./session", "TestTokenServesOnlyItsOwnGrant", "a remembered yes for one token opens for the user's other tokens",
	},
	{
		"session.signin-stands", "session/identify.go",
		"if !s.Stands(time.Now()) {",
		"if false && (!s.Stands(time.Now())) {",
		"./session", "TestCertificateOfAnEndedSignIn", "live connections outlive the sign-in",
	},
	{
		"session.expiry-cuts", "session/live.go",
		"time.AfterFunc(left, s.expire)",
		"time.AfterFunc(left+240*time.Hour, s.expire)",
		"./session", "TestEndsExactlyAtTheGrantsEnd", "live connections outlive the grant",
	},
	{
		"session.recorder-failure", "session/live.go",
		"s.cancel(s.noRecorder(recorder.Err()))",
		"_ = recorder",
		"./session", "TestRecorderFailureEndsTheSession", "recorder or logger fails open",
	},
	{
		"session.long-reason", "session/open.go",
		"case utf8.RuneCountInString(reason) > MaxReason || !printable(reason):",
		"case !printable(reason):",
		"./session", "TestUnboundedInputRefused/a_long_reason", "unbounded input",
	},
	{
		"session.escape-sequences", "session/open.go",
		"return r < 0x20 || (r >= 0x7f && r < 0xa0) ||",
		"return (r >= 0x7f && r < 0xa0) ||",
		"./session", "TestUnboundedInputRefused/an_escape_sequence", "terminal escape sequences",
	},
	{
		"session.bidi", "session/open.go",
		"(r >= 0x202a && r <= 0x202e) ||",
		"",
		"./session", "TestUnboundedInputRefused/a_reversed_line", "terminal escape sequences",
	},
	{
		"session.enforceable", "session/open.go",
		"if !slices.Contains(able, part) {",
		"if false && (!slices.Contains(able, part)) {",
		"./session", "TestNarrowNeverWiden", "a scope that is decoration",
	},
	{
		"session.api-token-purpose", "session/people.go",
		"if purpose != identity.ForAPI {",
		"if false && (purpose != identity.ForAPI) {",
		"./session", "TestTokens", "a token reads, requests or approves",
	},
	{
		"session.token-owner", "session/people.go",
		"case gr.Key.User != s.User.ID():",
		"case false:",
		"./session", "TestTokens", "a token for somebody else's grant",
	},
	{
		"session.disabled", "session/people.go",
		"case !account.Disabled.IsZero():",
		"case false:",
		"./session", "TestUsersNeedTheRight", "a disabled user signs in",
	},
	{
		"session.users-right", "session/people.go",
		`if !g.Policy().Has(right, s.User, "") {`,
		`if false && (!g.Policy().Has(right, s.User, "")) {`,
		"./session", "TestUsersNeedTheRight", "an endpoint that assigns rights lacks its own check",
	},
	{
		"session.revoke-right", "session/revoke.go",
		"return g.cutOrHide(gr.Key.Target, gr.User, s, append(gr.ExtendedBy, gr.Request)...)",
		"return nil",
		"./session", "TestOthersMayNotCut", "revoke without the right",
	},
	{
		"session.kill-right", "session/revoke.go",
		"if err := g.cutOrHide(r.Key.Target, r.User, s, requests...); err != nil {",
		"if err := g.cutOrHide(r.Key.Target, r.User, s, requests...); err != nil && r.ID == \"\" {",
		"./session", "TestOthersMayNotCut", "kill without the right",
	},
	{
		"session.reload-cuts", "session/revoke.go",
		"for id, why := range cuts {",
		"for id, why := range map[string]*Ended{} {",
		"./session", "TestPolicyReloadKeepsWhoIsStillAllowed", "live connections outlive the grant",
	},
	{
		"session.older-store", "session/outbox/outbox.go",
		"if logged := s.log.Counter(); logged > given {",
		"if logged := s.log.Counter(); false && logged > given {",
		"./session", "TestOlderStoreUnderANewerLogRefusesToStart", "a database restored from the past",
	},
	{
		"session.pin", "session/upstream.go",
		"if subtle.ConstantTimeCompare([]byte(strings.ToLower(pin)), []byte(have)) == 1 {",
		"if _ = subtle.ConstantTimeCompare([]byte(strings.ToLower(pin)), []byte(have)); true {",
		"./session", "TestPinnedTarget", "credentials to the wrong target",
	},
	{
		"session.hangup-withdraws", "session/wait.go",
		"if errors.Is(err, ErrNotFound) || (err == nil && (r.State != RequestPending || r.Keep)) {",
		"if true {",
		"./session", "TestHangUpWithdrawsAndALaterYesOpensNothing", "a yes for a client that has gone",
	},
}
