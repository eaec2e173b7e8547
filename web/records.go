package web

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/session"
)

const (
	maxShown   = 1000 // statements on one page
	maxSQL     = 8 << 10
	maxBind    = 200
	maxEntries = 500
	// checkAlways is how many entries are checked while the page is made: less than a second's work.
	checkAlways = 200_000
)

// has reports that somebody has a right on any target, for what the pages offer.
// What is then shown is checked for each thing by itself.
func (s *Web) has(v *visit, right policy.Right) bool {
	if s.gate.May(v.by, right) {
		return true
	}
	p := s.gate.Policy()
	return slices.ContainsFunc(p.Targets(), func(t policy.Target) bool { return p.Has(right, v.by.User, t.Name) })
}

type recordingsPage struct {
	Rows []session.Record
	More string
}

// reviewable lists the sessions whose recordings this person may see.
func (s *Web) reviewable(v *visit) (rows []session.Record, older string, err error) {
	filter, err := paging(v)
	if err != nil {
		return nil, "", err
	}
	all, err := s.gate.Sessions(v.r.Context(), v.by, filter)
	if err != nil {
		return nil, "", err
	}
	if len(all) == filter.Limit {
		last := all[len(all)-1]
		older = more(last.Started, last.ID)
	}
	return slices.DeleteFunc(all, func(r session.Record) bool { return s.gate.MayReview(v.by, r) != nil }), older, nil
}

func (s *Web) recordings(v *visit) error {
	rows, older, err := s.reviewable(v)
	if err != nil {
		return err
	}
	return s.show(v, http.StatusOK, "recordings", view{Title: "Recordings", Wide: true, Body: recordingsPage{Rows: rows, More: older}})
}

// opened finds a recording for somebody who may review it, which Viewed checks, and
// writes down that they look at it before a single line is read.
func (s *Web) opened(v *visit) (session.Record, audit.Recording, error) {
	record, err := s.gate.Session(v.r.Context(), v.by, v.id())
	if err != nil {
		return record, audit.Recording{}, err
	}
	if err := s.gate.Viewed(v.r.Context(), v.by, record.ID); err != nil {
		return record, audit.Recording{}, err
	}
	recording, err := s.records.Read(record.ID)
	if errors.Is(err, audit.ErrNoRecording) {
		return record, recording, &refusal{status: http.StatusNotFound, say: "there is no recording of this session; if nobody erased it by an entry, it was tampered with"}
	}
	return record, recording, err
}

// recordingPage is what recording.html shows.
type recordingPage struct {
	Session    session.Record
	What       string // what its lines are, "statement"
	Column     string // what Rows is of them
	Statements int
	Errors     int
	RowsOut    int64
	Verified   string // what was checked, and found untouched
	Tampered   string // what is not as it was recorded
	Unchecked  string // why it could not be checked
	Ask        bool   // it is checked when that is asked for
	Bars       []bar
	Lines      []lineView
	Cut        bool
	channels
}

type bar struct {
	X, W string // per cent
	Err  bool
}

// lineView is one statement, with what became of it.
type lineView struct {
	At    time.Time
	Text  string
	Tags  []string
	Error string
	Rows  string
	Took  string
	Parts []partView
	end   time.Time
}

func (s *Web) recording(v *visit) error {
	record, recording, err := s.opened(v)
	if err != nil {
		return err
	}
	page := recordingPage{Session: record, What: "statement", Column: "Rows"}
	if err := page.read(v, recording); err != nil {
		return err
	}
	page.draw(s.now())
	s.check(v, &page)
	data := view{Title: fmt.Sprintf("%s on %s", record.User.Short(), record.Key.Target), Wide: true}
	if page.Play = s.player() && len(page.Terminals) > 0; page.Play {
		v.w.Header().Set("Content-Security-Policy", playerPolicy)
		data.Scripts, data.Styles = s.paths("player.js", "replay.js"), s.paths("player.css")
	}
	data.Body = page
	return s.show(v, http.StatusOK, "recording", data)
}

