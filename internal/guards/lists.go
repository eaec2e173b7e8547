package guards

// lists has one line for each list_AREA.go.
var lists = [][]Guard{
	audit,
	devidp,
	identity,
	identityOidc,
	policy,
	policyBundle,
	policyCatalog,
	policyStrict,
	policyWhen,
	session,
	store,
	web,
	webTemplates,
}
