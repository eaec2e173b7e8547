package http

import (
	"net/http"
	"testing"

	"github.com/sallyport/sallyport/internal/gatetest"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/session"
)

// What an approver leaves out of a rule without limits never reaches the target.
func TestYesToFewerPathsAndMethodsHolds(t *testing.T) {
	app := newSeen()
	w := newWorld(t, app, options{})
	by := w.SignIn(t, gatetest.Alice)
	r, err := w.Gate.Ask(t.Context(), by, here, session.NewRequest{Target: "app", Role: "careful"})
	must(t, err)
	only := policy.Scope{Methods: []string{http.MethodGet}, Paths: []string{"/public/**"}}
	_, err = w.Decide(t.Context(), w.SignIn(t, gatetest.Bob), r.ID, session.Verdict{Yes: true, Scope: only})
	must(t, err)
	c := w.client(t, false, w.certificate(t, by))
	role := roleHeader + ": careful"
	ask(t, c, http.MethodGet, w.app+"/public/a", role).refused(t, http.StatusOK, "application")
	app.last(t)
	ask(t, c, http.MethodGet, w.app+"/own", role).refused(t, http.StatusForbidden, "our grant does not have this path")
	ask(t, c, http.MethodPost, w.app+"/public/a", role).refused(t, http.StatusForbidden, "our grant does not have the method POST")
	app.none(t)
}
