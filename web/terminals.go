package web

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/asciicast"
)

// channels are what a recording of an SSH session has beside requests.
type channels struct {
	Terminals []*channelView // shells and commands: what can be played
	Forwards  []*channelView
	Files     []fileView
	Play      bool // the player is built in

	at map[int64]*channelView
}

// channelView is a channel, by what was asked of it.
type channelView struct {
	N     int64
	At    time.Time
	Kind  string // exec, shell, forward, back, listen
	What  string // the command, or where to
	Ended string
	Bytes int64
	Took  string
}

// fileView is a file that was moved.
type fileView struct {
	At     time.Time
	Name   string
	Up     bool
	Size   int64
	SHA256 string
	Kept   int64 // its bytes are on the record, by this number; 0: they are not, or did not come in order
}

// kinds of a Query by which protocols/ssh begins a channel that is shown as one.
func isTerminal(kind string) bool { return kind == "exec" || kind == "shell" }
func isForward(kind string) bool  { return kind == "forward" || kind == "back" || kind == "listen" }

// take takes a line that is about channels; false: it is about something else.
func (c *channels) take(line audit.Line) bool {
	switch track := line.Track.(type) {
	case audit.Query:
		list := &c.Terminals
		switch {
		case isTerminal(track.Kind):
		case isForward(track.Kind):
			list = &c.Forwards
		default:
			return false
		}
		if c.at == nil {
			c.at = map[int64]*channelView{}
		}
		if len(*list) < maxShown {
			view := &channelView{N: track.N, At: track.At, Kind: track.Kind, What: cut(track.SQL, maxSQL)}
			*list = append(*list, view)
			c.at[track.N] = view
		}
	case audit.QueryDone:
		view := c.at[track.N]
		if view == nil {
			return false
		}
		view.Ended, view.Bytes, view.Took = track.Tag, track.Bytes, took(track.Took)
	case audit.File:
		if len(c.Files) < maxShown {
			kept := track.N
			if track.SHA256 == "" {
				kept = 0
			}
			c.Files = append(c.Files, fileView{track.At, cut(track.Name, maxBind), track.Direction == "up", track.Size, track.SHA256, kept})
		}
	case audit.Piece: // it is downloaded
	case audit.Terminal: // it is played
	default:
		return false
	}
	return true
}

// cast sends what one channel's terminal drew, as an asciicast: to the player on the
// recording's page, or as a file.
func (s *Web) cast(v *visit) error {
	missing := &refusal{status: http.StatusNotFound, say: "there is no such terminal in this recording"}
	n, err := strconv.ParseInt(v.r.PathValue("n"), 10, 64)
	if err != nil {
		return missing
	}
	record, recording, err := s.opened(v)
	if err != nil {
		return err
	}
	screen := &Screen{N: n, To: v.w, Title: fmt.Sprintf("%s on %s as %s", record.User.Short(), record.Key.Target, record.Key.Role)}
	v.w.Header().Set("Content-Type", "application/x-asciicast")
	v.w.Header().Set("Content-Disposition", fmt.Sprintf(`attachment; filename="%s-%d.cast"`, record.ID, n))
	if err := s.eachLine(v, recording, screen.Line); err != nil {
		return err
	}
	if !screen.Begun() {
		v.w.Header().Del("Content-Disposition")
		return missing
	}
	return nil
}

// file sends what a file had, where the policy had its bytes recorded.
func (s *Web) file(v *visit) error {
	n, err := strconv.ParseInt(v.r.PathValue("n"), 10, 64)
	if err != nil || n < 1 {
		return noFile
	}
	_, recording, err := s.opened(v)
	if err != nil {
		return err
	}
	var file audit.File
	for line, err := range recording.Lines(v.r.Context()) {
		if err != nil {
			return fmt.Errorf("read recording: %w", err)
		}
		if f, ok := line.Track.(audit.File); ok && f.N == n {
			file = f
		}
	}
	if file.SHA256 == "" { // there is none, or its bytes are not one run
		return noFile
	}
	v.w.Header().Set("Content-Type", "application/octet-stream")
	v.w.Header().Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": path.Base(file.Name)}))
	sum := sha256.New()
	err = s.eachLine(v, recording, func(line audit.Line) error {
		piece, ok := line.Track.(audit.Piece)
		if !ok || piece.N != n {
			return nil
		}
		sum.Write(piece.Data)
		if _, err := v.w.Write(piece.Data); err != nil {
			return errAway
		}
		return nil
	})
	if err == nil && hex.EncodeToString(sum.Sum(nil)) != file.SHA256 {
		s.logger.Error("a file of a recording is not what was moved", "session", v.id(), "file", n)
		panic(http.ErrAbortHandler) // the head is out
	}
	return err
}

