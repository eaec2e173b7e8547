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
	{
		"internal/lossy.never-waits", "internal/lossy/lossy.go",
		"l.left++\n",
		"l.wait <- waiting{l.left, text}\n",
		"./internal/lossy", "TestDeafReaderBlocksNobody", "recorder or logger fails open",
	},
	{
		"internal/lossy.torn-line", "internal/lossy/lossy.go",
		"l.torn = err != nil && (n > 0 || l.torn)",
		"l.torn = false && n > 0",
		"./internal/lossy", "TestReaderThatComesBack", "recorder or logger fails open",
	},
	{
		"cmd/sallyport.deaf-stderr", "cmd/sallyport/serve.go",
		"return slog.New(calm.Handler(handler(lines))), ",
		"return slog.New(calm.Handler(handler(w))), ",
		"./internal/e2e", "TestCollectorsThatDoNotRead", "recorder or logger fails open",
	},
	{
		"cmd/sallyport.closed-stdout", "cmd/sallyport/serve.go",
		"signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)",
		"signal.Notify(make(chan os.Signal, 1), syscall.SIGURG)",
		"./internal/e2e", "TestCollectorsThatDoNotRead", "recorder or logger fails open",
	},
	{
		"cmd/sallyport.named-pipe", "cmd/sallyport/program.go",
		"mode = os.O_RDWR // does",
		"mode = os.O_WRONLY // does",
		"./internal/e2e", "TestCollectorAtANamedPipe", "recorder or logger fails open",
	},
	{
		"cmd/sallyport.last-word", "cmd/sallyport/main.go",
		"case <-time.After(time.Second):",
		"case <-time.After(time.Hour):",
		"./internal/e2e", "TestLastWordThatNobodyReads", "recorder or logger fails open",
	},
	{
		"proxy.open-files", "proxy/server.go",
		"case left < spare:",
		"case left < spare && spare < 0:",
		"./proxy", "TestConnectionsLeaveDescriptors", "disk full locks everyone out",
	},
	{
		"session.open-files", "session/live.go",
		"left < spare/2 {",
		"left < 0 && spare > 0 {",
		"./internal/e2e", "TestFileDescriptorsAtTheirLimit", "disk full locks everyone out",
	},
	{
		"durable.open-files", "internal/durable/durable.go",
		"syscall.EDQUOT, syscall.EMFILE, syscall.ENFILE}",
		"syscall.EDQUOT}",
		"./internal/durable", "TestFullIsToldFromBroken", "disk full locks everyone out",
	},
	{
		"session.store-broken", "session/gate.go",
		"case errors.Is(err, ErrStore), errors.Is(err, audit.ErrFailed):",
		"case false && errors.Is(err, ErrStore), errors.Is(err, audit.ErrFailed):",
		"./session", "TestBrokenStoreStopsTheGate/a_permission", "recorder or logger fails open",
	},
	{
		"session.outbox-broken", "session/gate.go",
		"if err := g.seq.Run(); err != nil && !errors.Is(err, audit.ErrFull) {",
		"if err := g.seq.Run(); err == nil && !errors.Is(err, audit.ErrFull) {",
		"./session", "TestBrokenStoreStopsTheGate/what_the_log_has", "recorder or logger fails open",
	},
	{
		"store.broken", "store/store.go",
		"case broken(err):",
		"case false && broken(err):",
		"./store", "TestDisksThatFailAreToldApart", "recorder or logger fails open",
	},
	{
		"store.quota", "store/store.go",
		"(e.Code == sqlite3.ErrFull || durable.IsFull(e.SystemErrno))",
		"(e.Code == sqlite3.ErrFull || false && durable.IsFull(e.SystemErrno))",
		"./store", "TestDisksThatFailAreToldApart", "disk full locks everyone out",
	},
	{
		"audit.never-there", "audit/rescue.go",
		"return t.sealed != nil && t.sealed.Lost && len(t.chunks) == 0",
		"return t.sealed != nil && t.sealed.Lost && len(t.chunks) < 0",
		"./audit", "TestRecordingThatNeverReachedTheDisk", "recording altered",
	},
	{
		"audit.never-there-altered", "audit/verifyrec.go",
		"if t.neverThere() && blank(meta) {",
		"if t.neverThere() && (blank(meta) || true) {",
		"./audit", "TestRecordingThatNeverReachedTheDisk", "recording altered",
	},
	{
		"protocols/postgres.target-length", "protocols/postgres/observe_down.go",
		"return 0, strange(err)",
		"return 0, err",
		"./protocols/postgres", "TestMessagesThatEndASession", "a refusal that does not say what to do next",
	},
	{
		"protocols/postgres.answer-rows", "protocols/postgres/upstream.go",
		"if size += len(body); size > maxLoginRows {",
		"if size += len(body); false && size > maxLoginRows {",
		"./protocols/postgres", "TestAnswersToTheGateAreBounded", "unbounded input",
	},
	{
		"protocols/postgres.target-state", "protocols/postgres/upstream.go",
		"if !stateForm.MatchString(e.state) {",
		"if false && !stateForm.MatchString(e.state) {",
		"./protocols/postgres", "TestTargetsWordsAreBounded", "terminal escape sequences",
	},
	{
		"protocols/postgres.target-words", "protocols/postgres/upstream.go",
		"e.message[:min(len(e.message), maxErrorText)]",
		"e.message[:max(len(e.message), 0)]",
		"./protocols/postgres", "TestTargetsWordsAreBounded", "unbounded input",
	},
	{
		"protocols/postgres.judge-cut", "protocols/postgres/upstream.go",
		"stop := context.AfterFunc(ctx, func() { _ = s.conn.SetDeadline(time.Now().Add(-time.Hour)) })",
		"stop := context.AfterFunc(ctx, func() {})",
		"./protocols/postgres", "TestJudgingIsCut", "live connections outlive the grant",
	},
}
