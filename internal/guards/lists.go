package guards

// lists has one line for each list_AREA.go.
var lists = [][]Guard{
	audit,
	command,
	config,
	credential,
	demo,
	devidp,
	http,
	httpFront,
	identity,
	identityOidc,
	notify,
	policy,
	policyBundle,
	policyCatalog,
	policyStrict,
	policyWhen,
	postgres,
	proxy,
	session,
	ssh,
	sshLogin,
	store,
	web,
	webTemplates,
}