var noFile = &refusal{status: http.StatusNotFound, say: "the bytes of this file are not on the record, or did not come in order"}

// A Screen turns the lines of a recording into an asciicast of one channel.
type Screen struct {
	N     int64 // the channel's number
	To    io.Writer
	Title string

	cast *asciicast.Writer
	head asciicast.Header
	raw  bool   // there is a terminal
	at   string // the stream whose lines follow
}

// Begun reports that the channel was among the lines.
func (s *Screen) Begun() bool { return s.cast != nil }

// Line takes the recording's next line. Nothing is written before the channel begins.
func (s *Screen) Line(line audit.Line) (err error) {
	name := fmt.Sprintf("channel %d", s.N)
	switch track := line.Track.(type) {
	case audit.Note:
		if kind, ok := strings.CutPrefix(track.Text, name+": TERM="); ok {
			s.head.Type, _ = strconv.Unquote(kind) // else it stays empty
		}
	case audit.Query:
		if track.N != s.N || s.cast != nil || !isTerminal(track.Kind) {
			return nil
		}
		s.head.Began, s.head.Command, s.head.Title = track.At, track.SQL, s.Title
		s.cast, err = asciicast.New(s.To, s.head, s.raw)
	case audit.Terminal:
		stream, mine := strings.CutPrefix(s.at, name)
		switch {
		case track.Code == asciicast.Marker:
			s.at = string(track.Data)
		case !mine || (stream != "" && stream != " stderr"):
		case s.cast == nil && track.Code == asciicast.Resize:
			s.raw = true
			_, err = fmt.Sscanf(string(track.Data), "%dx%d", &s.head.Columns, &s.head.Rows)
			if err != nil {
				return fmt.Errorf("read a terminal's size: %w", err)
			}
		case s.cast != nil:
			err = s.cast.Event(track.At, track.Code, stream, track.Data)
			if err == nil && track.Code == asciicast.Input && !s.raw {
				err = s.given(track)
			}
		}
	}
	return err
}

// given draws what a program without a terminal read, faintly: no terminal has echoed it,
// and players draw no input.
func (s *Screen) given(track audit.Terminal) error {
	for _, part := range []struct{ stream, text string }{{"faint", "\x1b[2m"}, {"input", string(track.Data)}, {"faint", "\x1b[22m"}} {
		if err := s.cast.Event(track.At, asciicast.Output, part.stream, []byte(part.text)); err != nil {
			return err
		}
	}
	return nil
}

// eachLine gives each line of a recording to write, which sends it. What cannot be read
// to its end must not look like the end.
func (s *Web) eachLine(v *visit, recording audit.Recording, write func(audit.Line) error) error {
	control := http.NewResponseController(v.w)
	n := 0
	for line, err := range recording.Lines(v.r.Context()) {
		if n++; n%1000 == 0 { // a long recording may take its time, a client that reads nothing may not
			_ = control.SetWriteDeadline(time.Now().Add(sendTimeout)) // net/http's own writer has one
		}
		if err == nil {
			err = write(line)
		}
		switch {
		case v.r.Context().Err() != nil:
			return nil // the client went away
		case errors.Is(err, errAway):
			return nil
		case err != nil:
			s.logger.Error("cannot read a recording to its end", "session", v.id(), "err", err)
			panic(http.ErrAbortHandler) // the head is out
		}
	}
	return nil
}

// errAway says that a client takes nothing more.
var errAway = errors.New("the client went away")
