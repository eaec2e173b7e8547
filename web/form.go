package web

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sallyport/sallyport/session"
)

// checkFields refuses values that no form of ours sends. Too long is refused, never
// cut, so that nobody approves something other than what was asked.
func checkFields(values url.Values) error {
	for name, all := range values {
		for _, value := range all {
			if len(value) > maxField || len(name) > session.MaxName {
				return &refusal{status: http.StatusRequestEntityTooLarge, say: "one of the fields is too long"}
			}
			if !utf8.ValidString(value) || strings.ContainsRune(value, 0) {
				return &refusal{status: http.StatusBadRequest, say: "one of the fields is not text"}
			}
		}
	}
	return nil
}

// form reads the POST's own fields; the address never counts as a field.
func form(v *visit) (url.Values, error) {
	kind, _, err := mime.ParseMediaType(v.r.Header.Get("Content-Type"))
	if err != nil || kind != "application/x-www-form-urlencoded" {
		return nil, &refusal{status: http.StatusUnsupportedMediaType, say: "this takes a form"}
	}
	if err := v.r.ParseForm(); err != nil {
		if size := new(http.MaxBytesError); errors.As(err, &size) {
			return nil, errTooLong
		}
		return nil, errBody
	}
	return v.r.PostForm, checkFields(v.r.PostForm)
}

// body decodes a JSON body into into: one value, no unknown names.
func body(v *visit, into any) error {
	kind, _, err := mime.ParseMediaType(v.r.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" {
		return &refusal{status: http.StatusUnsupportedMediaType, say: "this takes JSON", next: "send Content-Type: application/json"}
	}
	d := json.NewDecoder(v.r.Body)
	d.DisallowUnknownFields()
	err = d.Decode(into)
	if size := new(http.MaxBytesError); errors.As(err, &size) {
		return errTooLong
	}
	if err != nil {
		return errBody
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errBody
	}
	return nil
}

// oneLine joins the lines that somebody typed into a box: the record keeps a reason
// as one line, and whoever presses Enter while typing means no more by it.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// bodyOrNone is body for calls whose every field is optional.
func bodyOrNone(v *visit, into any) error {
	if v.r.ContentLength == 0 {
		return nil
	}
	return body(v, into)
}

// short refuses free text beyond a limit of characters.
func short(field, text string, limit int) error {
	if n := utf8.RuneCountInString(text); n > limit {
		return &session.Invalid{Field: field, Hint: fmt.Sprintf("the %s has %d characters; say it in %d", field, n, limit)}
	}
	return nil
}

// firstError is the first of several checks.
func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// duration reads "30m", "1h30m" or nothing. A bare number is minutes, as the forms send.
func duration(text string) (time.Duration, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return 0, nil
	}
	if n, err := strconv.Atoi(text); err == nil {
		text = strconv.Itoa(n) + "m"
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 || d > 31*24*time.Hour {
		return 0, &session.Invalid{Field: "duration", Hint: "a duration looks like 30m or 1h30m"}
	}
	return d, nil
}

// paging reads limit and before of a list; the greatest limit is 500.
func paging(v *visit) (session.Filter, error) {
	q := v.r.URL.Query()
	f := session.Filter{State: q.Get("state"), User: q.Get("user"), Target: q.Get("target"), Role: q.Get("role"), Limit: 100}
	if text := q.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > 500 {
			return f, &session.Invalid{Field: "limit", Hint: "limit is a number from 1 to 500"}
		}
		f.Limit = n
	}
	if text := q.Get("before"); text != "" {
		when, id, _ := strings.Cut(text, ",")
		t, err := time.Parse(time.RFC3339, when)
		if err != nil {
			return f, &session.Invalid{Field: "before", Hint: "before is a time like 2026-01-31T15:04:05Z, and may go on with a comma and an identifier"}
		}
		f.Before = session.Cursor{Created: t, ID: id}
	}
	return f, nil
}

// local returns a path of ours to go on to after signing in, or "/" for everything
// else: another site, another scheme, or what a browser might read as one.
func local(to string) string {
	u, err := url.Parse(to)
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil || u.Opaque != "" ||
		!strings.HasPrefix(to, "/") || strings.HasPrefix(to, "//") || strings.ContainsAny(to, "\\\r\n\t") || len(to) > 2048 {
		return "/"
	}
	// RequestURI may write an escaped path anew, as another host's: /%2f" as //%22.
	if out := u.RequestURI(); !strings.HasPrefix(out, "//") {
		return out
	}
	return "/"
}
