package notify

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/sallyport/sallyport/session"
)

// Characters of a subject and of an error, at most: more is cut.
const (
	maxSubject = 150
	maxError   = 300
)

// line makes one line of text: what could break a line, hide or turn text round is a
// space, and what is longer than most characters is cut.
func line(text string, most int) string {
	text = strings.Map(func(r rune) rune {
		if unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
	if utf8.RuneCountInString(text) <= most {
		return text
	}
	return string([]rune(text)[:most-3]) + "..."
}

// plain makes an error of one line out of one that may hold a receiver's words, and
// takes out the secrets, in case a receiver repeats what it was told.
func plain(step string, err error, secrets ...[]byte) error {
	text := err.Error()
	for _, s := range secrets {
		if len(s) > 0 {
			text = strings.ReplaceAll(text, string(s), "(hidden)")
			text = strings.ReplaceAll(text, base64.StdEncoding.EncodeToString(s), "(hidden)")
		}
	}
	return errors.New(step + ": " + line(text, maxError))
}

// what names the thing asked for: "orders as reader".
func what(r session.Request) string {
	target := r.Input.Target
	if r.Input.Object != "" {
		target += "/" + r.Input.Object
	}
	return target + " as " + r.Input.Role
}

// subject is a mail's subject: short enough to be read on a locked phone.
func subject(n session.Notice) string {
	thing := what(n.Request)
	switch n.Kind {
	case session.NoticeWaiting:
		thing = "Approval asked: " + n.Request.User.String() + ", " + thing
	case session.NoticeApproved:
		thing = "Approved: " + thing
	case session.NoticeDenied:
		thing = "Denied: " + thing
	case session.NoticeTimedOut:
		thing = "Timed out: " + thing
	case session.NoticeWithdrawn:
		thing = "Withdrawn: " + thing
	case session.NoticeGlassBroken:
		thing = "Glass broken: " + n.Request.User.String() + ", " + thing
	case session.NoticeReviewOverdue:
		thing = "Review overdue: " + n.Request.User.String() + ", " + thing
	case session.NoticeReviewDone:
		thing = "Reviewed: " + thing
	}
	return line(thing, maxSubject)
}

// letter is a mail's text.
func letter(n session.Notice) string {
	r := n.Request
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n", line(n.Say, 2*session.MaxReason))
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%-12s%s\n", name, line(value, 2*session.MaxReason))
		}
	}
	row("Who", r.User.String())
	row("What", what(r))
	if r.Input.Duration > 0 {
		row("How long", r.Input.Duration.String())
	}
	row("Reason", r.Input.Reason)
	row("Ticket", r.Input.Ticket)
	if n.Kind == session.NoticeWaiting && !r.TimesOut.IsZero() {
		row("Waits until", r.TimesOut.UTC().Format("2006-01-02 15:04 UTC"))
	}
	if n.URL != "" {
		fmt.Fprintf(&b, "\nSee it at %s\nOpening the page decides nothing.\n", line(n.URL, 2000))
	}
	return b.String()
}

// payload is the body of a webhook, in the form of Standard Webhooks 1.0.
type payload struct {
	Type      string    `json:"type"`
	Timestamp time.Time `json:"timestamp"`
	Data      data      `json:"data"`
}

type data struct {
	Say     string  `json:"say"`
	URL     string  `json:"url,omitempty"`
	To      []user  `json:"to"`
	Request request `json:"request"`
}

// user is less than identity.User: groups and claims are nobody's business out there.
type user struct {
	Issuer  string `json:"issuer"`
	Subject string `json:"subject"`
	Email   string `json:"email,omitempty"`
}

type request struct {
	ID       string    `json:"id"`
	State    string    `json:"state"`
	User     user      `json:"user"`
	Target   string    `json:"target"`
	Role     string    `json:"role"`
	Object   string    `json:"object,omitempty"`
	Seconds  float64   `json:"duration_seconds,omitempty"`
	Reason   string    `json:"reason,omitempty"`
	Ticket   string    `json:"ticket,omitempty"`
	Created  time.Time `json:"created,omitzero"`
	TimesOut time.Time `json:"times_out,omitzero"`
	Outcome  string    `json:"outcome,omitempty"`
}

// body is a webhook's JSON, the same at every try.
func body(d *delivery) ([]byte, error) {
	n, r := d.notice, d.notice.Request
	p := payload{Type: n.Kind, Timestamp: d.at.UTC(), Data: data{
		Say: n.Say, URL: n.URL, To: []user{},
		Request: request{
			ID: r.ID, State: string(r.State), User: user{r.User.Issuer, r.User.Subject, r.User.Email},
			Target: r.Input.Target, Role: r.Input.Role, Object: r.Input.Object, Seconds: r.Input.Duration.Seconds(),
			Reason: r.Input.Reason, Ticket: r.Input.Ticket, Created: r.Created, TimesOut: r.TimesOut, Outcome: r.Outcome,
		},
	}}
	for _, u := range n.To {
		p.Data.To = append(p.Data.To, user{u.Issuer, u.Subject, u.Email})
	}
	return json.Marshal(p)
}
