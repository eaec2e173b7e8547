package guards

var webTemplates = []Guard{
	{
		"web/templates.web-phone-enter", "web/templates/request.html",
		`<button type="submit" disabled hidden>Nothing</button>`,
		"",
		"./web", "TestNarrowing", "Enter in a field decides",
	},
}
