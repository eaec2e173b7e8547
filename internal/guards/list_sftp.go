package guards

const fooled = "the record tells something else than what runs"

var sftp = []Guard{
	{
		"internal/sftp.id-in-use", "internal/sftp/watch.go",
		"if _, used := w.pending[id]; used {",
		"if _, used := w.pending[id]; used && len(w.pending) == 0 {",
		"./internal/sftp", "TestWhatFoolsTheRecordIsRefused", fooled,
	},
	{
		"internal/sftp.unknown-handle", "internal/sftp/watch.go",
		"case f == nil:\n\t\treturn nil, bad(",
		"case f == nil:\n\t\treturn &file{}, nil\n\tcase len(w.files) < 0:\n\t\treturn nil, bad(",
		"./internal/sftp", "TestWhatFoolsTheRecordIsRefused", fooled,
	},
	{
		"internal/sftp.closing", "internal/sftp/watch.go",
		"case f.closing:",
		"case f.closing && f.closed:",
		"./internal/sftp", "TestWhatFoolsTheRecordIsRefused", fooled,
	},
	{
		"internal/sftp.unasked", "internal/sftp/watch.go",
		"case !waits:",
		"case !waits && len(w.pending) > 1<<30:",
		"./internal/sftp", "TestWhatFoolsTheRecordIsRefused", fooled,
	},
	{
		"internal/sftp.answer-kind", "internal/sftp/watch.go",
		"case !answers(a.kind, kind):",
		"case !answers(a.kind, kind) && id == 1<<31:",
		"./internal/sftp", "TestWhatFoolsTheRecordIsRefused", fooled,
	},
	{
		"internal/sftp.handle-twice", "internal/sftp/watch.go",
		"case w.handles[f.handle] != nil:",
		"case w.handles[f.handle] == f:",
		"./internal/sftp", "TestWhatFoolsTheRecordIsRefused", fooled,
	},
	{
		"internal/sftp.more-data", "internal/sftp/watch.go",
		"if len(data) > a.size {",
		"if len(data) > maxPacket {",
		"./internal/sftp", "TestWhatFoolsTheRecordIsRefused", fooled,
	},
	{
		"internal/sftp.unknown-type", "internal/sftp/watch.go",
		`return "", bad("packet type %d", a.kind)`,
		`return "", nil`,
		"./internal/sftp", "TestWhatFoolsTheRecordIsRefused", fooled,
	},
	{
		"internal/sftp.version", "internal/sftp/watch.go",
		"b.err == nil && version != 3 {",
		"b.err == nil && version > 99 {",
		"./internal/sftp", "TestGreeting", "a body in another encoding that skips the record",
	},
	{
		"internal/sftp.greeting", "internal/sftp/watch.go",
		"if (kind == typeInit) == w.greeted {",
		"if kind == typeInit && w.greeted {",
		"./internal/sftp", "TestGreeting", "a body in another encoding that skips the record",
	},
	{
		"internal/sftp.pending", "internal/sftp/watch.go",
		"if len(w.pending) >= maxPending {",
		"if len(w.pending) >= 1<<30 {",
		"./internal/sftp", "TestLimits", "unbounded input",
	},
	{
		"internal/sftp.handles", "internal/sftp/watch.go",
		"case len(w.files) >= maxHandles:",
		"case len(w.files) >= 1<<30:",
		"./internal/sftp", "TestLimits", "unbounded input",
	},
	{
		"internal/sftp.told-when-answered", "internal/sftp/watch.go",
		"if f.closed && f.waiting == 0 {",
		"if f.closed {",
		"./internal/sftp", "TestWhatIsTold", fooled,
	},
	{
		"protocols/ssh.scp-words", "protocols/ssh/scp.go",
		"words, ok := plainWords(command)",
		"words, ok := strings.Fields(command), true",
		"./protocols/ssh", "TestSCPIsRecognisedOnlyWhereAllOfItIsUnderstood", fooled,
	},
	{
		"protocols/ssh.scp-flags", "protocols/ssh/scp.go",
		`} else if slices.ContainsFunc(rest, func(word string) bool { return strings.HasPrefix(word, "-") }) {`,
		`} else if slices.ContainsFunc(rest, func(word string) bool { return word == "" }) {`,
		"./protocols/ssh", "TestSCPIsRecognisedOnlyWhereAllOfItIsUnderstood", fooled,
	},
	{
		"protocols/ssh.variable-recorded", "protocols/ssh/requests.go",
		`return p.said("%s=%q", v.Name, v.Value) && p.send(request, v)`,
		`return p.send(request, v)`,
		"./protocols/ssh", "TestEnvironmentPassesByAllowList", fooled,
	},
	{
		"protocols/ssh.variables", "protocols/ssh/requests.go",
		"if p.variables++; p.variables > maxVariables {",
		"if p.variables++; p.variables > 1<<30 {",
		"./protocols/ssh", "TestVariablesAreBounded", "unbounded input",
	},
	{
		"protocols/ssh.signal-recorded", "protocols/ssh/requests.go",
		`p.said("signal %q", v.Name) &&`,
		"",
		"./protocols/ssh", "TestTerminalsKindAndSignalsAreRecorded", fooled,
	},
	{
		"protocols/ssh.stalled", "protocols/ssh/stall.go",
		"if w.by.n.Add(1) > maxStalled {",
		"if w.by.n.Add(1) > 1<<30 {",
		"./protocols/ssh", "TestChannelsThatNobodyReadsAreBounded", "a target that makes the gate's memory grow",
	},
	{
		"protocols/ssh.unbegun", "protocols/ssh/channels.go",
		"if r.unbegun.Add(1) > maxUnbegun {",
		"if r.unbegun.Add(1) > 1<<30 {",
		"./protocols/ssh", "TestChannelsForNothingAreBounded", "unbounded input",
	},
}
