package session

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/policy"
)

// SignIn keeps a new sign-in; it opens things only after its entry is durable. A
// disabled user is refused.
func (g *Gate) SignIn(ctx context.Context, s identity.SignIn) error {
	var before identity.User
	err := g.permit(ctx, func(t Tx) error {
		if s.Via == ViaWorkload { // two connections at once bring one token
			if there, err := stood(t, s.ID); there || err != nil {
				return err
			}
		}
		account, err := t.Account(s.User.ID())
		switch {
		case errors.Is(err, ErrNotFound):
			account = identity.Account{FirstSeen: s.Created}
		case err != nil:
			return err
		case !account.Disabled.IsZero():
			return &Denied{Reason: "your account is disabled at this gate", By: account.DisabledBy, Next: "ask your security team"}
		}
		before = account.User
		account.User, account.LastSeen = s.User, s.Created
		if err := t.SaveAccount(account); err != nil {
			return err
		}
		if err := t.SaveSignIn(s); err != nil {
			return err
		}
		return t.Log(audit.Event{Type: audit.SignedIn, Actor: s.User.ID(), Body: map[string]any{
			"user": s.User, "sign_in": s.ID, "via": s.Via, "authenticated": s.Authenticated, "address": s.Address, "expires": s.Expires,
		}})
	})
	if err != nil {
		return err
	}
	g.hub.Tell(Change{"sign-in", s.ID, s.User.ID()})
	// Whoever signs in goes away before the answer, or waits: it is asked again all the same.
	return g.moved(context.WithoutCancel(ctx), before, s.User)
}

// moved decides again what runs of somebody of whom the identity provider now says
// something else. before is zero for somebody new.
func (g *Gate) moved(ctx context.Context, before, now identity.User) error {
	because := "your account changed at the identity provider"
	switch {
	case before.IsZero() || reflect.DeepEqual(before, now):
		return nil
	case !slices.Equal(before.Groups, now.Groups):
		because = "your groups changed"
	}
	return g.recheck(ctx, Filter{State: string(GrantActive), User: now.ID()}, because)
}

// SignInByCookie finds the standing sign-in of a browser by the SHA-256 of its cookie.
func (g *Gate) SignInByCookie(ctx context.Context, hash [32]byte) (identity.SignIn, error) {
	if hash == [32]byte{} {
		return identity.SignIn{}, ErrNotFound
	}
	var s identity.SignIn
	err := g.view(ctx, func(t Tx) error {
		found, err := t.SignInByCookie(hash)
		if err == nil {
			s, err = standing(t, found.ID)
		}
		return err
	})
	return s, err
}

// SignInByToken finds the standing sign-in of an API token. Grant tokens open
// connections and nothing else, so they are refused here.
func (g *Gate) SignInByToken(ctx context.Context, token identity.Token) (identity.SignIn, error) {
	purpose, err := identity.PurposeOf(token)
	if err != nil {
		return identity.SignIn{}, &Denied{Reason: "that is not a token of this gate", Next: "run: sallyport login"}
	}
	if purpose != identity.ForAPI {
		return identity.SignIn{}, &Denied{Reason: "a grant token only opens connections; it never reads, requests or approves", Next: "run: sallyport login"}
	}
	var s identity.SignIn
	err = g.view(ctx, func(t Tx) error {
		record, err := t.Token(identity.HashToken(token))
		if err != nil {
			return err
		}
		if record.Purpose != identity.ForAPI || !record.Ended.IsZero() || !time.Now().Before(record.Expires) {
			return ErrNotFound
		}
		s, err = standing(t, record.SignIn)
		return err
	})
	if errors.Is(err, ErrNotFound) {
		return s, &Denied{Reason: "that token has ended", Next: "run: sallyport login"}
	}
	return s, err
}

// APIToken makes a token for the command line; it ends with its sign-in.
func (g *Gate) APIToken(ctx context.Context, by identity.SignIn) (identity.Token, identity.TokenRecord, error) {
	return g.issue(ctx, by, identity.ForAPI, func(_ Tx, s identity.SignIn) (string, time.Time, error) { return "", s.Expires, nil })
}

