package session

import (
	"context"
	"encoding/base64"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
)

// Workloads judges the JWTs by which pipelines prove who they are.
type Workloads interface {
	// ForUs reports, without believing it, that a JWT says it is meant for this gate.
	ForUs(token identity.Token) bool
	// VerifyWorkload says whose a JWT is and until when it proves that. An error is an
	// identity.ErrUnreachable where it says nothing about the token.
	VerifyWorkload(ctx context.Context, token identity.Token) (user identity.User, ends time.Time, err error)
}

// ViaWorkload marks the sign-in that a pipeline's token stands for (identity.SignIn.Via).
const ViaWorkload = "workload"

// ForUs reports that a bearer JWT says it is meant for this gate, and so for no target.
func (g *Gate) ForUs(token identity.Token) bool {
	return token.IsJWT() && g.c.Workloads != nil && g.c.Workloads.ForUs(token)
}

// byWorkload takes a pipeline's JWT. The sign-in that it stands for is found by the
// token's hash, so that ten connections with one token are one sign-in and one entry.
// It opens things until the token's own end, and there is nothing to refresh.
func (g *Gate) byWorkload(ctx context.Context, token identity.Token, from netip.Addr, who *caller) error {
	if g.c.Workloads == nil {
		return ErrBadToken
	}
	user, ends, err := g.c.Workloads.VerifyWorkload(ctx, token)
	if errors.Is(err, identity.ErrUnreachable) {
		return &Failed{Say: "the pipeline's identity provider does not answer, so its token cannot be checked; try again in a moment", Err: err}
	}
	if err != nil {
		g.c.Logger.Info("workload token refused", "client", from, "err", err)
		return ErrBadWorkload
	}
	now := time.Now().UTC()
	s := identity.SignIn{ID: workloadSignIn(token), User: user, Via: ViaWorkload, Created: now, Checked: now, Expires: ends.UTC(), Address: from.String()}
	*who = caller{user: user, signIn: s.ID, proof: identity.ByWorkload, proved: s.Expires}
	var known bool
	err = g.view(ctx, func(t Tx) (err error) {
		known, err = stood(t, s.ID)
		return err
	})
	if err == nil && !known {
		err = g.SignIn(ctx, s)
	}
	if err == nil && !known {
		g.due.Add("sign-in", s.ID, s.Expires)
	}
	return err
}

// WorkloadToken gives a pipeline a grant token for its JWT, where a grant runs or a rule
// gives it one at once: a password that is short enough for clients which cut theirs.
// Where people have to agree it answers *Held; asking again after their yes brings it.
func (g *Gate) WorkloadToken(ctx context.Context, token identity.Token, addr netip.Addr, n NewRequest) (identity.Token, identity.TokenRecord, error) {
	ctx, end, err := g.begin(ctx)
	if err != nil {
		return "", identity.TokenRecord{}, err
	}
	defer end()
	ask := &Ask{Target: n.Target, Role: n.Role, Object: n.Object, Duration: n.Duration, Reason: n.Reason, Ticket: n.Ticket}
	if err := ask.check(); err != nil {
		return "", identity.TokenRecord{}, err
	}
	ask.Client.Address = netip.AddrPortFrom(addr, 0)
	who := &caller{}
	if err := g.byWorkload(ctx, token, addr, who); err != nil {
		g.refused(ctx, ask, who, err)
		return "", identity.TokenRecord{}, err
	}
	gr, r, err := g.admit(ctx, ask, who, false)
	if err != nil {
		g.refused(ctx, ask, who, err)
		return "", identity.TokenRecord{}, err
	}
	if gr == nil {
		return "", identity.TokenRecord{}, &Held{Request: r.ID, URL: g.page("/requests/" + r.ID), For: g.waitsFor(r)}
	}
	return g.GrantToken(ctx, identity.SignIn{ID: who.signIn}, gr.ID)
}

// workloadSignIn names the sign-in of a token: 128 bits of its hash, which tell nobody
// the token.
func workloadSignIn(token identity.Token) string {
	hash := identity.HashToken(token)
	return base64.RawURLEncoding.EncodeToString(hash[:16])
}

// stood reports that a sign-in is there already. One that was ended, or whose account
// is disabled, opens nothing more, though the token itself would still be good.
func stood(t Tx, id string) (bool, error) {
	switch _, err := t.SignIn(id); {
	case errors.Is(err, ErrNotFound):
		return false, nil
	case err != nil:
		return false, err
	}
	_, err := standing(t, id)
	if errors.Is(err, ErrNotFound) {
		return true, ErrBadWorkload
	}
	return true, err
}

// sameRun reports that a permission which was given to one of these users serves the
// other: for people by who they are, for pipelines also by all that their issuer says
// of the run, because that is what people agreed to. A yes for one commit opens nothing
// for the next where identity.hcl maps it.
func sameRun(given, now identity.User) bool {
	return now.Kind != identity.Workload || maps.Equal(given.Claims, now.Claims)
}

// asKnown is the user of a grant as of now: people as last read, a pipeline as it was in
// the run that asked. Its account knows only the latest run.
func asKnown(account identity.Account, gr Grant) identity.User {
	if gr.User.Kind == identity.Workload {
		return gr.User
	}
	return account.User
}

// dueWorkloads arms the ends of pipelines' sign-ins after a start.
func (g *Gate) dueWorkloads(t Tx) error {
	list, err := t.SignIns(Filter{State: "standing"})
	for _, s := range list {
		if s.Via == ViaWorkload {
			g.due.Add("sign-in", s.ID, s.Expires)
		}
	}
	return err
}

// passWorkload ends a pipeline's sign-in once its token is over and nothing that it
// asked for is pending or active: those have ends of their own.
func (g *Gate) passWorkload(t Tx, id string, now time.Time) ([]Change, error) {
	s, err := t.SignIn(id)
	if err != nil || !s.Ended.IsZero() || s.Via != ViaWorkload {
		return nil, err
	}
	ends := []time.Time{s.Expires, now.Add(time.Second)}
	pending, err := t.Requests(Filter{State: string(RequestPending), SignIn: id})
	if err != nil {
		return nil, err
	}
	for _, r := range pending {
		ends = append(ends, r.TimesOut)
	}
	active, err := t.Grants(Filter{State: string(GrantActive), SignIn: id})
	if err != nil {
		return nil, err
	}
	for _, gr := range active {
		ends = append(ends, gr.Ends)
	}
	if now.Before(s.Expires) || len(pending)+len(active) > 0 {
		g.due.Add("sign-in", id, slices.MaxFunc(ends, time.Time.Compare))
		return nil, nil
	}
	s.Ended, s.EndedBy = now.UTC(), "its token ended"
	if err := t.SaveSignIn(s); err != nil {
		return nil, err
	}
	return []Change{{"sign-in", s.ID, s.User.ID()}}, t.Log(audit.Event{
		Type: audit.SignedOut, Actor: "gate", Body: map[string]any{"user": s.User.String(), "sign_in": s.ID, "why": s.EndedBy},
	})
}
