package guards

// lists has one line for each list_AREA.go.
var lists = [][]Guard{
	devidp,
	identity,
	identityOidc,
}
