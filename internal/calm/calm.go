// Package calm keeps a program's log readable, and its disk free, while strangers make it
// say one thing again and again. What must never be lost belongs on the record, not here.
package calm

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Most lines that say the same, of the levels Info and Warn, pass in each Span. Lines say the
// same that have one message and one err: a flood of one must not hide the other.
const (
	Most = 50
	Span = time.Minute
	// kinds is how many that differ are told apart; what is new beyond them goes by its
	// message alone, because strangers can make an err differ.
	kinds = 200
	// significant is how much of an err is looked at.
	significant = 200
)

// Handler passes on what next takes, and leaves out lines that say the same more often
// than Most in a Span. That it does so is a line of its own, and how many it left out is
// in the first line of that kind afterwards. Errors always pass, and so does
// what is only written where somebody asked for all of it (debug).
func Handler(next slog.Handler) slog.Handler {
	return &handler{next: next, seen: &seen{by: map[string]*count{}}}
}

type handler struct {
	next slog.Handler
	seen *seen // shared by all that WithAttrs and WithGroup make
}

type seen struct {
	mu sync.Mutex
	by map[string]*count
}

type count struct {
	since time.Time
	lines int
}

func (h *handler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.next.Enabled(ctx, level)
}

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &handler{h.next.WithAttrs(attrs), h.seen}
}

func (h *handler) WithGroup(name string) slog.Handler {
	return &handler{h.next.WithGroup(name), h.seen}
}

// Handle is slog.Handler's.
func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelError || r.Level < slog.LevelInfo {
		return h.next.Handle(ctx, r)
	}
	lines, left := h.seen.count(r)
	switch {
	case lines > Most+1:
		return nil
	case lines == Most+1:
		note := slog.NewRecord(r.Time, slog.LevelWarn, "more lines like this are left out", r.PC)
		note.AddAttrs(slog.String("line", r.Message), slog.Duration("for", Span))
		return h.next.Handle(ctx, note)
	case left > 0:
		r = r.Clone()
		r.AddAttrs(slog.Int("left_out_before", left))
	}
	return h.next.Handle(ctx, r)
}

// count says which line of its Span this is, and at the first one of a Span how many of
// the Span before were left out.
func (s *seen) count(r slog.Record) (lines, left int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, kind := r.Time, kindOf(r)
	if len(s.by) >= kinds && s.by[kind] == nil {
		for k, c := range s.by {
			if now.Sub(c.since) >= Span {
				delete(s.by, k)
			}
		}
		if len(s.by) >= kinds {
			kind = r.Message
		}
	}
	c := s.by[kind]
	if c == nil {
		c = &count{since: now}
		s.by[kind] = c
	}
	if now.Sub(c.since) >= Span {
		left = max(0, c.lines-Most)
		*c = count{since: now}
	}
	c.lines++
	return c.lines, left
}

func kindOf(r slog.Record) string {
	kind := r.Message
	r.Attrs(func(a slog.Attr) bool {
		if a.Key != "err" {
			return true
		}
		text := a.Value.String()
		kind += "\x00" + text[:min(len(text), significant)]
		return false
	})
	return kind
}
