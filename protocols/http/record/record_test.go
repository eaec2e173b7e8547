package record

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"mime/multipart"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func rules(secrets ...string) *Rules {
	return New(&Options{Bodies: []string{"*/*"}, Messages: true, Secrets: secrets})
}

// Secrets are found by name, whatever form a body has and wherever it is cut.
func TestSecretsAreLeftOut(t *testing.T) {
	r := rules("password", "card")
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	_ = w.SetBoundary("xyz")
	_ = w.WriteField("user", "alice")
	_ = w.WriteField("login[password]", "hunter2")
	f, _ := w.CreateFormFile("file", "a.txt")
	_, _ = f.Write([]byte(strings.Repeat("x", 1000)))
	_ = w.Close()
	for _, one := range []struct{ kind, contentType, body, want string }{
		{"application/json", "", `{"user":"alice","password":"hunter2"}`, `{"user":"alice","password":"(hidden)"}`},
		{"application/json", "", `{"Password" : {"a":[1,"hunter2"]} , "x":1}`, `{"Password" : "(hidden)" , "x":1}`},
		{"application/json", "", `[{"a":{"pass\u0077ord":"hunter2"}},{"card":12,"card":13}]`, `[{"a":{"pass\u0077ord":"(hidden)"}},{"card":"(hidden)","card":"(hidden)"}]`},
		{"application/vnd.api+json", "", `{"password":null}`, `{"password":"(hidden)"}`},
		{"application/x-ndjson", "", "{\"index\":1}\n{\"password\":\"hunter2\"}\n", "{\"index\":1}\n{\"password\":\"(hidden)\"}\n"},
		{"text/plain", "", ` {"password":"hunter2"}`, ` {"password":"(hidden)"}`},
		{"application/x-www-form-urlencoded", "", `{"password":"hunter2"}`, `{"password":"(hidden)"}`},
		{"text/plain", "", "password=hunter2", "password=hunter2"},
		{"application/x-www-form-urlencoded", "", "user=a&p%61ssword=hunter2&x=1;card=7&password", "user=a&p%61ssword=(hidden)&x=1;card=(hidden)&password"},
		{"application/x-www-form-urlencoded", "", "user[password]=hunter2&user.card=1", "user[password]=(hidden)&user.card=(hidden)"},
		{"multipart/form-data", w.FormDataContentType(), form.String(), "\"user\": alice\n\"login[password]\": (hidden)\n\"file\" (file \"a.txt\"): " + strings.Repeat("x", 256) + " ... (1000 bytes)\n"},
	} {
		text, left, err := r.redact(one.kind, one.contentType, []byte(one.body), true)
		if text != one.want || err != nil || (left > 0) != strings.Contains(one.want, hidden) {
			t.Errorf("%s %s: %q, %d, %v", one.kind, one.body, text, left, err)
		}
		if one.want == one.body {
			continue
		}
		for cut := range len(one.body) { // a cut must not uncover what a whole body hides
			text, _, err := r.redact(one.kind, one.contentType, []byte(one.body[:cut]), false)
			if err != nil && one.kind != "multipart/form-data" || strings.Contains(text, "hunter2") {
				t.Errorf("%s %s: %q, %v", one.kind, one.body[:cut], text, err)
			}
		}
	}
}

// What says that it is JSON and is not cannot be searched for secrets, so it is refused.
func TestWhatIsNoJSON(t *testing.T) {
	for _, body := range []string{`{password:"x"}`, `{'password':"x"}`, `{"a":1,}`, `{"a" "b"}`, `// {"a":1}`, "\ufeff{}", `{"a":nul}`, `{"a":1}}`, "p\x00", strings.Repeat("[", 1000), `{"a":`, `{"a":"b`} {
		text, _, err := rules("password").redact("application/json", "", []byte(body), true)
		if !errors.Is(err, errForm) || len(text) > len(body) {
			t.Errorf("%q: %q, %v", body, text, err)
		}
	}
}

func TestPathsAndHeaders(t *testing.T) {
	r := New(&Options{Headers: []string{"x-api-key", "Accept", "cookie"}, Secrets: []string{"key", "X-Api-Key"}})
	u, _ := url.Parse("https://x/a%20b?key=1&a=b&K%65y=2&key")
	if got := r.Path(u); got != "/a%20b?key=(hidden)&a=b&K%65y=(hidden)&key" {
		t.Error(got)
	}
	got := r.Headers(http.Header{"X-Api-Key": {"1"}, "Accept": {"a", "b"}, "Cookie": {"c"}, "Other": {"d"}})
	text, _ := json.Marshal(got)
	if string(text) != `[{"Name":"X-Api-Key","Value":"(hidden)"},{"Name":"Accept","Value":"a"},{"Name":"Accept","Value":"b"},{"Name":"Cookie","Value":"(hidden)"}]` {
		t.Errorf("%s", text)
	}
}

