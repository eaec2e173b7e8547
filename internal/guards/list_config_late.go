package guards

// configLate are more of the lines that refuse a configuration.
var configLate = []Guard{
	{
		"config.no-host", "config/check.go",
		`case err != nil || base.Host == "" || base.Hostname() == "":`,
		"case err != nil:",
		"./config", "TestWhatIsRefused", "a silent default",
	},
	{
		"config.more-than-a-host", "config/check.go",
		`case strings.Trim(base.Path, "/") != "" || base.RawQuery != "" || base.Fragment != "" || base.User != nil:`,
		`case false && (strings.Trim(base.Path, "/") != "" || base.RawQuery != "" || base.Fragment != "" || base.User != nil):`,
		"./config", "TestWhatIsRefused", "own cookie leaking upstream",
	},
	{
		"config.node", "config/check.go",
		`if g.Node != "" && !nodeName.MatchString(g.Node) {`,
		`if false && (g.Node != "" && !nodeName.MatchString(g.Node)) {`,
		"./config", "TestWhatIsRefused", "a path out of its folder",
	},
	{
		"config.protocol", "config/check.go",
		"if !slices.Contains(known, l.Protocol) {",
		"if false && (!slices.Contains(known, l.Protocol)) {",
		"./config", "TestWhatIsRefused", "silent defaults and spelling",
	},
	{
		"config.address-taken", "config/check.go",
		`if seen[l.Address] && port != "0" {`,
		`if false && (seen[l.Address] && port != "0") {`,
		"./config", "TestWhatIsRefused", "gate missing on one path",
	},
	{
		"config.no-web", "config/check.go",
		"if !web && v.c.Body != nil {",
		"if false && (!web && v.c.Body != nil) {",
		"./config", "TestWhatIsRefused", "gate missing on one path",
	},
	{
		"config.origin", "config/check.go",
		`if a.Origin != "" && !logName.MatchString(a.Origin) {`,
		`if false && (a.Origin != "" && !logName.MatchString(a.Origin)) {`,
		"./config", "TestWhatIsRefused", "silent defaults and spelling",
	},
	{
		"config.version-below-zero", "config/check.go",
		"if p.MinVersion < 0 {",
		"if false && (p.MinVersion < 0) {",
		"./config", "TestWhatIsRefused", "an old, validly signed policy applied again",
	},
	{
		"config.credential-twice", "config/check.go",
		"if _, found := v.c.Set[c.Name]; found {",
		"if _, found := v.c.Set[c.Name]; false && (found) {",
		"./config", "TestWhatIsRefused", "a silent default",
	},
	{
		"config.durations", "config/check.go",
		`if err == nil && (took < 0 || took > d.most || took == 0 && d.key != "grace") {`,
		`if false && (err == nil && (took < 0 || took > d.most || took == 0 && d.key != "grace")) {`,
		"./config", "TestWhatIsRefused", "handshake stall",
	},
	{
		"config.file-size", "config/load.go",
		"if info.Size() > MaxSize {",
		"if false && (info.Size() > MaxSize) {",
		"./config", "TestMissingFile", "unbounded input",
	},
}
