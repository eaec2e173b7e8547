package main

import (
	"context"
	"fmt"
	"sync"

	"github.com/sallyport/sallyport/internal/demorun"
)

// A promise is what the gate has answered for last of one request. A kill may come before
// the answer to the next step, which then may have been taken or not.
type promise struct {
	request string
	what    string
	kept    func(requestState) bool
}

// requestState is a request, and its grant, as the API tells them.
type requestState struct {
	ID, State, Grant string
	Approvals        []struct{}
	grant            string // the grant's state; empty where there is none
}

func withdrawn(r requestState) bool { return r.State == "withdrawn" }
func oneYes(r requestState) bool    { return len(r.Approvals) >= 1 }
func approved(r requestState) bool  { return r.State == "approved" && r.grant != "" }
func revoked(r requestState) bool   { return r.State == "approved" && r.grant == "revoked" }

// promises are those of one life of the gate.
type promises struct {
	mu   sync.Mutex
	made map[string]promise // by request
}

func (p *promises) add(one promise) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.made == nil {
		p.made = map[string]promise{}
	}
	p.made[one.request] = one
}

// promisers are the people who make promises out of requests.
type promisers struct{ alice, bob, carol, sam *demorun.Person }

func promisersOf(d *demorun.Demo) (p promisers, err error) {
	for email, to := range map[string]**demorun.Person{"alice": &p.alice, "bob": &p.bob, "carol": &p.carol, "sam": &p.sam} {
		if *to, err = d.Person(email + "@example.com"); err != nil {
			return p, err
		}
	}
	return p, nil
}

// make asks, and takes the request back, or has it approved by two and the grant revoked,
// in turn, until the gate is gone.
func (p *promises) make(ctx context.Context, d *demorun.Demo) {
	people, err := promisersOf(d)
	for n := 0; err == nil && ctx.Err() == nil; n++ {
		var r request
		body := map[string]string{"target": "orders", "role": "writer", "reason": "kill", "ticket": "OPS-3", "duration": "8m"}
		if err = people.alice.Post(ctx, "/api/v1/requests", body, &r); err != nil {
			return
		}
		switch {
		case r.Grant != "": // of before the kill
			err = p.revoke(ctx, people, r)
		case n%2 == 0:
			err = p.withdraw(ctx, people, r)
		default:
			err = p.approve(ctx, people, r)
		}
	}
}

func (p *promises) withdraw(ctx context.Context, people promisers, r request) error {
	err := people.alice.Post(ctx, "/api/v1/requests/"+r.ID+"/withdraw", map[string]string{}, nil)
	if err == nil {
		p.add(promise{request: r.ID, kept: withdrawn, what: "withdrawn"})
	}
	return err
}

func (p *promises) approve(ctx context.Context, people promisers, r request) error {
	if err := people.bob.Post(ctx, "/api/v1/requests/"+r.ID+"/approve", map[string]string{}, nil); err != nil {
		return err
	}
	p.add(promise{request: r.ID, kept: oneYes, what: "approved by one"})
	if err := people.carol.Post(ctx, "/api/v1/requests/"+r.ID+"/approve", map[string]string{}, &r); err != nil {
		return err
	}
	p.add(promise{request: r.ID, kept: approved, what: "approved by two"})
	return p.revoke(ctx, people, r)
}

func (p *promises) revoke(ctx context.Context, people promisers, r request) error {
	err := people.sam.Post(ctx, "/api/v1/grants/"+r.Grant+"/revoke", map[string]string{"why": "kill"}, nil)
	if err == nil {
		p.add(promise{request: r.ID, kept: revoked, what: "revoked"})
	}
	return err
}

// look asks the next life for what was promised, and forgets it; it counts what it looked
// for, and names what was not kept.
func (p *promises) look(ctx context.Context, d *demorun.Demo) (looked int, lost []string, err error) {
	if len(p.made) == 0 {
		return 0, nil, nil
	}
	alice, err := d.Person("alice@example.com")
	if err != nil {
		return 0, nil, err
	}
	for id, one := range p.made {
		var r requestState
		var g struct{ State string }
		err := alice.Get(ctx, "/api/v1/requests/"+id, &r)
		if err == nil && r.Grant != "" {
			err = alice.Get(ctx, "/api/v1/grants/"+r.Grant, &g)
		}
		r.grant = g.State
		if err != nil || !one.kept(r) {
			lost = append(lost, fmt.Sprintf("%s was %s, and now is %+v (%v)", id, one.what, r, err))
		}
		looked++
	}
	p.made = nil
	return looked, lost, nil
}