func TestMediaTypes(t *testing.T) {
	r := New(&Options{Bodies: []string{"application/json", "Text/*"}})
	for _, one := range []struct {
		kind string
		want bool
	}{
		{"application/json", true},
		{"APPLICATION/JSON; charset=utf-8", true},
		{"text/html", true},
		{"application/json; x", true}, // what cannot be read otherwise is judged by its beginning
		{"application/octet-stream", false},
		{"", false},
	} {
		if _, got := r.wants(http.Header{"Content-Type": {one.kind}}); got != one.want {
			t.Errorf("%q: %v", one.kind, got)
		}
	}
	if _, err := rules().Tape(1, "up", http.Header{"Content-Encoding": {"br"}}); !errors.Is(err, ErrEncoding) {
		t.Error(err)
	}
	if _, err := rules().Tape(1, "up", http.Header{"Content-Encoding": {"gzip", "gzip"}}); !errors.Is(err, ErrEncoding) {
		t.Error(err)
	}
	if _, err := rules().Tape(1, "up", http.Header{"Content-Type": {"text/plain", "application/json"}}); !errors.Is(err, ErrForm) {
		t.Error(err)
	}
}

// What unpacks to very much is cut, and takes no memory.
func TestBombs(t *testing.T) {
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	_, _ = z.Write(make([]byte, 50<<20))
	_ = z.Close()
	tape, err := rules().Tape(1, "down", http.Header{"Content-Encoding": {"gzip"}})
	if err != nil {
		t.Fatal(err)
	}
	_, _ = tape.Write(bomb.Bytes())
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	text, all, err := tape.plain(true)
	if runtime.ReadMemStats(&after); after.TotalAlloc-before.TotalAlloc > 10<<20 {
		t.Errorf("%d bytes were taken to look at it", after.TotalAlloc-before.TotalAlloc)
	}
	if len(text) != standardLargest || all || err != nil {
		t.Errorf("%d bytes, %v, %v", len(text), all, err)
	}
}

func TestFlaws(t *testing.T) {
	var bad []string
	Options{Headers: []string{"a b"}, Bodies: []string{"json", "*/json", "a/b/c"}, Largest: 2 << 20, Secrets: []string{""}}.Flaws(func(option, _ string) { bad = append(bad, option) })
	if !slices.Equal(bad, []string{"headers", "bodies", "bodies", "bodies", "largest", "secrets"}) {
		t.Error(bad)
	}
	Options{Headers: []string{"Accept"}, Bodies: []string{"*/*", "text/*", "application/vnd.api+json"}}.Flaws(func(option, say string) { t.Error(option, say) })
}

// Frames are followed however they are cut into pieces.
func FuzzFrames(f *testing.F) {
	f.Add([]byte("\x81\x02hi\x81\x82abcdhi"), uint8(1))
	f.Add([]byte("\x82\x7e\x00\x03abc\x88\x00"), uint8(3))
	f.Fuzz(func(t *testing.T, in []byte, size uint8) {
		whole, parts := &Frames{}, &Frames{}
		_, errWhole := whole.Observe(in)
		var errParts error
		for rest := in; len(rest) > 0 && errParts == nil; {
			n := min(len(rest), int(size)+1)
			_, errParts = parts.Observe(rest[:n])
			rest = rest[n:]
		}
		if (errWhole == nil) != (errParts == nil) || errWhole == nil && (whole.Tail() != parts.Tail() || whole.Count != parts.Count) {
			t.Fatalf("%+v, %v; %+v, %v", whole, errWhole, parts, errParts)
		}
	})
}

// No value of a secret's is left in valid JSON, and what is left of it is JSON again.
func FuzzJSON(f *testing.F) {
	for _, seed := range []string{`{"a":1,"password":"hunter2"}`, `[{"password":{"x":["hunter2"]}}]`, `{"a":"\"password\":\"hunter2"}`, `{"pass\u0077ord":"hunter2"}`, "{}{}", `"hunter2"`} {
		f.Add(seed, uint8(0))
	}
	r := rules("password")
	f.Fuzz(func(t *testing.T, body string, cut uint8) {
		text, left, err := r.redact("application/json", "", []byte(body), true)
		valid := json.Valid([]byte(body))
		if valid && err != nil || err == nil && !utf8.ValidString(body) && utf8.ValidString(text) && left == 0 {
			t.Fatalf("%q: %q, %v", body, text, err)
		}
		if !valid {
			return
		}
		if !json.Valid([]byte(text)) {
			t.Fatalf("%q became %q", body, text)
		}
		var was, is any
		_ = json.Unmarshal([]byte(body), &was)
		_ = json.Unmarshal([]byte(text), &is)
		if uncovered(is) || left == 0 && text != body {
			t.Fatalf("%q became %q", body, text)
		}
		part := body[:len(body)-min(len(body), int(cut))]
		if short, _, err := r.redact("application/json", "", []byte(part), false); err != nil {
			t.Fatalf("%q is no beginning: %q, %v", part, short, err)
		}
	})
}

// uncovered looks for the value of a secret.
func uncovered(v any) bool {
	switch v := v.(type) {
	case map[string]any:
		for name, value := range v {
			if strings.EqualFold(name, "password") && value != hidden || uncovered(value) {
				return true
			}
		}
	case []any:
		return slices.ContainsFunc(v, uncovered)
	}
	return false
}