// GrantToken makes a password for one's own grant; it ends with the grant.
func (g *Gate) GrantToken(ctx context.Context, by identity.SignIn, id string) (identity.Token, identity.TokenRecord, error) {
	return g.issue(ctx, by, identity.ForGrant, func(t Tx, s identity.SignIn) (string, time.Time, error) {
		gr, err := t.Grant(id)
		switch {
		case err != nil:
			return "", time.Time{}, err
		case gr.Key.User != s.User.ID():
			return "", time.Time{}, ErrNotFound
		case gr.State != GrantActive || !g.clock.Now().Before(gr.Ends):
			return "", time.Time{}, &Denied{Reason: "this grant has ended", Next: "ask again"}
		}
		return gr.ID, gr.Ends, nil
	})
}

func (g *Gate) issue(ctx context.Context, by identity.SignIn, purpose identity.TokenPurpose,
	scope func(Tx, identity.SignIn) (grant string, ends time.Time, err error),
) (identity.Token, identity.TokenRecord, error) {
	token, hash := identity.NewToken(purpose)
	var record identity.TokenRecord
	err := g.permit(ctx, func(t Tx) error {
		s, err := standing(t, by.ID)
		if err != nil {
			return err
		}
		grant, ends, err := scope(t, s)
		if err != nil {
			return err
		}
		record = identity.TokenRecord{
			ID: identity.NewID(), Hash: hash, Purpose: purpose, User: s.User.ID(), SignIn: s.ID, Grant: grant, Created: time.Now().UTC(), Expires: ends.UTC(),
		}
		if err := t.SaveToken(record); err != nil {
			return err
		}
		return t.Log(audit.Event{Type: audit.TokenIssued, Actor: s.User.ID(), Grant: grant, Body: map[string]any{
			"user": s.User.String(), "token": record.ID, "purpose": purpose, "expires": record.Expires,
		}})
	})
	if err != nil {
		return "", identity.TokenRecord{}, err
	}
	return token, record, nil
}

// CertificateIssued writes a login certificate down before it is handed out.
func (g *Gate) CertificateIssued(ctx context.Context, by identity.SignIn, serial string, ends time.Time) error {
	return g.permit(ctx, func(t Tx) error {
		s, err := standing(t, by.ID)
		if err != nil {
			return err
		}
		return t.Log(audit.Event{Type: audit.CertIssued, Actor: s.User.ID(), Body: map[string]any{
			"user": s.User.String(), "serial": serial, "sign_in": s.ID, "ends": ends,
		}})
	})
}

// Standing lists people's sign-ins that open things now or keep them open, for the loop
// that reads their groups and standing again. Those past their greatest age that keep
// nothing open are ended: else each that there ever was would be read for ever, and
// the reading would fall behind. A pipeline's token says all that its issuer ever will.
func (g *Gate) Standing(ctx context.Context) (list []identity.SignIn, err error) {
	now := time.Now()
	var over []identity.SignIn
	err = g.view(ctx, func(t Tx) error {
		all, err := t.SignIns(Filter{State: "standing"})
		if err != nil {
			return err
		}
		for _, s := range all {
			if s.Via == ViaWorkload {
				continue
			}
			keeps := now.Before(s.Expires) || g.livesBy(s.ID)
			if !keeps {
				active, err := t.Grants(Filter{State: string(GrantActive), SignIn: s.ID, Limit: 1})
				if err != nil {
					return err
				}
				keeps = len(active) > 0
			}
			if keeps {
				list = append(list, s)
			} else if len(over) < maxRows { // the rest next time
				over = append(over, s)
			}
		}
		return nil
	})
	if err != nil || len(over) == 0 {
		return list, err
	}
	why := &Ended{Cause: ErrSignedOut.Cause, Say: "this sign-in reached its greatest age", At: now}
	return list, g.endSignIns(ctx, identity.User{}, why, func(Tx) ([]identity.SignIn, error) { return over, nil })
}

