package guards

var credential = []Guard{
	{
		"credential.mode", "credential/source.go",
		"if mode := info.Mode().Perm(); mode&0o077 != 0 {",
		"if mode := info.Mode().Perm(); mode&0o077 == 0xffff {",
		"./credential", "TestSecretsThatAreRefused", "secrets that others can read",
	},
	{
		"credential.owner", "credential/source.go",
		"if ok && owner.Uid != 0 && int(owner.Uid) != os.Geteuid() {",
		"if ok && owner.Uid != 0 && int(owner.Uid) == -1 {",
		"./credential", "TestFileOfAnotherUserIsRefused", "a secret that another user planted",
	},
	{
		"credential.regular", "credential/source.go",
		"if !info.Mode().IsRegular() {",
		"if info == nil {",
		"./credential", "TestSecretsThatAreRefused", "unbounded input",
	},
	{
		"credential.exec-absolute", "credential/source.go",
		"if len(words) == 0 || !filepath.IsAbs(words[0]) {",
		"if len(words) == 0 {",
		"./credential", "TestPlacesThatAreRefused", "another program found on PATH",
	},
	{
		"credential.exec-size", "credential/source.go",
		"if l.buf.Len()+len(p) > MaxSize {",
		"if l.buf.Len()+len(p) < 0 {",
		"./credential", "TestSecretsThatAreRefused", "unbounded input",
	},
	{
		"credential.file-size", "credential/source.go",
		"if len(value) > MaxSize {",
		"if len(value) > 1<<40 {",
		"./credential", "TestSecretsThatAreRefused", "unbounded input",
	},
	{
		"credential.where", "credential/source.go",
		`func (c command) Where() string { return "exec:" + c[0] }`,
		`func (c command) Where() string { return "exec:" + strings.Join(c, " ") }`,
		"./credential", "TestErrorsNeverShowTheSecret", "secrets in error texts",
	},
	{
		"credential.group", "credential/source.go",
		"cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }",
		"cmd.Cancel = func() error { return nil }",
		"./credential", "TestCommandEndsWithItsSession", "a sub-process outlives its session",
	},
	{
		"credential.exec-too-much", "credential/source.go",
		"} else if out.over.Load() {",
		"} else if false && out.over.Load() {",
		"./credential", "TestSecretsThatAreRefused", "unbounded input",
	},
}
