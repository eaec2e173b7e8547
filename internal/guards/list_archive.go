package guards

// archive are the lines that keep a fetched policy from being more than a folder is.
var archive = []Guard{
	{
		"archive.judged-first", "cmd/sallyport/archive.go",
		"if _, err := policy.Load(at, o); err != nil {",
		"if _, err := policy.Load(at, o); false && err != nil {",
		"./cmd/sallyport", "TestPolicyFromAnArchive", "an old, validly signed policy applied again",
	},
	{
		"archive.https", "cmd/sallyport/archive.go",
		`if to.URL.Scheme != "https" || len(via) > 5 {`,
		"if len(via) > 5 {",
		"./cmd/sallyport", "TestPolicyFromAnArchive", "credentials in plaintext upstream",
	},
	{
		"archive.address", "config/archive.go",
		`u.Scheme != "https" ||`,
		"",
		"./config", "TestWhatIsRefused", "credentials in plaintext upstream",
	},
	{
		"archive.plain-files", "internal/tarball/tarball.go",
		"if h.Typeflag != tar.TypeReg || h.Size > l.File {",
		"if h.Size > l.File {",
		"./internal/tarball", "TestUnpack/a_link", "a symlink in the bundle",
	},
	{
		"archive.file-size", "internal/tarball/tarball.go",
		"|| h.Size > l.File {",
		"|| h.Size < 0 {",
		"./internal/tarball", "TestUnpack/a_large_file", "unbounded input",
	},
	{
		"archive.entries", "internal/tarball/tarball.go",
		"n >= l.Files:",
		"false:",
		"./internal/tarball", "TestUnpack/very_many_entries", "unbounded input",
	},
	{
		"archive.once", "internal/tarball/tarball.go",
		"os.O_WRONLY|os.O_CREATE|os.O_EXCL",
		"os.O_WRONLY|os.O_CREATE",
		"./internal/tarball", "TestUnpack/a_file_twice", "what is read is not what was checked",
	},
}
