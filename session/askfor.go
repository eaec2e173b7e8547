package session

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/policy"
)

// A NewRequest is asked for without a connection: on a page or by the CLI.
type NewRequest struct {
	Target, Role, Object string
	Reason, Ticket       string
	Duration             time.Duration
	BreakGlass           bool   // ask for the break-glass rules, which ask nobody and are reviewed
	Extends              string // one's own running grant to lengthen; target, role and object are its
}

// Ask makes a request without a held connection; the connection that comes after the
// yes goes straight through. What a rule lets through at once comes back approved.
func (g *Gate) Ask(ctx context.Context, by identity.SignIn, addr netip.Addr, n NewRequest) (Request, error) {
	ctx, end, err := g.begin(ctx)
	if err != nil {
		return Request{}, err
	}
	defer end()
	s, err := g.standing(ctx, by.ID)
	if err != nil {
		return Request{}, err
	}
	if n.Extends != "" {
		if n, err = g.extension(ctx, s, n); err != nil {
			return Request{}, err
		}
	}
	ask := &Ask{Target: n.Target, Role: n.Role, Object: n.Object, Duration: n.Duration, Reason: n.Reason, Ticket: n.Ticket, BreakGlass: n.BreakGlass}
	if err := ask.check(); err != nil {
		return Request{}, err
	}
	ask.Client.Address = netip.AddrPortFrom(addr, 0)
	who := &caller{user: s.User, signIn: s.ID, browser: addr, keep: true, extends: n.Extends, more: true}
	who.proof = g.bestProof(ask, who)
	gr, r, err := g.admit(ctx, ask, who, false)
	if err != nil {
		g.refused(ctx, ask, who, err)
		return Request{}, err
	}
	if gr == nil {
		return *r, nil
	}
	return g.Request(ctx, by, gr.Request)
}

// bestProof is the proof that a later connection needs: the first that the policy
// admits. The connection shows its own, and is judged by that.
func (g *Gate) bestProof(ask *Ask, who *caller) identity.ProofKind {
	for _, proof := range []identity.ProofKind{identity.ByBrowser, identity.ByCertificate, identity.ByToken} {
		who.proof = proof
		if d := g.Policy().Decide(ask.input(who, time.Now())); d.Effect == policy.Allow || d.Field != "" {
			return proof
		}
	}
	return identity.ByBrowser
}

// extension fills in what the grant that is to be lengthened says already.
func (g *Gate) extension(ctx context.Context, by identity.SignIn, n NewRequest) (NewRequest, error) {
	err := g.view(ctx, func(t Tx) error {
		gr, err := t.Grant(n.Extends)
		switch {
		case err != nil:
			return err
		case gr.Key.User != by.User.ID():
			return ErrNotFound
		case gr.State != GrantActive:
			return &Denied{Reason: "this grant has ended", Next: "ask again"}
		case gr.Times >= gr.Decision.Extensions:
			return &Denied{Reason: fmt.Sprintf("rule %s lets this be extended %d times, and it has been", gr.Decision.Rule, gr.Decision.Extensions), Next: "ask again when it has ended"}
		}
		n.BreakGlass = gr.Decision.BreakGlass
		n.Target, n.Role, n.Object = gr.Key.Target, gr.Key.Role, gr.Key.Object
		if n.Reason == "" {
			n.Reason = gr.Reason
		}
		if n.Ticket == "" {
			n.Ticket = gr.Ticket
		}
		return nil
	})
	return n, err
}
