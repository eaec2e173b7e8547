package ssh

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/session"
)

// said is what somebody answered. All of it may be empty.
type said struct {
	reason, ticket string
	duration       time.Duration
}

const (
	thinkWait   = 5 * time.Minute // for an answer: as long as for a sign-in
	maxQuestion = 3               // times that a duration is asked for
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
	if keepsBanners(string(meta.ClientVersion())) {
		c.round = round
		defer func() { c.round = nil }()
	}
	answers, err := asked(round, "", "Reason: ", "Ticket (may be empty): ", questionLong)
	if err != nil {
		return err
	}
	c.said = said{reason: answers[0], ticket: answers[1]}
	// The answer that is no time is asked for again, alone: never is a grant longer than
	// somebody meant to say.
	long := answers[2]
	for try := 1; long != ""; try++ {
		if c.said.duration, err = time.ParseDuration(long); err == nil && c.said.duration > 0 {
			break
		}
		c.said.duration = 0
		say := fmt.Sprintf("%.20q is no time such as 30m or 2h", long)
		if try == maxQuestion {
			return c.no(&session.Invalid{Field: "duration", Hint: say + "; connect again"})
		}
		if answers, err = asked(round, prefix+say+"\r\n", questionLong); err != nil {
			return err
		}
		long = answers[0]
	}
	timer.Stop()
	return c.ask(ctx, meta, n, proof)
}

const questionLong = "For how long, such as 30m (empty: what the rule allows): "

// asked makes a round of questions, whose answers are shown as they are typed.
func asked(round ssh.KeyboardInteractiveChallenge, say string, questions ...string) ([]string, error) {
	answers, err := round("", say, questions, slices.Repeat([]bool{true}, len(questions)))
	if err != nil {
		return nil, fmt.Errorf("ask why: %w", err)
	}
	if len(answers) != len(questions) {
		return nil, errElse
	}
	for i := range answers {
		answers[i] = strings.TrimSpace(answers[i])
	}
	return answers, nil
}
