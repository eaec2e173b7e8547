package web

import (
	"fmt"
	"strconv"

	"github.com/sallyport/sallyport/audit"
)

// http adds a line about web traffic, joined with the request that it belongs to.
func (p *recordingPage) http(line audit.Line, at map[int64]int) {
	p.What, p.Column = "request", "Status"
	if r, ok := line.Track.(audit.Request); ok {
		p.Statements++
		if len(p.Lines) >= maxShown {
			p.Cut = true
			return
		}
		at[r.N] = len(p.Lines)
		p.Lines = append(p.Lines, lineView{At: r.At, Text: cut(r.Method+" "+r.Path, maxSQL), Tags: headerTags(r.Headers)})
		return
	}
	switch track := line.Track.(type) {
	case audit.RequestDone:
		p.RowsOut += track.Bytes
		if track.Failed() {
			p.Errors++
		}
		if i, ok := at[track.N]; ok {
			p.Lines[i].answered(track)
		}
	case audit.Body:
		if i, ok := at[track.N]; ok {
			p.Lines[i].Parts = append(p.Lines[i].Parts, part(track.Direction, track.Type, track.Text, track.Size, track.Hidden, track.Cut))
		}
	case audit.Message:
		if i, ok := at[track.N]; ok && len(p.Lines[i].Parts) < maxShown {
			p.Lines[i].Parts = append(p.Lines[i].Parts, part(track.Direction, track.Kind, track.Text, track.Size, track.Hidden, track.Cut))
		} else if ok {
			p.Cut = true
		}
	}
}

func (l *lineView) answered(d audit.RequestDone) {
	l.end = d.At
	l.Rows, l.Took = strconv.Itoa(d.Status), took(d.Took)
	if d.Call != "" {
		l.Tags = append(l.Tags, "gRPC "+d.Call)
	}
	if d.Failed() {
		l.Error = "refused or failed"
	}
	if d.Cut {
		l.Error = "the client did not get the whole answer"
	}
	for _, n := range []struct {
		count int64
		words string
	}{{d.Sent, "bytes up"}, {d.Bytes, "bytes down"}, {d.Up, "frames up"}, {d.Down, "frames down"}} {
		if n.count > 0 {
			l.Tags = append(l.Tags, fmt.Sprintf("%d %s", n.count, n.words))
		}
	}
	l.Tags = append(l.Tags, headerTags(d.Headers)...)
}

func headerTags(headers []audit.Header) (tags []string) {
	for _, h := range headers {
		tags = append(tags, h.Name+": "+cut(h.Value, maxBind))
	}
	return tags
}

// partView is a body or a message of a request.
type partView struct {
	Head string
	Text string
}

func part(direction, kind, text string, size, hidden int64, isCut bool) partView {
	head := direction + ", " + kind
	if kind == "" {
		head = direction
	}
	if size > 0 {
		head += fmt.Sprintf(", %d bytes", size)
	}
	if hidden > 0 {
		head += fmt.Sprintf(", %d left out", hidden)
	}
	if isCut {
		head += ", the beginning"
	}
	return partView{head, cut(text, maxSQL)}
}
