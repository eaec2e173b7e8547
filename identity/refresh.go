package identity

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// The times of standing. flows.md promises that groups and standing are read at
// least every 15 minutes. So reading starts at 10, and there are five minutes of
// tries against an issuer that does not answer. Then the sign-in ends: an issuer
// that is down is also how somebody who was dismissed would keep their access.
const (
	StandingDue   = 10 * time.Minute // a sign-in is read again once its Checked is this old
	StandingLimit = 15 * time.Minute // one that could not be read for this long ends

	refreshEvery   = time.Minute
	refreshWait    = 10 * time.Second // for one answer of the issuer
	refreshAtATime = 8
)

// ErrUnreachable is in every error that says nothing about the user: the issuer
// did not answer, or answered that it cannot now.
var ErrUnreachable = errors.New("the identity provider does not answer")

// Standing is the gate, as the Refresher needs it (session.Gate).
type Standing interface {
	// SignIns lists the sign-ins that have not ended and that anything could still
	// be opened or kept open by.
	StandingSignIns(ctx context.Context) ([]SignIn, error)
	// Refreshed saves User, Checked and Refresh of the sign-in, and decides again
	// what it opened. It must not revive a sign-in that has ended meanwhile.
	Refreshed(ctx context.Context, s SignIn) error
	// SignOut ends the sign-in and all that it opened, at once.
	SignOut(ctx context.Context, id, why string) error
}

// Issuers is the relying party, as the Refresher needs it (oidc.RelyingParty).
type Issuers interface {
	// Refresh reads the user again by the refresh token, which it may replace: the
	// new one is empty where the old one goes on. The error is an ErrUnreachable, or
	// else the issuer's no. With an ErrUnreachable there may be a new token too: the
	// issuer replaced it before it failed.
	Refresh(ctx context.Context, u User, refresh Token) (User, Token, error)
	// StandsAlone reports that the issuer is declared with standing = "sign-in": it
	// gives no refresh tokens, and a sign-in stands until its own end.
	StandsAlone(issuer string) bool
}

// A Refresher reads groups and standing of every sign-in again in time, and ends
// those that the issuer no longer vouches for.
type Refresher struct {
	Standing Standing
	Issuers  Issuers
	Sealer   *Sealer
	Logger   *slog.Logger
}

// Run reads until ctx is done, once every minute, starting now. It returns when
// its last read has returned.
func (r *Refresher) Run(ctx context.Context) {
	ticker := time.NewTicker(refreshEvery)
	defer ticker.Stop()
	for {
		r.pass(ctx)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// pass reads every sign-in that is due, a few at a time.
func (r *Refresher) pass(ctx context.Context) {
	signIns, err := r.Standing.StandingSignIns(ctx)
	if err != nil {
		if ctx.Err() == nil {
			r.Logger.Error("standing not read: sign-ins not listed", "err", err)
		}
		return
	}
	var (
		readers sync.WaitGroup
		slots   = make(chan struct{}, refreshAtATime)
		down    sync.Map // issuers that did not answer in this pass: asking a thousand times would outlast the limit
	)
	defer readers.Wait()
	// The longest unread come first: where there are more than one pass can read, none waits for ever.
	slices.SortStableFunc(signIns, func(a, b SignIn) int { return a.Checked.Compare(b.Checked) })
	for _, s := range signIns {
		if !s.Ended.IsZero() || time.Since(s.Checked) < StandingDue {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case slots <- struct{}{}:
		}
		readers.Go(func() {
			defer func() { <-slots }()
			r.read(ctx, s, &down)
		})
	}
}

// read reads one sign-in again. Every way out either saves a fresh Checked, or ends
// the sign-in, or leaves it to the next pass while the limit has not come.
func (r *Refresher) read(ctx context.Context, s SignIn, down *sync.Map) {
	if len(s.Refresh) == 0 {
		if !r.Issuers.StandsAlone(s.User.Issuer) {
			r.end(ctx, s, "the identity provider gave no refresh token for this sign-in")
		}
		return
	}
	fresh, err := r.ask(ctx, s, down)
	switch {
	case err == nil:
		if err := r.Standing.Refreshed(ctx, fresh); err != nil && ctx.Err() == nil {
			r.Logger.Error("standing read but not saved", "err", err, "sign_in", s.ID)
			r.endAtLimit(ctx, s, "what the identity provider said could not be saved")
		}
	case ctx.Err() != nil: // stopping says nothing about the user
	case errors.Is(err, ErrUnreachable):
		r.Logger.Warn("standing not read", "err", err, "sign_in", s.ID, "checked", s.Checked)
		if fresh.ID != "" { // with its old Checked, and a new refresh token that must not be lost
			if err := r.Standing.Refreshed(ctx, fresh); err != nil {
				r.Logger.Error("new refresh token not saved", "err", err, "sign_in", s.ID)
			}
		}
		r.endAtLimit(ctx, s, "the identity provider has not answered for "+StandingLimit.String())
	default:
		r.Logger.Info("standing refused", "err", err, "sign_in", s.ID)
		r.end(ctx, s, "the identity provider no longer vouches for this sign-in")
	}
}

func (r *Refresher) ask(ctx context.Context, s SignIn, down *sync.Map) (SignIn, error) {
	token, err := r.Sealer.Open(s.Refresh, s.ID)
	if err != nil {
		return SignIn{}, err
	}
	if _, is := down.Load(s.User.Issuer); is {
		return SignIn{}, ErrUnreachable
	}
	// Checked is the time before the question: what changed during it is read next time.
	checked := time.Now()
	wait, cancel := context.WithTimeout(ctx, refreshWait)
	defer cancel()
	user, next, err := r.Issuers.Refresh(wait, s.User, token)
	if next != "" {
		s.Refresh = r.Sealer.Seal(next, s.ID)
	}
	switch {
	case errors.Is(err, ErrUnreachable):
		down.Store(s.User.Issuer, true)
		if next == "" {
			return SignIn{}, err
		}
		return s, err
	case err != nil:
		return SignIn{}, err
	case user.ID() != s.User.ID():
		return SignIn{}, errors.New("the answer is about another account")
	}
	s.User, s.Checked = user, checked
	return s, nil
}

func (r *Refresher) endAtLimit(ctx context.Context, s SignIn, why string) {
	if time.Since(s.Checked) >= StandingLimit {
		r.end(ctx, s, why)
	}
}

func (r *Refresher) end(ctx context.Context, s SignIn, why string) {
	if err := r.Standing.SignOut(ctx, s.ID, why); err != nil {
		r.Logger.Error("sign-in not ended", "err", err, "sign_in", s.ID, "why", why)
	}
}
