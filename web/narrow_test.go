package web

import (
	"encoding/json"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/session"
)

// choose posts a form with fields that stand several times.
func (b *browser) choose(path string, fields url.Values) answer {
	b.t.Helper()
	return b.do("POST", path, strings.NewReader(fields.Encode()), map[string]string{
		"Content-Type": "application/x-www-form-urlencoded", "Origin": b.f.base, "Sec-Fetch-Site": "same-origin",
	})
}

// channels are those of the grant that came of a request.
func (b *browser) channels(request string) []string {
	b.t.Helper()
	r := decode[session.Request](b.t, b.api("GET", "/api/v1/requests/"+request, "", nil).want(b.t, 200))
	return decode[session.Grant](b.t, b.api("GET", "/api/v1/grants/"+r.Grant, "", nil).want(b.t, 200)).Scope.Channels
}

// Whoever says yes leaves out what they do not want to give, by ticks, without a script.
func TestYesToFewerChannels(t *testing.T) {
	f := start(t)
	alice, bob := f.as(t, "alice"), f.as(t, "bob")
	id := alice.ask("web-1", "admin", "INC-4")
	at := "/requests/" + id
	bob.get(at).want(t, 200, `name="narrow" value="channels"`, `value="shell" checked`, `value="sftp" checked`).lacks(t, "agent", "read-only")
	bob.get(at+"?narrow=channels&channels=sftp&for=15").want(t, 200, `value="sftp" checked`).lacks(t, `value="shell" checked`)
	bob.post(at, "verdict", "yes", "narrow", "channels").want(t, 422, "ick at least one of the channels, or deny")
	bob.post(at, "verdict", "yes", "narrow", "channels", "channels", "agent").want(t, 422, "may narrow, never widen")
	bob.post(at, "verdict", "yes", "narrow", "channels", "channels", "sftp", "for", "15").want(t, 200, "Approved by bob@example.com", "channels sftp")
	if got := alice.channels(id); !reflect.DeepEqual(got, []string{"sftp"}) {
		t.Errorf("the grant has the channels %q", got)
	}
	// All ticked is as it was asked; none ticked does not keep anybody from saying no.
	second := alice.ask("web-1", "admin", "INC-5")
	bob.choose("/requests/"+second, url.Values{"verdict": {"yes"}, "narrow": {"channels"}, "channels": {"shell", "exec", "sftp", "forward", "listen"}}).want(t, 200, "Approved")
	if got := alice.channels(second); len(got) > 0 {
		t.Errorf("all ticked gives only %q", got)
	}
	third := decode[session.Request](t, alice.api("POST", "/api/v1/requests", "", json.RawMessage(`{"target":"billing","role":"writer"}`)).want(t, 201)).ID
	bob.post("/requests/"+third, "verdict", "no", "narrow", "channels", "word", "no").want(t, 200, "Denied by bob@example.com")
}

// Class: each field of an answer or an ask, changed on its way to the API, changes nothing
// that it should not.
func TestTamperedFieldsDecideNothing(t *testing.T) {
	f := start(t)
	alice, bob := f.as(t, "alice"), f.as(t, "bob")
	id := alice.ask("web-1", "admin", "INC-6")
	before := f.counts(t)
	for text, status := range map[string]int{
		`{"target":"web-1","role":"admin","user":"bob@example.com"}`: 400, `{"target":"web-1","role":"admin","approvals":[]}`: 400,
		`{"target":"web-1","role":"admin","state":"approved"}`: 400, `{"target":"web-1","role":"admin","decision":{}}`: 400,
		`{"target":"web-1","role":"admin","duration":"24h"}`: 422, `{"target":"web-1","role":"root"}`: 403, `{"target":"Web-1","role":"admin"}`: 403,
		`{"target":"web-1","role":"admin","object":"x"}`: 403, `{"target":"web-1","role":"admin","break_glass":true}`: 403,
		`{"target":"orders","role":"reader"}`: 422, `{"target":"orders","role":"reader","reason":" "}`: 422,
		`{"target":"web-1","role":"admin","proof":"certificate"}`: 400, `{"target":"web-1","role":"admin","client":"192.0.2.1"}`: 400,
	} {
		alice.api("POST", "/api/v1/requests", "", json.RawMessage(text)).want(t, status)
	}
	unchanged(t, f, "a tampered ask", before)

	grant := f.granted(t, alice, bob)
	before = f.counts(t)
	for text, status := range map[string]int{
		`{"duration":"2h"}`: 422, `{"duration":"-5m"}`: 422, `{"duration":"0s"}`: 422, `{"duration":"1000000h"}`: 422, `{"duration":5}`: 400,
		`{"read_only":true}`: 403, `{"read_only":"no"}`: 400, // an SSH target cannot be held to it
		`{"channels":[]}`: 422, `{"channels":["agent"]}`: 422, `{"channels":["shell","root"]}`: 422, `{"channels":"shell"}`: 400,
		`{"forward":["db"]}`: 422, `{"listen":["80"]}`: 422, `{"methods":["GET"]}`: 403, `{"paths":["x"]}`: 422, `{"paths":["/\u001b[2J"]}`: 422,
		`{"databases":["x"]}`: 400, `{"scope":{}}`: 400, `{"user":"alice@example.com"}`: 400, `{"by":"carol@example.com"}`: 400,
		`{"rule":"others"}`: 400, `{"stage":1}`: 400, `{"yes":false}`: 400, `{"grant":"` + grant + `"}`: 400, `{"digest":"sha256:0"}`: 400,
		`{"word":"` + strings.Repeat("x", session.MaxReason+1) + `"}`: 422, `{"word":"\u001b[2J"}`: 422, `[]`: 400,
	} {
		bob.api("POST", "/api/v1/requests/"+id+"/approve", "", json.RawMessage(text)).want(t, status)
	}
	bob.api("POST", "/api/v1/requests/"+grant+"/approve", "", nil).want(t, 404) // the identifier of something else
	// Somebody else's grant is not lengthened, and not found.
	bob.api("POST", "/api/v1/requests", "", json.RawMessage(`{"target":"orders","role":"reader","extends":"`+grant+`","reason":"INC-7"}`)).want(t, 404)
	unchanged(t, f, "a tampered answer", before)
	if r := decode[session.Request](t, alice.api("GET", "/api/v1/requests/"+id, "", nil)); r.State != session.RequestPending || len(r.Approvals) > 0 {
		t.Errorf("the request is %s with %d approvals", r.State, len(r.Approvals))
	}
}

// unchanged compares the record but for refusals, which are entries too.
func unchanged(t *testing.T, f *fixture, what string, before map[string]int) {
	t.Helper()
	after := f.counts(t)
	delete(before, audit.AskRefused)
	delete(after, audit.AskRefused)
	same(t, what, before, after)
}
