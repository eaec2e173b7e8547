package web

import (
	"errors"
	"net/http"
	"net/url"

	"github.com/sallyport/sallyport/internal/spell"
	"github.com/sallyport/sallyport/session"
)

// heldPage is what held.html shows: one connection that waits, and where it stands.
type heldPage struct {
	Hold    session.HeldView
	Request *session.Request // once there is one
	Problem string           // what was wrong with the form
	Field   string
	Filled  session.Confirmation
	For     string // the picked duration, as the form sends it
}

func (s *Web) held(v *visit) error {
	hold, err := s.gate.Held(v.r.Context(), v.id(), v.by, v.addr)
	if err != nil {
		return err
	}
	return s.showHeld(v, http.StatusOK, heldPage{Hold: hold})
}

func (s *Web) showHeld(v *visit, code int, page heldPage) error {
	data := view{Title: "A connection of yours is waiting for " + page.Hold.Target, Topics: "hold request grant session"}
	if page.Hold.Request != "" {
		request, err := s.gate.Request(v.r.Context(), v.by, page.Hold.Request)
		if err != nil {
			return err
		}
		page.Request = &request
		if request.State == session.RequestPending {
			data.Refresh = 5
		}
	}
	if page.For == "" {
		page.For = spell.Compact(page.Hold.Decision.Duration)
	}
	data.Body = page
	return s.show(v, code, "held", data)
}

func (s *Web) confirm(v *visit) error {
	fields, err := form(v)
	if err != nil {
		return err
	}
	c, err := confirmation(fields)
	if err == nil {
		_, err = s.gate.Confirm(v.r.Context(), v.id(), v.by, v.addr, c)
	}
	var invalid *session.Invalid
	if !errors.As(err, &invalid) {
		if err != nil {
			return err
		}
		return redirect(v, "/h/"+url.PathEscape(v.id()))
	}
	if !v.page() {
		return err
	}
	hold, again := s.gate.Held(v.r.Context(), v.id(), v.by, v.addr)
	if again != nil || hold.State != "waiting" {
		return err
	}
	return s.showHeld(v, http.StatusUnprocessableEntity, heldPage{
		Hold: hold, Problem: sentence(s.message(err)), Field: invalid.Field, Filled: c, For: fields.Get("for"),
	})
}

func confirmation(fields url.Values) (session.Confirmation, error) {
	c := session.Confirmation{
		Phrase: fields.Get("phrase"), Reason: oneLine(fields.Get("reason")), Ticket: fields.Get("ticket"), Keep: fields.Get("keep") == "yes",
		BreakGlass: fields.Get("glass") == "yes",
	}
	var err error
	c.Duration, err = duration(fields.Get("for"))
	return c, firstError(err, short("phrase", c.Phrase, session.MaxTicket),
		short("reason", c.Reason, session.MaxReason), short("ticket", c.Ticket, session.MaxTicket))
}

func (s *Web) notMine(v *visit) error {
	if err := s.gate.NotMine(v.r.Context(), v.id(), v.by); err != nil {
		return err
	}
	return s.show(v, http.StatusOK, "done", view{Title: "Nothing is opened", Body: donePage{
		Say:  "The connection that waited under this link was ended. It is on the record.",
		Next: "If somebody sent you the link, tell your security team who it was.",
	}})
}

// donePage is what done.html shows: that something is over, and what comes next.
type donePage struct {
	Say  string
	Next string
	Code string // to be typed into the terminal
	Link string // to go on at
}
