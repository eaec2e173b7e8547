package web

import (
	"net/http"
)

// access says who may call a route at all; what they may see there is the gate's word.
type access int

const (
	open   access = iota // no sign-in
	signed               // a page: the cookie
	bearer               // the API: an API token, or the cookie
)

// A route is one method and path.
type route struct {
	method string
	path   string
	access access
	do     func(*visit) error
}

// allRoutes is the one list of what the pages and the API answer. openapi.yaml
// describes those under /api, and a test compares the two.
func (s *Web) allRoutes() []route {
	return append(s.pageRoutes(), s.apiRoutes()...)
}

func (s *Web) pageRoutes() []route {
	return []route{
		{"GET", "/{$}", signed, s.home},
		{"GET", "/login", open, s.login},
		{"GET", "/callback", open, s.callback},
		{"POST", "/logout", signed, s.logout},
		{"GET", "/cli/login", open, s.cliPage},
		{"POST", "/cli/login", open, s.cliConfirm},
		{"GET", "/h/{id}", signed, s.held},
		{"POST", "/h/{id}", signed, s.confirm},
		{"POST", "/h/{id}/not-mine", signed, s.notMine},
		{"GET", "/requests", signed, s.requests},
		{"GET", "/requests/new", signed, s.askForm},
		{"POST", "/requests/new", signed, s.ask},
		{"GET", "/requests/{id}", signed, s.request},
		{"POST", "/requests/{id}", signed, s.decide},
		{"POST", "/requests/{id}/withdraw", signed, s.withdraw},
		{"POST", "/requests/{id}/retract", signed, s.retract},
		{"GET", "/grants", signed, s.grants},
		{"GET", "/g/{id}", signed, s.grant},
		{"POST", "/g/{id}/token", signed, s.grantToken},
		{"POST", "/g/{id}/release", signed, s.release},
		{"POST", "/g/{id}/revoke", signed, s.revoke},
		{"GET", "/reviews", signed, s.reviews},
		{"POST", "/reviews/{id}", signed, s.review},
		{"GET", "/sessions", signed, s.sessions},
		{"POST", "/sessions/{id}/kill", signed, s.kill},
		{"GET", "/recordings", signed, s.recordings},
		{"GET", "/recordings/{id}", signed, s.recording},
		{"GET", "/recordings/{id}/cast/{n}", signed, s.cast},
		{"GET", "/recordings/{id}/file/{n}", signed, s.file},
		{"GET", "/log", signed, s.logPage},
		{"GET", "/users", signed, s.users},
		{"POST", "/users/disable", signed, s.disable},
		{"POST", "/users/enable", signed, s.enable},
		{"GET", "/live", signed, s.live},
		{"GET", "/static/{file}", open, s.static},
		{"GET", "/healthz", open, s.healthz},
		{"GET", "/readyz", open, s.readyz},
	}
}

func (s *Web) apiRoutes() []route {
	return []route{
		{"GET", "/api/v1/whoami", bearer, s.apiWhoami},
		{"GET", "/api/v1/targets", bearer, s.apiTargets},
		{"GET", "/api/v1/ssh", bearer, s.apiSSH},
		{"GET", "/api/v1/holds/{id}", bearer, s.apiHold},
		{"POST", "/api/v1/holds/{id}/confirm", bearer, s.apiConfirm},
		{"POST", "/api/v1/holds/{id}/not-mine", bearer, s.apiNotMine},
		{"GET", "/api/v1/inbox", bearer, s.apiInbox},
		{"GET", "/api/v1/requests", bearer, s.apiRequests},
		{"POST", "/api/v1/requests", bearer, s.apiAsk},
		{"GET", "/api/v1/requests/{id}", bearer, s.apiRequest},
		{"POST", "/api/v1/requests/{id}/approve", bearer, s.apiApprove},
		{"POST", "/api/v1/requests/{id}/deny", bearer, s.apiDeny},
		{"POST", "/api/v1/requests/{id}/withdraw", bearer, s.apiWithdraw},
		{"POST", "/api/v1/requests/{id}/retract", bearer, s.apiRetract},
		{"GET", "/api/v1/grants", bearer, s.apiGrants},
		{"GET", "/api/v1/grants/{id}", bearer, s.apiGrant},
		{"POST", "/api/v1/grants/{id}/token", bearer, s.apiToken},
		{"POST", "/api/v1/grants/{id}/release", bearer, s.apiRelease},
		{"POST", "/api/v1/grants/{id}/revoke", bearer, s.apiRevoke},
		{"GET", "/api/v1/reviews", bearer, s.apiReviews},
		{"POST", "/api/v1/reviews/{id}/done", bearer, s.apiReview},
		{"GET", "/api/v1/sessions", bearer, s.apiSessions},
		{"POST", "/api/v1/sessions/{id}/kill", bearer, s.apiKill},
		{"GET", "/api/v1/recordings", bearer, s.apiRecordings},
		{"GET", "/api/v1/recordings/{id}", bearer, s.apiRecording},
		{"GET", "/api/v1/recordings/{id}/verify", bearer, s.apiVerify},
		{"GET", "/api/v1/log", bearer, s.apiLog},
		{"GET", "/api/v1/log/entries", bearer, s.apiEntries},
		{"GET", "/api/v1/users", bearer, s.apiUsers},
		{"POST", "/api/v1/users/disable", bearer, s.apiDisable},
		{"POST", "/api/v1/users/enable", bearer, s.apiEnable},
		{"POST", "/api/v1/sign-ins/end", bearer, s.apiSignOut},
		{"POST", "/api/v1/cli/token", open, s.apiCLIToken},
		{"POST", "/api/v1/workload/token", open, s.apiWorkloadToken},
	}
}

// unknown answers paths and methods that no route has.
func (s *Web) unknown(v *visit) error {
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		other := v.r.Clone(v.r.Context())
		other.Method = method
		if _, pattern := s.mux.Handler(other); pattern != "/" && v.r.Method != method {
			v.w.Header().Set("Allow", method)
			return &refusal{status: http.StatusMethodNotAllowed, say: "this address takes " + method + " only"}
		}
	}
	return &refusal{status: http.StatusNotFound, say: "there is no such page"}
}
