package session

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/spell"
	"github.com/sallyport/sallyport/policy"
)

// identify turns the ask's proof into somebody. For the browser proof that is where
// the connection is held until a person has confirmed that it is theirs.
func (g *Gate) identify(ctx context.Context, ask *Ask, who *caller, notice func(string) error) error {
	switch ask.Proof.Kind {
	case identity.ByCertificate:
		return g.byCertificate(ctx, ask.Proof, who)
	case identity.ByToken:
		if ask.Proof.Token.IsJWT() {
			return g.byWorkload(ctx, ask.Proof.Token, ask.Client.Address.Addr(), who)
		}
		return g.byToken(ctx, ask.Proof.Token, who)
	case identity.ByBrowser:
		if ask.Proof.SignIn != "" {
			return g.bySignIn(ctx, ask, who)
		}
		if notice == nil || ask.NoWait {
			return g.elsewhere(ask)
		}
		return g.confirmed(ctx, ask, who, notice)
	default:
		return &Denied{Reason: fmt.Sprintf("this gate does not take %q as a proof yet", ask.Proof.Kind)}
	}
}

// bySignIn takes a browser that is signed in here for the client.
func (g *Gate) bySignIn(ctx context.Context, ask *Ask, who *caller) error {
	s, err := g.standing(ctx, ask.Proof.SignIn)
	*who = caller{user: s.User, signIn: s.ID, proof: identity.ByBrowser, browser: ask.Client.Address.Addr()}
	return err
}

// elsewhere says where a person can ask for the same.
func (g *Gate) elsewhere(ask *Ask) *Held {
	return &Held{URL: g.page("/requests/new?" + url.Values{"target": {ask.Target}, "role": {ask.Role}}.Encode())}
}

func (g *Gate) byCertificate(ctx context.Context, proof identity.Proof, who *caller) error {
	again := "run: sallyport login"
	var id string
	var err error
	switch {
	case proof.SSH != nil && g.c.SSHCertificate != nil:
		id, err = g.c.SSHCertificate(proof.SSH)
	case proof.Certificate != nil && g.c.Certificate != nil:
		id, err = g.c.Certificate(proof.Certificate)
	default:
		return &Denied{Reason: "no client certificate was shown", Next: again}
	}
	if err != nil {
		return &Denied{Reason: "your client certificate is not valid here: " + err.Error(), Next: again}
	}
	s, err := g.standing(ctx, id)
	if errors.Is(err, ErrNotFound) {
		return &Denied{Reason: "the sign-in of your client certificate has ended", Next: again}
	}
	*who = caller{user: s.User, signIn: s.ID, proof: identity.ByCertificate}
	return err
}

// Known says who a certificate stands for now; it opens nothing.
func (g *Gate) Known(ctx context.Context, proof identity.Proof) (identity.User, error) {
	var who caller
	err := g.byCertificate(ctx, proof, &who)
	return who.user, err
}

// Lacks reports that whoever a certificate stands for may ask, and has to say why first:
// a protocol that can put a question does, and the page takes the answer of the others.
func (g *Gate) Lacks(ctx context.Context, ask Ask) bool {
	var who caller
	return g.byCertificate(ctx, ask.Proof, &who) == nil && g.lacksReason(ctx, &ask, &who)
}

// byToken takes a grant token only: an API token never opens a connection.
func (g *Gate) byToken(ctx context.Context, token identity.Token, who *caller) error {
	purpose, err := identity.PurposeOf(token)
	if err != nil || purpose != identity.ForGrant {
		return ErrBadToken
	}
	err = g.view(ctx, func(t Tx) error {
		record, err := t.Token(identity.HashToken(token))
		if err != nil {
			return err
		}
		now := g.clock.Now()
		if record.Purpose != identity.ForGrant || !record.Ended.IsZero() {
			return ErrBadToken
		}
		gr, err := t.Grant(record.Grant)
		if err != nil {
			return err
		}
		if gr.Key.User != record.User || gr.State != GrantActive || !now.Before(gr.Ends) { // extended with its grant
			return ErrBadToken
		}
		account, err := t.Account(gr.Key.User)
		if err != nil {
			return err
		}
		if !account.Disabled.IsZero() {
			return ErrBadToken
		}
		*who = caller{user: asKnown(account, gr), signIn: gr.SignIn, proof: identity.ByToken, grant: gr.ID}
		return nil
	})
	if errors.Is(err, ErrNotFound) {
		return ErrBadToken
	}
	return err
}

// standing finds a sign-in that opens things now; ErrNotFound where it does not.
func (g *Gate) standing(ctx context.Context, id string) (identity.SignIn, error) {
	var s identity.SignIn
	err := g.view(ctx, func(t Tx) (err error) {
		s, err = standing(t, id)
		return err
	})
	return s, err
}

