package guards

// release are more of the lines that keep a policy to what people signed.
var release = []Guard{
	{
		"policy/bundle.plain-file", "policy/bundle/files.go",
		"\tif !info.Mode().IsRegular() {\n\t\treturn nil, errLink",
		"\tif info == nil {\n\t\treturn nil, errLink",
		"./policy/bundle", "TestSymlinks/manifest", "a symlink in the bundle",
	},
	{
		"policy/bundle.folder-listed", "policy/bundle/files.go",
		"\tif !info.IsDir() {\n\t\treturn nil, errLink\n\t}\n\tf, err",
		"\tif info == nil {\n\t\treturn nil, errLink\n\t}\n\tf, err",
		"./policy/bundle", "TestSymlinks/root", "a symlink in the bundle",
	},
	{
		"policy/bundle.root-digest", "policy/bundle/manifest.go",
		"case !digestForm.MatchString(m.Root):",
		"case false:",
		"./policy/bundle", "TestManifestIsStrict/digest", "a bundle without a pinned trust root",
	},
	{
		"policy/bundle.first-of-all", "policy/bundle/manifest.go",
		`case m.Version == 1 && m.Previous != "":`,
		`case false && (m.Version == 1 && m.Previous != ""):`,
		"./policy/bundle", "TestManifestIsStrict/a_first_with_one", "an old, validly signed policy applied again",
	},
	{
		"policy/bundle.manifest-name", "policy/bundle/manifest.go",
		"case !nameForm.MatchString(m.Name):",
		"case false && (!nameForm.MatchString(m.Name)):",
		"./policy/bundle", "TestManifestIsStrict/upper_case", "silent defaults and spelling",
	},
	{
		"policy/bundle.manifest-head", "policy/bundle/manifest.go",
		"if lines[0] != manifestHead {",
		"if false && (lines[0] != manifestHead) {",
		"./policy/bundle", "TestManifestIsStrict/another_head", "what is read is not what was checked",
	},
	{
		"policy/bundle.manifest-lines", "policy/bundle/manifest.go",
		"if len(lines) != len(keys)+1 {",
		"if len(lines) < len(keys)+1 {",
		"./policy/bundle", "TestManifestIsStrict/unknown_line", "what is read is not what was checked",
	},
	{
		"policy/bundle.manifest-twice", "policy/bundle/manifest.go",
		"if i > 0 && m.Files[i-1].Path >= f.Path {",
		"if false && (i > 0 && m.Files[i-1].Path >= f.Path) {",
		"./policy/bundle", "TestManifestIsStrict/twice", "what is read is not what was checked",
	},
	{
		"policy/bundle.manifest-previous", "policy/bundle/manifest.go",
		`case m.Previous != "" && !digestForm.MatchString(m.Previous):`,
		`case false && (m.Previous != "" && !digestForm.MatchString(m.Previous)):`,
		"./policy/bundle", "TestManifestIsStrict/previous", "an old, validly signed policy applied again",
	},
	{
		"policy/bundle.manifest-commit", "policy/bundle/manifest.go",
		`case m.Commit != "" && !commitForm.MatchString(m.Commit):`,
		`case false && (m.Commit != "" && !commitForm.MatchString(m.Commit)):`,
		"./policy/bundle", "TestManifestIsStrict/commit", "silent defaults and spelling",
	},
	{
		"policy/bundle.file-digest", "policy/bundle/manifest.go",
		"if !hexForm.MatchString(f.Digest) {",
		"if false && (!hexForm.MatchString(f.Digest)) {",
		"./policy/bundle", "TestManifestIsStrict/short_digest", "what is read is not what was checked",
	},
	{
		"policy/bundle.root-head", "policy/bundle/root.go",
		"if lines[0] != rootHead {",
		"if false && (lines[0] != rootHead) {",
		"./policy/bundle", "TestTrustRootIsStrict/another_head", "what is read is not what was checked",
	},
	{
		"policy/bundle.root-first", "policy/bundle/root.go",
		`if (r.Version == 1) != (r.Previous == "") {`,
		`if false && ((r.Version == 1) != (r.Previous == "")) {`,
		"./policy/bundle", "TestTrustRootIsStrict/previous_of_the_first", "a trust root swapped",
	},
	{
		"policy/bundle.root-previous", "policy/bundle/root.go",
		`if r.Previous != "" && !digestForm.MatchString(r.Previous) {`,
		`if false && (r.Previous != "" && !digestForm.MatchString(r.Previous)) {`,
		"./policy/bundle", "TestTrustRootIsStrict/no_digest", "a trust root swapped",
	},
	{
		"policy/bundle.signer-more", "policy/bundle/root.go",
		`if comment != "" || len(extra) != 0 || len(more) != 0 {`,
		`if comment == "none" || len(extra) != 0 || len(more) != 0 {`,
		"./policy/bundle", "TestTrustRootIsStrict/comment_after_the_key", "what is read is not what was checked",
	},
	{
		"policy/bundle.key-type", "policy/bundle/root.go",
		"if !slices.Contains(keyTypes, key.Type()) {",
		"if false && (!slices.Contains(keyTypes, key.Type())) {",
		"./policy/bundle", "TestWeakKeys", "a weak key",
	},
	{
		"policy/bundle.root-version", "policy/bundle/succession.go",
		"if next.Version != v {",
		"if false && (next.Version != v) {",
		"./policy/bundle", "TestRootThatDoesNotFollow", "a trust root swapped",
	},
	{
		"policy/bundle.root-succession", "policy/bundle/succession.go",
		`if digest != "" {
`,
		`if digest != "" && false {
`,
		"./policy/bundle", "TestNewRootNeedsTheOldThresholdAndItsOwn", "a trust root swapped",
	},
	{
		"policy/bundle.root-pinned", "policy/bundle/succession.go",
		`	if digest == "" {
`,
		"\tif false {\n",
		"./policy/bundle", "TestSwappedRoot", "a bundle without a pinned trust root",
	},
	{
		"policy/bundle.stray-root", "policy/bundle/succession.go",
		"if !ok || err != nil || v < 1 || strconv.Itoa(v) != digits {",
		"if !ok || err != nil || v < 1 {",
		"./policy/bundle", "TestStrayFilesBesideTheManifest", "what is read is not what was checked",
	},
	{
		"policy/bundle.stray-root-signature", "policy/bundle/succession.go",
		`		who, ok := signatureOf("root."+more, "root")
		if !ok {`,
		`		who, ok := signatureOf("root."+more, "root")
		if false && !ok {`,
		"./policy/bundle", "TestStrayFilesBesideTheManifest", "what is read is not what was checked",
	},
	{
		"policy/bundle.stray-signature", "policy/bundle/open.go",
		"\t\tif !ok {",
		"\t\tif false && !ok {",
		"./policy/bundle", "TestStrayFilesBesideTheManifest", "what is read is not what was checked",
	},
	{
		"policy/bundle.newest-first", "policy/bundle/write.go",
		"if m.Version <= last {",
		"if false && (m.Version <= last) {",
		"./policy/bundle", "TestReleasesAndRootsAreNeverOverwritten", "an old, validly signed policy applied again",
	},
	{
		"policy/bundle.own-key", "policy/bundle/write.go",
		"if at < 0 {",
		"if false && (at < 0) {",
		"./policy/bundle", "TestReleasesAndRootsAreNeverOverwritten", "a signature that counts for nobody",
	},
	{
		"policy/bundle.touch", "policy/bundle/count.go",
		`case strings.Contains(err.Error(), "user presence"):`,
		`case false && (strings.Contains(err.Error(), "user presence")):`,
		"./policy/bundle", "TestFIDOCountsOnlyWithTouch", "a refusal that does not say what to do next",
	},
	{
		"policy/bundle.entries", "policy/bundle/files.go",
		"if len(entries) > maxEntries {",
		"if false && (len(entries) > maxEntries) {",
		"./policy/bundle", "TestMoreThanTheLimits", "what is read is not what was checked",
	},
	{
		"policy/bundle.depth", "policy/bundle/files.go",
		"if depth > maxDepth {",
		"if false && (depth > maxDepth) {",
		"./policy/bundle", "TestLargerThanTheLimits", "unbounded input",
	},
	{
		"policy/bundle.files", "policy/bundle/files.go",
		"if len(names) > maxFiles {",
		"if false && (len(names) > maxFiles) {",
		"./policy/bundle", "TestMoreThanTheLimits", "unbounded input",
	},
	{
		"policy/bundle.total", "policy/bundle/open.go",
		"total > maxTotal {",
		"total > 1<<40 {",
		"./policy/bundle", "TestLargerThanTheLimitAltogether", "unbounded input",
	},
	{
		"policy/bundle.as-signed", "policy/bundle/write.go",
		`if text, ok := files[f.Path]; !ok || Digest(text) != "sha256:"+f.Digest {`,
		"if _, ok := files[f.Path]; !ok {",
		"./policy/bundle", "TestCreate", "the reviewer approves something other than what runs",
	},
	{
		"policy/bundle.as-signed-more", "policy/bundle/write.go",
		"if !slices.ContainsFunc(m.Files, func(f File) bool { return f.Path == name }) {",
		"if false && (!slices.ContainsFunc(m.Files, func(f File) bool { return f.Path == name })) {",
		"./policy/bundle", "TestCreate", "the reviewer approves something other than what runs",
	},
}