// livesBy reports that a running session was proved by the sign-in.
func (g *Gate) livesBy(signIn string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, s := range g.live {
		if s.who.signIn == signIn {
			return true
		}
	}
	return false
}

// Refreshed keeps what a refresh told: the groups of now, which count from now on,
// for what runs already too.
func (g *Gate) Refreshed(ctx context.Context, s identity.SignIn) error {
	var before identity.User
	_, err := g.c.Store.Update(ctx, func(t Tx) error {
		old, err := t.SignIn(s.ID)
		if err != nil {
			return err
		}
		if old.User.ID() != s.User.ID() {
			return errors.New("a refresh cannot change whose sign-in it is")
		}
		account, err := t.Account(s.User.ID())
		if err != nil {
			return err
		}
		before, account.User = account.User, s.User
		if err := t.SaveAccount(account); err != nil {
			return err
		}
		old.User, old.Checked, old.Refresh = s.User, s.Checked, s.Refresh
		return t.SaveSignIn(old)
	})
	if err != nil {
		return g.unwritten(err)
	}
	return g.moved(context.WithoutCancel(ctx), before, s.User)
}

// SignOut ends a sign-in and what it opened: its grants are revoked, their sessions
// cut, its requests withdrawn, its tokens and certificates worthless.
func (g *Gate) SignOut(ctx context.Context, id, why string) error {
	return g.endSignIns(ctx, identity.User{}, &Ended{Cause: ErrSignedOut.Cause, Say: "you are signed out: " + why, At: time.Now()},
		func(t Tx) ([]identity.SignIn, error) {
			s, err := t.SignIn(id)
			if err != nil || !s.Ended.IsZero() {
				return nil, err
			}
			return []identity.SignIn{s}, nil
		})
}