func standing(t Tx, id string) (identity.SignIn, error) {
	s, err := t.SignIn(id)
	if err != nil {
		return identity.SignIn{}, err
	}
	if !s.Stands(time.Now()) {
		return identity.SignIn{}, ErrNotFound
	}
	account, err := t.Account(s.User.ID())
	if err != nil {
		return identity.SignIn{}, err
	}
	if !account.Disabled.IsZero() {
		return identity.SignIn{}, ErrNotFound
	}
	return s, nil
}

// serving finds the active grant that serves exactly this ask: the same user,
// target, role and object, by a proof and from addresses that the policy of now
// admits for it. Whatever differs asks again.
func (g *Gate) serving(t Tx, p *policy.Policy, in policy.Input, who *caller, now time.Time) (*Grant, error) {
	if !in.SameAddress() {
		return nil, nil //nolint:nilnil // no grant, no error
	}
	grants, err := t.Grants(Filter{State: string(GrantActive), User: in.User.ID(), Target: in.Target, Role: in.Role, Object: &in.Object})
	if err != nil {
		return nil, err
	}
	for _, gr := range grants {
		if who.grant != "" && gr.ID != who.grant {
			continue
		}
		if in.BreakGlass && !gr.Decision.BreakGlass { // what there is already may be less than that
			continue
		}
		if !now.Before(gr.Ends) || g.isCut(gr.ID) != nil || !sameRun(gr.User, in.User) {
			continue
		}
		r, err := t.Request(gr.Request)
		if err != nil {
			return nil, err
		}
		again := r.Input
		again.User, again.Proof, again.Client, again.Browser = in.User, in.Proof, in.Client, in.Browser
		if g.stillAllowed(p, again, r, gr) == nil {
			return &gr, nil
		}
	}
	return nil, nil //nolint:nilnil // no grant, no error
}

// stillMay asks everything once more in the transaction that starts a session: since
// the proof and the yes the person may have been disabled, signed out or moved to
// other groups, and the policy may be another.
func (g *Gate) stillMay(t Tx, s *Session) error {
	account, err := t.Account(s.grant.Key.User)
	if err != nil {
		return err
	}
	if s.who.proof != identity.ByToken { // a grant token lives as long as its grant
		_, err := standing(t, s.who.signIn)
		if errors.Is(err, ErrNotFound) {
			return &Ended{Cause: ErrSignedOut.Cause, Say: "you are signed out", At: time.Now()}
		}
		if err != nil {
			return err
		}
	}
	r, err := t.Request(s.grant.Request)
	if err != nil {
		return err
	}
	in, now := r.Input, s.ask.input(&s.who, r.Input.Time)
	in.User, in.Proof, in.Client, in.Browser = asKnown(account, s.grant), now.Proof, now.Client, now.Browser
	return g.stillAllowed(g.Policy(), in, r, s.grant)
}

// stillAllowed asks the policy p about a grant that was made under another: nil
// where p allows it too, with the approvals that it has.
func (g *Gate) stillAllowed(p *policy.Policy, in policy.Input, r Request, gr Grant) error {
	d := p.Decide(in)
	if d.Effect != policy.Allow {
		return denied(d)
	}
	if _, missing := progress(d.Stages, r.User, r.Approvals); missing > 0 {
		return &Denied{Reason: "rule " + d.Rule + " now asks for more approvals than this has", By: "rule " + d.Rule}
	}
	if gr.term() > d.Longest && d.Longest > 0 {
		return &Denied{Reason: "rule " + d.Rule + " now allows " + spell.Short(d.Longest) + " at the most", By: "rule " + d.Rule}
	}
	if gr.Ends.Add(-gr.term()).After(g.clock.Now()) { // it would last longer than it was approved for
		return &Denied{Reason: "the gate's clock was set back, and by it this has yet to begin", Next: "ask again"}
	}
	if !gr.Scope.Within(d.Scope) {
		return &Denied{Reason: "rule " + d.Rule + " now allows less than this grant does", By: "rule " + d.Rule}
	}
	return g.enforceable(p, in.Target, d.Scope)
}

// maxRefused is how many refusals of one known user are entries of their own in a minute:
// a client that tries again at once must not fill the log.
const maxRefused = 60

// countRefusals writes down each minute what was only counted.
func (g *Gate) countRefusals() {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-g.stopped:
			return
		case <-tick.C:
		}
		nobody, known := g.refusals.Take(0), g.refusers.Take(maxRefused)
		if len(nobody)+len(known) == 0 {
			continue
		}
		_, err := g.c.Log.Record(context.Background(), audit.Event{Type: audit.RefusalsCounted, Actor: "gate", Body: map[string]any{"refusals": nobody, "users": known}})
		if err != nil {
			g.c.Logger.Warn("refusals not written down", "err", err)
		}
	}
}
