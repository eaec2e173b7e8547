package guards

// trailed are more of the lines that let the log and the recordings be verified.
var trailed = []Guard{
	{
		"audit.verify-late-yes", "audit/references.go",
		`case t.outcome != "":`,
		`case false && (t.outcome != ""):`,
		"./audit", "TestReferences", "approval race gives two outcomes",
	},
	{
		"audit.verify-ended-grant", "audit/references.go",
		"} else if !running {",
		"} else if false && (!running) {",
		"./audit", "TestReferences", "live connections outlive the grant",
	},
	{
		"audit.verify-request-once", "audit/references.go",
		"if r.requests[f.Request] != nil {",
		"if false && (r.requests[f.Request] != nil) {",
		"./audit", "TestReferences", "two outcomes in the log",
	},
	{
		"audit.verify-yes-to-nothing", "audit/references.go",
		`case t == nil:
			return []string{fmt.Sprintf("an approval of request %s, which was never made", f.Request)}`,
		"case t == nil:",
		"./audit", "TestReferences", "a grant without its approvals",
	},
	{
		"audit.verify-taken-back", "audit/references.go",
		"if t == nil || t.approvals == 0 {",
		"if t == nil {",
		"./audit", "TestReferences", "a grant without its approvals",
	},
	{
		"audit.verify-taken-counts", "audit/references.go",
		"t.approvals--",
		"t.approvals += 0",
		"./audit", "TestReferences", "a grant without its approvals",
	},
	{
		"audit.verify-outcome-of-nothing", "audit/references.go",
		`		return []string{fmt.Sprintf("an outcome of request %s, which was never made", f.Request)}`,
		"\t\treturn nil",
		"./audit", "TestReferences", "a grant without its approvals",
	},
	{
		"audit.verify-grant-once", "audit/references.go",
		"if _, known := r.grants[f.Grant]; known {",
		"if _, known := r.grants[f.Grant]; false && (known) {",
		"./audit", "TestReferences", "a remembered yes that matches too widely",
	},
	{
		"audit.verify-session-once", "audit/references.go",
		"if _, known := r.sessions[f.Session]; known {",
		"if _, known := r.sessions[f.Session]; false && (known) {",
		"./audit", "TestReferences", "two outcomes in the log",
	},
	{
		"audit.verify-ends-once", "audit/references.go",
		"case !running:",
		"case false && (!running):",
		"./audit", "TestReferences", "two outcomes in the log",
	},
	{
		"audit.verify-began", "audit/references.go",
		"case !known:",
		"case false && (!known):",
		"./audit", "TestReferences", "two outcomes in the log",
	},
	{
		"audit.trail-sealed", "audit/rescue.go",
		`	if t.sealed != nil {
		return errors.New("an entry`,
		`	if false {
		return errors.New("an entry`,
		"./audit", "TestTrailIsInItsOrder", "a recording is longer than its seal",
	},
	{
		"audit.trail-chunks", "audit/rescue.go",
		"if s.Chunks != len(t.chunks) || ",
		"if ",
		"./audit", "TestTrailIsInItsOrder", "recorder or logger fails open",
	},
	{
		"audit.trail-size", "audit/rescue.go",
		"|| s.Size != t.end() ||",
		"||",
		"./audit", "TestTrailIsInItsOrder", "recorder or logger fails open",
	},
	{
		"audit.trail-hash", "audit/rescue.go",
		"|| s.Hash != t.hash() {",
		"{",
		"./audit", "TestTrailIsInItsOrder", "what is read is not what was checked",
	},
	{
		"audit.trail-number", "audit/rescue.go",
		"if c.N != len(t.chunks) || ",
		"if ",
		"./audit", "TestTrailIsInItsOrder", "recorder or logger fails open",
	},
	{
		"audit.trail-offset", "audit/rescue.go",
		"|| c.Offset != t.end() ||",
		"||",
		"./audit", "TestTrailIsInItsOrder", "what is read is not what was checked",
	},
	{
		"audit.trail-length", "audit/rescue.go",
		"|| c.Length <= 0 {",
		"{",
		"./audit", "TestTrailIsInItsOrder", "what is read is not what was checked",
	},
	{
		"audit.recorder-sealed", "audit/recorder.go",
		"\tif r.ended {\n\t\treturn fmt",
		"\tif false {\n\t\treturn fmt",
		"./audit", "TestSealedRecordingTakesNothingMore", "something opened during the wait escapes the recording",
	},
	{
		"audit.sealed-once", "audit/recorder.go",
		"\tif r.ended {\n\t\tr.mu.Unlock()\n\t\treturn Summary",
		"\tif false {\n\t\tr.mu.Unlock()\n\t\treturn Summary",
		"./audit", "TestSealedRecordingTakesNothingMore", "two outcomes in the log",
	},
	{
		"audit.recorder-session", "audit/recorder.go",
		"if !goodID(m.Session) {",
		"if false && (!goodID(m.Session)) {",
		"./audit", "TestSessionIdentifiersNameNoOtherFolder", "a path out of its folder",
	},
	{
		"audit.log-version", "audit/init.go",
		"if meta.Version != 1 {",
		"if false && (meta.Version != 1) {",
		"./audit", "TestOpenRefusesWhatIsNoLog", "an older gate serves from what it cannot read",
	},
	{
		"audit.key-without-log", "audit/init.go",
		"if _, err := dir.Stat(fileKey); !errors.Is(err, fs.ErrNotExist) {",
		"if _, err := dir.Stat(fileKey); false && (!errors.Is(err, fs.ErrNotExist)) {",
		"./audit", "TestOpenRefusesWhatIsNoLog", "a key overwritten",
	},
	{
		"audit.origin-form", "audit/init.go",
		"if !goodOrigin(origin) {",
		"if false && (!goodOrigin(origin)) {",
		"./audit", "TestOpenRefusesWhatIsNoLog", "silent defaults and spelling",
	},
	{
		"audit.type-form", "audit/encode.go",
		"if !word(e.Type) {",
		"if false && (!word(e.Type)) {",
		"./audit", "TestEncodeRefuses", "unbounded input",
	},
	{
		"audit.word-length", "audit/encode.go",
		`if s == "" || len(s) > maxWord ||`,
		`if s == "" ||`,
		"./audit", "TestEncodeRefuses", "unbounded input",
	},
	{
		"audit.word-dots", "audit/encode.go",
		"|| s[0] == '.' || s[0] == '/' {",
		"{",
		"./audit", "TestEncodeRefuses", "a path out of its folder",
	},
	{
		"audit.short-header", "audit/frame.go",
		"if len(p) < frameHeader {",
		"if false && (len(p) < frameHeader) {",
		"./audit", "TestTornTailAtEveryLength", "a torn write taken for damage",
	},
	{
		"audit.short-frame", "audit/frame.go",
		"if len(p) < size {",
		"if false && (len(p) < size) {",
		"./audit", "TestTornTailAtEveryLength", "a torn write taken for damage",
	},
}
