package ssh

import (
	"context"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/identity"
)

// said is what somebody answered. All of it may be empty.
type said struct {
	reason, ticket string
	duration       time.Duration
}

const (
	thinkWait   = 5 * time.Minute // for an answer: as long as for a sign-in
	maxQuestion = 3               // times that a duration is asked for again
)

// askOrQuestion asks the gate, or first the person, where the policy wants a reason and
// there is none. The question is a second step of the sign-in (keyboard-interactive, RFC
// 4256), so what cannot be asked (BatchMode, ansible) ends here: it is told how to say why
// before. A name with +nowait is a program's, which the gate answers itself.
func (c *conn) askOrQuestion(ctx context.Context, meta ssh.ConnMetadata, n name, proof identity.Proof) error {
	if c.why != nil || n.nowait || !c.gate.Lacks(ctx, c.asks(meta, n, proof)) {
		return c.ask(ctx, meta, n, proof)
	}
	how := fmt.Sprintf("say why you need %s as %s; where nobody can be asked, before: sallyport requests new %s %s --reason WHY", n.target, n.role, n.target, n.role)
	if err := c.notice(how); err != nil {
		return err
	}
	return &ssh.PartialSuccessError{Next: ssh.ServerAuthCallbacks{
		KeyboardInteractiveCallback: func(meta ssh.ConnMetadata, round ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
			return nil, c.question(ctx, meta, round, proof)
		},
	}}
}

// question asks why. Without an answer the connection is held for the page to take one.
func (c *conn) question(ctx context.Context, meta ssh.ConnMetadata, round ssh.KeyboardInteractiveChallenge, proof identity.Proof) error {
	n, err := c.names(meta)
	if err != nil {
		return c.no(err)
	}
	c.unhurried()
	timer := time.AfterFunc(thinkWait, func() { _ = c.net.Close() }) // an error says that it is closed
	defer timer.Stop()
	say := ""
	for range maxQuestion {
		answers, err := round("", say, []string{"Reason: ", "Ticket (may be empty): ", "For how long, such as 30m (empty: what the rule allows): "}, []bool{true, true, true})
		if err != nil {
			return fmt.Errorf("ask why: %w", err)
		}
		if len(answers) != 3 {
			return errElse
		}
		c.said = said{reason: strings.TrimSpace(answers[0]), ticket: strings.TrimSpace(answers[1])}
		long := strings.TrimSpace(answers[2])
		if long == "" {
			break
		}
		if c.said.duration, err = time.ParseDuration(long); err == nil {
			break
		}
		c.said.duration, say = 0, prefix+fmt.Sprintf("%.20q is no time such as 30m or 2h\r\n", long)
	}
	timer.Stop()
	if keepsBanners(string(meta.ClientVersion())) {
		c.round = round
		defer func() { c.round = nil }()
	}
	return c.ask(ctx, meta, n, proof)
}
