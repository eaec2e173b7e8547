package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/url"
	"strings"
)

// redact takes the values of secrets out of a body's or a message's beginning; whole
// says that it is all of it. An error says that it is not of the form that kind says;
// then text is what could be read.
func (r *Rules) redact(kind, contentType string, body []byte, whole bool) (text string, left int64, err error) {
	if len(r.o.Secrets) == 0 {
		return string(body), 0, nil
	}
	isJSON := kind == "application/json" || kind == "text/json" || strings.HasSuffix(kind, "+json") || kind == "application/x-ndjson"
	start := bytes.TrimLeft(body, " \t\r\n")
	if isJSON || len(start) > 0 && (start[0] == '{' || start[0] == '[') { // a target may read JSON whatever it is called
		text, left, err = r.json(body, whole)
		if isJSON || err == nil {
			return text, left, err
		}
	}
	switch kind {
	case "application/x-www-form-urlencoded":
		text, left = r.form(string(body))
		return text, left, nil
	case "multipart/form-data":
		return r.multipart(contentType, body, whole)
	}
	return string(body), 0, nil
}

// form is a form or a query as it came, without the values of secrets.
func (r *Rules) form(text string) (string, int64) {
	var out strings.Builder
	var left int64
	for len(text) > 0 {
		part, end := text, ""
		if i := strings.IndexAny(text, "&;"); i >= 0 { // some take a semicolon for the end, too
			part, end = text[:i], text[i:i+1]
		}
		text = text[len(part)+len(end):]
		name, value, _ := strings.Cut(part, "=")
		plain, err := url.QueryUnescape(name)
		if value != "" && (err != nil || r.secret(plain)) {
			part = name + "=" + hidden
			left++
		}
		out.WriteString(part + end)
	}
	return out.String(), left
}

// maxShownFile is how much of a file in a multipart form is kept: enough to see what it is.
const maxShownFile = 256

// multipart writes a multipart form (RFC 7578) as one line for each part.
func (r *Rules) multipart(contentType string, body []byte, whole bool) (string, int64, error) {
	_, params, err := mime.ParseMediaType(contentType)
	if err != nil || params["boundary"] == "" {
		return "", 0, errForm
	}
	var out strings.Builder
	var left int64
	parts := multipart.NewReader(bytes.NewReader(body), params["boundary"])
	for {
		part, err := parts.NextRawPart()
		if err == io.EOF || err != nil && !whole { //nolint:errorlint // wrapped it says that the form breaks off
			return out.String(), left, nil
		}
		if err != nil {
			return out.String(), left, errForm
		}
		value, _ := io.ReadAll(part)
		switch size := len(value); {
		case r.secret(part.FormName()):
			value, left = []byte(hidden), left+1
		case part.FileName() != "" && size > maxShownFile:
			value = fmt.Appendf(value[:maxShownFile:maxShownFile], " ... (%d bytes)", size)
		}
		fmt.Fprintf(&out, "%q", part.FormName())
		if name := part.FileName(); name != "" {
			fmt.Fprintf(&out, " (file %q)", name)
		}
		out.WriteString(": ")
		out.Write(value)
		out.WriteByte('\n')
	}
}

var (
	errForm = errors.New("it is not of the form that it says it has")
	errEnd  = errors.New("the text ends here")
)

// json is JSON (RFC 8259), or several texts of it, without the values of secrets.
func (r *Rules) json(body []byte, whole bool) (string, int64, error) {
	s := &scan{rules: r, in: body}
	err := s.texts()
	if err == errEnd && !whole { //nolint:errorlint // the scanner's own
		err = nil
	}
	if err != nil {
		s.in = s.in[:max(s.at, s.from)] // what cannot be read may hold a secret
		err = errForm
	}
	return string(append(s.out, s.in[s.from:]...)), s.left, err
}

// maxDepth is deeper than any JSON that somebody wrote on purpose.
const maxDepth = 500

// scan walks over JSON and copies it, but for the values of secrets.
type scan struct {
	rules *Rules
	in    []byte
	at    int // read up to here
	from  int // copied up to here
	out   []byte
	left  int64
	depth int
}

func (s *scan) texts() error {
	for s.space(); s.at < len(s.in); s.space() {
		if err := s.value(); err != nil {
			return err
		}
	}
	return nil
}

func (s *scan) space() {
	for s.at < len(s.in) && strings.IndexByte(" \t\r\n", s.in[s.at]) >= 0 {
		s.at++
	}
}

// next is the next sign that is no space.
func (s *scan) next() (byte, error) {
	if s.space(); s.at == len(s.in) {
		return 0, errEnd
	}
	return s.in[s.at], nil
}

func (s *scan) value() error {
	c, err := s.next()
	switch {
	case err != nil:
		return err
	case c == '{' || c == '[':
		if s.depth++; s.depth > maxDepth {
			return errForm
		}
		s.at++
		err = s.items(c == '{')
		s.depth--
		return err
	case c == '"':
		_, err := s.text()
		return err
	}
	start := s.at
	for s.at < len(s.in) && strings.IndexByte("+-.0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", s.in[s.at]) >= 0 {
		s.at++
	}
	if json.Valid(s.in[start:s.at]) {
		return nil
	}
	if s.at == len(s.in) {
		return errEnd // maybe in the middle of it
	}
	s.at = start
	return errForm
}

// items reads what is in an object or an array, and its end.
func (s *scan) items(object bool) error {
	end := byte(']')
	if object {
		end = '}'
	}
	for n := 0; ; n++ {
		c, err := s.next()
		if err != nil {
			return err
		}
		if c == end && n == 0 {
			s.at++
			return nil
		}
		if err := s.item(object); err != nil {
			return err
		}
		if c, err = s.next(); err != nil {
			return err
		}
		s.at++
		switch c {
		case end:
			return nil
		case ',':
		default:
			s.at--
			return errForm
		}
	}
}

func (s *scan) item(object bool) error {
	if !object {
		return s.value()
	}
	name, err := s.text()
	if err != nil {
		return err
	}
	c, err := s.next()
	if err != nil {
		return err
	}
	if c != ':' {
		return errForm
	}
	s.at++
	if !s.rules.secret(name) {
		return s.value()
	}
	if _, err := s.next(); err != nil {
		return err
	}
	s.out = append(append(s.out, s.in[s.from:s.at]...), `"`+hidden+`"`...)
	s.left++
	err = s.value()
	s.from = s.at
	if err != nil {
		s.from = len(s.in)
	}
	return err
}

// text reads a string.
func (s *scan) text() (string, error) {
	if s.in[s.at] != '"' {
		return "", errForm
	}
	for i := s.at + 1; i < len(s.in); i++ {
		switch c := s.in[i]; {
		case c == '\\':
			i++
		case c < ' ':
			return "", errForm
		case c == '"':
			var value string
			if json.Unmarshal(s.in[s.at:i+1], &value) != nil {
				return "", errForm
			}
			s.at = i + 1
			return value, nil
		}
	}
	s.at = len(s.in)
	return "", errEnd
}