// read collects the statements and joins each with its end.
func (p *recordingPage) read(v *visit, recording audit.Recording) error {
	at := map[int64]int{}
	for line, err := range recording.Lines(v.r.Context()) {
		if err != nil {
			return fmt.Errorf("read recording: %w", err)
		}
		if p.take(line) {
			continue
		}
		switch track := line.Track.(type) {
		case audit.Query:
			p.Statements++
			if len(p.Lines) >= maxShown {
				p.Cut = true
				continue
			}
			at[track.N] = len(p.Lines)
			p.Lines = append(p.Lines, lineView{At: track.At, Text: cut(track.SQL, maxSQL), Tags: binds(track)})
		case audit.QueryDone:
			p.RowsOut += track.Rows
			if track.SQLState != "" {
				p.Errors++
			}
			if i, ok := at[track.N]; ok {
				p.Lines[i].done(track)
			}
		case audit.Request, audit.RequestDone, audit.Body, audit.Message:
			p.http(line, at)
		case audit.Note:
			if len(p.Lines) < maxShown {
				p.Lines = append(p.Lines, lineView{At: track.At, Text: cut(track.Text, maxSQL), Tags: []string{"the gate"}})
			}
		default:
			if len(p.Lines) < maxShown {
				p.Lines = append(p.Lines, lineView{At: line.At, Text: cut(string(line.Raw), maxSQL), Tags: []string{line.Kind}})
			}
		}
	}
	return nil
}

func (l *lineView) done(d audit.QueryDone) {
	l.end = d.At
	l.Rows = strconv.FormatInt(d.Rows, 10)
	l.Took = took(d.Took)
	if d.SQLState != "" {
		l.Error = d.SQLState + " " + cut(d.Message, maxSQL)
	}
	if d.Bytes > 0 && d.Rows == 0 {
		l.Tags = append(l.Tags, fmt.Sprintf("%d bytes", d.Bytes))
	}
}

// draw makes the time line: where each statement ran between start and end.
func (p *recordingPage) draw(now time.Time) {
	start, end := p.Session.Started, p.Session.Ended
	if end.IsZero() {
		end = now
	}
	whole := end.Sub(start).Seconds()
	if whole <= 0 {
		return
	}
	for _, l := range p.Lines {
		x := min(100, max(0, l.At.Sub(start).Seconds()/whole*100))
		w := 0.4
		if !l.end.IsZero() {
			w = max(w, min(100-x, l.end.Sub(l.At).Seconds()/whole*100))
		}
		p.Bars = append(p.Bars, bar{fmt.Sprintf("%.2f", min(x, 99.6)), fmt.Sprintf("%.2f", w), l.Error != ""})
	}
}

func binds(q audit.Query) []string {
	var tags []string
	for i, b := range q.Binds {
		text := "null"
		switch {
		case b != nil && utf8.Valid(b):
			text = cut(string(b), maxBind)
		case b != nil:
			text = "0x" + cut(hex.EncodeToString(b), maxBind)
		}
		tags = append(tags, fmt.Sprintf("$%d = %s", i+1, text))
	}
	return tags
}

// cut shortens text for a page and says so; the recording itself is whole.
func cut(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	return strings.ToValidUTF8(text[:limit], "") + fmt.Sprintf(" … (%d bytes in all)", len(text))
}

func took(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return fmt.Sprintf("%d µs", d.Microseconds())
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	default:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
}

// verified checks a session's record against the log.
func (s *Web) verified(v *visit, id string) (audit.Report, error) {
	select {
	case s.verify <- struct{}{}:
		defer func() { <-s.verify }()
	case <-v.r.Context().Done():
		return audit.Report{}, v.r.Context().Err()
	}
	return s.config.Verify(v.r.Context(), id)
}

// check says on the page whether the recording is what was recorded. With a long
// log that takes seconds, so then it is done when it is asked for.
func (s *Web) check(v *visit, page *recordingPage) {
	if s.log.State().Size > checkAlways && v.r.URL.Query().Get("check") == "" {
		page.Ask = true
		return
	}
	report, err := s.verified(v, page.Session.ID)
	switch {
	case err != nil:
		s.logger.Warn("cannot check a recording", "session", page.Session.ID, "err", err)
		page.Unchecked = "the check could not run"
	case report.Exit() == 1:
		page.Tampered = sentence(findings(report))
	case report.Exit() != 0:
		page.Unchecked = strings.Join(report.Problems, "; ")
	default:
		page.Verified = fmt.Sprintf("Untouched: checked just now against %d entries of the log.", report.Size)
	}
}

func findings(report audit.Report) string {
	var all []string
	for _, f := range report.Findings {
		all = append(all, f.String())
	}
	return strings.Join(all, "; ")
}

func (s *Web) apiVerify(v *visit) error {
	record, _, err := s.opened(v)
	if err != nil {
		return err
	}
	report, err := s.verified(v, record.ID)
	if err != nil {
		return err
	}
	return reply(v, http.StatusOK, struct {
		Status string       `json:"status"` // verified, tampered, could not check
		Report audit.Report `json:"report"`
	}{report.Verdict(), report})
}