// endSignIns ends what sign-ins opened at once, and then writes it down.
func (g *Gate) endSignIns(ctx context.Context, by identity.User, why *Ended, pick func(Tx) ([]identity.SignIn, error)) error {
	var ending []identity.SignIn
	var grants []string
	err := g.view(ctx, func(t Tx) (err error) {
		if ending, err = pick(t); err != nil {
			return err
		}
		for _, s := range ending {
			active, err := t.Grants(Filter{State: string(GrantActive), SignIn: s.ID})
			if err != nil {
				return err
			}
			for _, gr := range active {
				grants = append(grants, gr.ID)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	var signIns []string
	for _, in := range ending {
		signIns = append(signIns, in.ID)
	}
	defer g.markCut(why, signIns...)()
	g.cutGrants(why, grants...)
	g.eachLive("", func(s *Session) { // those under a grant that another sign-in asked for
		if s.who.proof == identity.ByBrowser && slices.Contains(signIns, s.who.signIn) {
			s.cancel(why)
		}
	})
	var changes []Change
	err = g.restrict(ctx, func(t Tx) error {
		changes, grants = changes[:0], grants[:0]
		for _, s := range ending {
			more, err := g.endSignIn(t, s.ID, by, why)
			if err != nil {
				return err
			}
			changes = append(changes, more...)
			active, err := t.Grants(Filter{State: string(GrantActive), SignIn: s.ID})
			if err != nil {
				return err
			}
			for _, gr := range active { // and those of a yes that came meanwhile
				grants = append(grants, gr.ID)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	g.cutGrants(why, grants...)
	g.hub.Tell(changes...)
	return g.writeCut(ctx, why, GrantRevoked, by, grants...)
}

// endSignIn ends one sign-in and withdraws its pending requests.
func (g *Gate) endSignIn(t Tx, id string, by identity.User, why *Ended) ([]Change, error) {
	s, err := t.SignIn(id)
	if err != nil || !s.Ended.IsZero() {
		return nil, err
	}
	actor := s.User.ID()
	if !by.IsZero() {
		actor = by.ID()
	}
	s.Ended, s.EndedBy, s.Refresh = why.At.UTC(), why.Say, nil
	if err := t.SaveSignIn(s); err != nil {
		return nil, err
	}
	if err := t.Log(audit.Event{Type: audit.SignedOut, Actor: actor, Body: map[string]any{"user": s.User.String(), "sign_in": s.ID, "why": why.Say}}); err != nil {
		return nil, err
	}
	changes := []Change{{"sign-in", s.ID, s.User.ID()}}
	pending, err := t.Requests(Filter{State: string(RequestPending), SignIn: s.ID})
	for _, r := range pending {
		r.State, r.Decided, r.Outcome = RequestWithdrawn, why.At.UTC(), "withdrawn: signed out"
		if err := g.saveRequest(t, r, audit.RequestWithdrawn, actor, nil); err != nil {
			return nil, err
		}
		changes = append(changes, Change{"request", r.ID, r.User.ID()})
	}
	return changes, err
}

// Users lists the accounts that this gate has seen; needs the right "users".
func (g *Gate) Users(ctx context.Context, by identity.SignIn) (list []identity.Account, err error) {
	if err := g.needs(ctx, by, policy.RightUsers); err != nil {
		return nil, err
	}
	err = g.view(ctx, func(t Tx) error {
		list, err = t.Accounts()
		return err
	})
	return list, err
}

// Disable shuts a user out until Enable: live sessions are cut, grants revoked,
// sign-ins ended.
func (g *Gate) Disable(ctx context.Context, by identity.SignIn, userID, why string) error {
	if err := checkWords(why, "", 0); err != nil {
		return err
	}
	if err := g.needs(ctx, by, policy.RightUsers); err != nil {
		return err
	}
	if userID == by.User.ID() {
		return &Denied{Reason: "nobody disables their own account", Next: "ask somebody else with the right"}
	}
	now := time.Now()
	err := g.restrict(ctx, func(t Tx) error {
		account, err := t.Account(userID)
		if err != nil || !account.Disabled.IsZero() {
			return err
		}
		account.Disabled, account.DisabledBy = now.UTC(), by.User.String()
		if err := t.SaveAccount(account); err != nil {
			return err
		}
		return t.Log(audit.Event{Type: audit.UserDisabled, Actor: by.User.ID(), Body: map[string]any{"user": account.User.String(), "why": why}})
	})
	if err != nil {
		return err
	}
	ended := &Ended{Cause: ErrSignedOut.Cause, Say: withWhy("your account was disabled by "+by.User.String(), why), At: now}
	return g.endSignIns(ctx, by.User, ended, func(t Tx) ([]identity.SignIn, error) {
		return t.SignIns(Filter{State: "standing", User: userID})
	})
}

// Enable lets a disabled user sign in again.
func (g *Gate) Enable(ctx context.Context, by identity.SignIn, userID string) error {
	if err := g.needs(ctx, by, policy.RightUsers); err != nil {
		return err
	}
	return g.permit(ctx, func(t Tx) error {
		account, err := t.Account(userID)
		if err != nil || account.Disabled.IsZero() {
			return err
		}
		if account.User.Same(by.User) {
			return &Denied{Reason: "nobody enables their own account"}
		}
		account.Disabled, account.DisabledBy = time.Time{}, ""
		if err := t.SaveAccount(account); err != nil {
			return err
		}
		return t.Log(audit.Event{Type: audit.UserEnabled, Actor: by.User.ID(), Body: map[string]any{"user": account.User.String()}})
	})
}

// needs checks a right that is about no single target, with the sign-in as it is now.
func (g *Gate) needs(ctx context.Context, by identity.SignIn, right policy.Right) error {
	s, err := g.standing(ctx, by.ID)
	if err != nil {
		return err
	}
	if !g.Policy().Has(right, s.User, "") {
		return &Denied{Reason: "the policy does not give you the right \"" + string(right) + "\""}
	}
	return nil
}

// May reports whether somebody has a right that is about no single target.
func (g *Gate) May(by identity.SignIn, right policy.Right) bool {
	return g.Policy().Has(right, by.User, "")
}
