package guards

var replay = []Guard{
	{
		"replay.not-decided-so", "cmd/sallyport/policycmd/replay.go",
		"case replay.Wrong > 0:",
		"case replay.Wrong < 0:",
		"./cmd/sallyport/policycmd", "TestReplayFindsWhatWasNotDecidedSo", "a log that says what was never decided",
	},
	{
		"replay.tampered", "cmd/sallyport/policycmd/replay.go",
		"case report.Exit() != 0:",
		"case report.Exit() == 99:",
		"./cmd/sallyport/policycmd", "TestReplayOfATamperedLogProvesNothing", "\"OK\" for what could not be checked",
	},
}
