package web

import (
	"errors"
	"net/http"
	"strings"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/session"
)

// apiWorkloadToken exchanges a pipeline's JWT for a grant token. It is the only call
// that a JWT makes here: the grant token reads, requests and approves nothing.
func (s *Web) apiWorkloadToken(v *visit) error {
	scheme, token, _ := strings.Cut(v.r.Header.Get("Authorization"), " ")
	jwt := identity.Token(strings.TrimSpace(token))
	if !strings.EqualFold(scheme, "Bearer") || !jwt.IsJWT() {
		return &refusal{status: http.StatusUnauthorized, say: "this takes a pipeline's JWT", next: "send it as Authorization: Bearer"}
	}
	n, err := readAsk(v)
	if err != nil {
		return err
	}
	made, record, err := s.gate.WorkloadToken(v.r.Context(), jwt, v.addr, n)
	if err != nil {
		return tokenOr(err)
	}
	return reply(v, http.StatusCreated, map[string]any{"token": made.Reveal(), "expires": record.Expires, "grant": record.Grant})
}

// tokenOr gives a JWT that proves nothing the status of a sign-in.
func tokenOr(err error) error {
	if errors.Is(err, session.ErrBadToken) {
		return unauthorized(err)
	}
	return err
}

// readAsk reads what is asked for without a connection.
func readAsk(v *visit) (session.NewRequest, error) {
	var in struct {
		Target   string `json:"target"`
		Role     string `json:"role"`
		Object   string `json:"object"`
		Reason   string `json:"reason"`
		Ticket   string `json:"ticket"`
		Duration string `json:"duration"`
		Extends  string `json:"extends"`
		Glass    bool   `json:"break_glass"`
	}
	if err := body(v, &in); err != nil {
		return session.NewRequest{}, err
	}
	d, err := duration(in.Duration)
	n := session.NewRequest{
		Target: in.Target, Role: in.Role, Object: in.Object, Reason: in.Reason, Ticket: in.Ticket, Duration: d, Extends: in.Extends, BreakGlass: in.Glass,
	}
	if n.Extends == "" {
		err = firstError(err, checkAsk(n))
	}
	return n, err
}
