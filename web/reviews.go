package web

import (
	"errors"
	"net/http"

	"github.com/sallyport/sallyport/session"
)

// banner is what every page says while the glass is broken or owes a review.
type banner struct {
	Reviews []session.Broken // active, or for this person to review
	Hidden  int              // active ones that are not theirs to see
}

// glass is nil where all is whole.
func (s *Web) glass(v *visit) *banner {
	open, hidden, err := s.gate.Reviews(v.r.Context(), v.by, session.Filter{State: session.ReviewOpen})
	if err != nil {
		s.logger.Warn("a page cannot say whether the glass is broken", "err", err)
		return nil
	}
	b := &banner{Hidden: hidden}
	for _, r := range open {
		if r.Active || r.May || r.Late {
			b.Reviews = append(b.Reviews, r)
		}
	}
	if len(b.Reviews)+b.Hidden == 0 {
		return nil
	}
	return b
}

type reviewsPage struct {
	Open    []session.Broken
	Done    []session.Broken
	Stale   bool   // the sign-in is too old to do one
	At      string // the review whose form was wrong
	Word    string
	Problem string
	Here    string
	More    string
}

func (s *Web) reviews(v *visit) error { return s.showReviews(v, http.StatusOK, reviewsPage{}) }

func (s *Web) showReviews(v *visit, code int, page reviewsPage) error {
	filter, err := paging(v)
	if err != nil {
		return err
	}
	all, _, err := s.gate.Reviews(v.r.Context(), v.by, filter)
	if err != nil {
		return err
	}
	for _, r := range all {
		if r.State == session.ReviewOpen {
			page.Open = append(page.Open, r)
		} else {
			page.Done = append(page.Done, r)
		}
	}
	if len(all) == filter.Limit {
		last := all[len(all)-1]
		page.More = more(last.Opened, last.ID)
	}
	page.Stale, page.Here = s.stale(v), "/reviews"
	return s.show(v, code, "reviews", view{Title: "Reviews", Topics: "review grant", Wide: true, Body: page})
}

// stale reports that the sign-in is too old for a yes, or for a word that counts as one.
// What counts is when the issuer asked the person: its own session may be of this morning.
func (s *Web) stale(v *visit) bool { return s.now().Sub(v.by.Authenticated) > freshFor }

func (s *Web) review(v *visit) error {
	fields, err := form(v)
	if err != nil {
		return err
	}
	word := oneLine(fields.Get("word"))
	err = s.doReview(v, word)
	var invalid *session.Invalid
	if errors.As(err, &invalid) && v.page() {
		return s.showReviews(v, http.StatusUnprocessableEntity, reviewsPage{At: v.id(), Word: word, Problem: sentence(s.message(err))})
	}
	if err != nil {
		return err
	}
	return redirect(v, "/reviews")
}

func (s *Web) doReview(v *visit, word string) error {
	if s.stale(v) {
		return &session.Denied{Reason: "a review needs a sign-in of the last ten minutes", Next: "sign in again"}
	}
	return s.gate.DoReview(v.r.Context(), v.by, v.id(), word)
}

func (s *Web) apiReviews(v *visit) error {
	filter, err := paging(v)
	if err != nil {
		return err
	}
	reviews, hidden, err := s.gate.Reviews(v.r.Context(), v.by, filter)
	if err != nil {
		return err
	}
	return reply(v, http.StatusOK, map[string]any{"reviews": list(reviews), "hidden": hidden})
}

func (s *Web) apiReview(v *visit) error {
	var in struct {
		Word string `json:"word"`
	}
	if err := body(v, &in); err != nil {
		return err
	}
	if err := firstError(short("word", in.Word, session.MaxReason), s.doReview(v, in.Word)); err != nil {
		return err
	}
	return reply(v, http.StatusOK, struct{}{})
}