func (s *Web) apiRecordings(v *visit) error {
	rows, _, err := s.reviewable(v)
	if err != nil {
		return err
	}
	return reply(v, http.StatusOK, map[string]any{"recordings": list(rows)})
}

// apiRecording sends the recording's own lines, as they were written.
func (s *Web) apiRecording(v *visit) error {
	_, recording, err := s.opened(v)
	if err != nil {
		return err
	}
	v.w.Header().Set("Content-Type", "application/x-ndjson")
	return s.eachLine(v, recording, func(line audit.Line) error {
		_, err := v.w.Write(append(line.Raw, '\n'))
		if err != nil {
			return errAway
		}
		return nil
	})
}

type logPage struct {
	State   audit.State
	Root    string
	Failed  string
	Entries []entryView
	More    string
}

type entryView struct {
	Index int64
	Time  time.Time
	Type  string
	Body  string
}

// needAudit refuses whoever may not read everybody's entries.
func (s *Web) needAudit(v *visit) error {
	if s.gate.May(v.by, policy.RightAudit) {
		return nil
	}
	return &session.Denied{Reason: "the policy does not let you read the record", Next: "ask whoever signs it for the right \"audit\""}
}

func (s *Web) logPage(v *visit) error {
	if err := s.needAudit(v); err != nil {
		return err
	}
	state := s.log.State()
	to := state.Size
	if text := v.r.URL.Query().Get("before"); text != "" {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 0 {
			return &session.Invalid{Field: "before", Hint: "before is the number of an entry"}
		}
		to = min(to, n)
	}
	from := max(0, to-100)
	entries, err := s.log.Entries(v.r.Context(), from, int(to-from))
	if err != nil {
		return err
	}
	page := logPage{State: state, Root: hex.EncodeToString(state.Root[:])}
	if err := s.log.Err(); err != nil {
		page.Failed = "The record cannot be written any more, so the gate has stopped."
	}
	for _, e := range slices.Backward(entries) {
		text := string(e.Body)
		if e.Body == nil {
			text = "(erased)"
		}
		page.Entries = append(page.Entries, entryView{e.Index, e.When(), e.Type, cut(text, 2000)})
	}
	if from > 0 {
		page.More = "?" + url.Values{"before": {strconv.FormatInt(from, 10)}}.Encode()
	}
	return s.show(v, http.StatusOK, "log", view{Title: "The record", Wide: true, Body: page})
}

func (s *Web) apiLog(v *visit) error {
	if err := s.needAudit(v); err != nil {
		return err
	}
	state := s.log.State()
	return reply(v, http.StatusOK, map[string]any{
		"origin": state.Origin, "node": state.Node, "size": state.Size, "root": hex.EncodeToString(state.Root[:]), "time": state.Time, "key": state.Key,
	})
}

// apiEntries sends entries from an index on, or the latest: {"entries", "next"}.
func (s *Web) apiEntries(v *visit) error {
	if err := s.needAudit(v); err != nil {
		return err
	}
	q := v.r.URL.Query()
	limit, err := number(q, "limit", 100)
	if err != nil || limit < 1 || limit > maxEntries {
		return &session.Invalid{Field: "limit", Hint: fmt.Sprintf("limit is a number from 1 to %d", maxEntries)}
	}
	from, err := number(q, "from", max(0, s.log.State().Size-limit))
	if err != nil || from < 0 {
		return &session.Invalid{Field: "from", Hint: "from is the number of an entry"}
	}
	entries, err := s.log.Entries(v.r.Context(), from, int(limit))
	if err != nil {
		return err
	}
	type apiEntry struct {
		audit.Fields
		Index int64           `json:"index"`
		Hash  string          `json:"body_hash"` // what the leaf says; body is what it stands for
		Body  json.RawMessage `json:"body"`
	}
	out := make([]apiEntry, 0, len(entries))
	for _, e := range entries {
		text := e.Body
		if text == nil {
			text = json.RawMessage("null")
		}
		out = append(out, apiEntry{e.Fields, e.Index, e.Fields.Body, text})
	}
	return reply(v, http.StatusOK, map[string]any{"entries": out, "next": from + int64(len(out))})
}

func number(q url.Values, name string, missing int64) (int64, error) {
	if q.Get(name) == "" {
		return missing, nil
	}
	return strconv.ParseInt(q.Get(name), 10, 64)
}
