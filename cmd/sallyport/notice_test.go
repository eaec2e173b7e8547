package main

import (
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/session"
)

// A notice that never arrived is an entry of the gate's own log, which says
// whose, and no secret.
func TestNoticeThatIsLostIsAnEntry(t *testing.T) {
	tried := make(chan struct{}, 10)
	receiver := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusGone)
		tried <- struct{}{}
	}))
	t.Cleanup(receiver.Close)
	m := newMachine(t)
	ca, key := filepath.Join(m.dir, "hooks.pem"), filepath.Join(m.dir, "hooks.key")
	m.write(t, ca, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: receiver.Certificate().Raw})))
	secret := "whsec_" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", 32)))
	m.write(t, key, secret)
	m.edit(t, m.config, "policy {", "credential \"hooks\" {\n  from = \"file:"+key+"\"\n}\nnotify {\n  webhook \"alerts\" {\n    url = \""+receiver.URL+"/pathsecret\"\n    secret = \"hooks\"\n    ca = \""+ca+"\"\n  }\n}\npolicy {")
	p := m.serve(t)
	notifier, err := p.notifier()
	if err != nil {
		t.Fatal(err)
	}
	notifier.Notify(t.Context(), session.Notice{Kind: session.NoticeWaiting, Say: "somebody waits", Request: session.Request{ID: "7Q2KMX"}})
	<-tried
	notifier.(interface{ Close() }).Close() // what waits to be tried again is given up then
	lost := entries(t, p, audit.NoticeLost)
	if len(lost) != 1 {
		t.Fatalf("%d entries of a notice that was lost", len(lost))
	}
	var body struct{ Sink, Kind, Why string }
	if err := json.Unmarshal(lost[0].Body, &body); err != nil {
		t.Fatal(err)
	}
	if lost[0].Request != "7Q2KMX" || !strings.Contains(body.Sink, "alerts") || body.Kind != session.NoticeWaiting || body.Why == "" {
		t.Errorf("the entry is about %s: %+v", lost[0].Request, body)
	}
	if text := string(lost[0].Body); strings.Contains(text, "pathsecret") || strings.Contains(text, secret) {
		t.Errorf("the entry has a secret: %s", text)
	}
}
