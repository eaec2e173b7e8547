package notify

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/leak"
	"github.com/sallyport/sallyport/session"
)

// The example of Standard Webhooks 1.0, "Signature scheme".
func TestSignatureIsTheStandards(t *testing.T) {
	s, _ := secrets["key"].Read(t.Context())
	key, err := signingKey(s)
	if err != nil {
		t.Fatal(err)
	}
	got := sign(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", []byte(`{"test": 2432232314}`))
	if want := "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// receiver is an HTTPS server of a test, and the CA to verify it with.
func receiver(t *testing.T, h http.HandlerFunc) (*httptest.Server, string) {
	t.Helper()
	cert, ca := certificate(t)
	s := httptest.NewUnstartedServer(h)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s, ca
}

// verify does what docs/notify.md tells a receiver to do.
func verify(h http.Header, body []byte, secret string, now time.Time) bool {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	sent, numErr := strconv.ParseInt(h.Get("webhook-timestamp"), 10, 64)
	if err != nil || numErr != nil || now.Sub(time.Unix(sent, 0)).Abs() > 5*time.Minute {
		return false
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(h.Get("webhook-id") + "." + h.Get("webhook-timestamp") + "." + string(body)))
	want := mac.Sum(nil)
	for _, signature := range strings.Fields(h.Get("webhook-signature")) {
		version, text, _ := strings.Cut(signature, ",")
		got, err := base64.StdEncoding.DecodeString(text)
		if version == "v1" && err == nil && hmac.Equal(got, want) {
			return true
		}
	}
	return false
}

type received struct {
	header http.Header
	body   []byte
}

func TestWebhookIsTriedUntilItIsTaken(t *testing.T) {
	leak.Check(t)
	got := make(chan received, Tries)
	var calls atomic.Int32
	server, ca := receiver(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.Method != http.MethodPost || r.URL.Path != "/gate" || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %s: %v", r.Method, r.URL, err)
		}
		got <- received{r.Header, body}
		if calls.Add(1) < 3 {
			http.Error(w, "not now", http.StatusServiceUnavailable)
		}
	})
	var undelivered reports
	hook, err := newWebhook(WebhookConfig{Name: "alerts", URL: server.URL + "/gate", Secret: "key", CA: ca}, secrets)
	if err != nil {
		t.Fatal(err)
	}
	f := start([]sink{hook}, time.Millisecond, undelivered.add, quiet)
	defer f.Close()
	f.Notify(t.Context(), notice("bob@example.com", "carol@example.com"))
	var all []received
	for range 3 {
		select {
		case r := <-got:
			all = append(all, r)
		case <-time.After(10 * time.Second):
			t.Fatalf("tried %d times", len(all))
		}
	}
	for _, r := range all {
		if !verify(r.header, r.body, keyText, time.Now()) {
			t.Errorf("signature does not verify: %v", r.header)
		}
		if string(r.body) != string(all[0].body) || r.header.Get("webhook-id") != all[0].header.Get("webhook-id") {
			t.Error("a repetition cannot be recognised")
		}
	}
	if verify(all[0].header, append(all[0].body, ' '), keyText, time.Now()) || verify(all[0].header, all[0].body, "whsec_"+base64.StdEncoding.EncodeToString(make([]byte, 32)), time.Now()) {
		t.Error("the test's receiver takes anything")
	}
	var p payload
	if err := json.Unmarshal(all[0].body, &p); err != nil {
		t.Fatal(err)
	}
	if p.Type != session.NoticeWaiting || p.Data.URL != "https://gate.example.com/r/7" || len(p.Data.To) != 2 || p.Data.To[1].Email != "carol@example.com" ||
		p.Data.Request.Target != "orders" || p.Data.Request.Seconds != 1800 || p.Data.Request.Reason != "INC-42 stuck order" {
		t.Errorf("body is %s", all[0].body)
	}
	if strings.Contains(string(all[0].body), "dba") {
		t.Error("groups went out")
	}
	f.Close()
	if len(undelivered.all()) != 0 {
		t.Errorf("reported %+v", undelivered.all())
	}
}

// once sends one notice through a sink by itself.
func once(t *testing.T, s sink, n session.Notice) (*delivery, error) {
	t.Helper()
	d := &delivery{id: "msg_1", at: time.Now(), notice: n}
	return d, s.send(t.Context(), d)
}

func TestRedirectIsNotFollowed(t *testing.T) {
	var elsewhere atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	defer other.Close()
	server, ca := receiver(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
	})
	hook, err := newWebhook(WebhookConfig{Name: "a", URL: server.URL, Secret: "key", CA: ca}, secrets)
	if err != nil {
		t.Fatal(err)
	}
	_, err = once(t, hook, notice())
	if elsewhere.Load() != 0 || err == nil || err.Error() != "the receiver answered 307 Temporary Redirect" {
		t.Errorf("%d calls elsewhere, err %v", elsewhere.Load(), err)
	}
}

func TestReceiverWithAnotherCertificate(t *testing.T) {
	server, _ := receiver(t, func(http.ResponseWriter, *http.Request) { t.Error("it was told") })
	_, other := certificate(t)
	hook, err := newWebhook(WebhookConfig{Name: "a", URL: server.URL, Secret: "key", CA: other}, secrets)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := once(t, hook, notice()); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("err is %v", err)
	}
}

func TestWebhookErrorsHoldNoSecret(t *testing.T) {
	server, ca := receiver(t, func(w http.ResponseWriter, _ *http.Request) {
		panic(http.ErrAbortHandler) // the connection ends without an answer
	})
	for key, want := range map[string]string{"key": "post: ", "word": "the signing key is not"} {
		hook, err := newWebhook(WebhookConfig{Name: "a", URL: server.URL + "/T0/B0/pathsecret", Secret: key, CA: ca}, secrets)
		if err != nil {
			t.Fatal(err)
		}
		_, err = once(t, hook, notice())
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Fatalf("err is %v", err)
		}
		for _, no := range []string{"pathsecret", keyText, keyText[6:], "hunter2"} {
			if strings.Contains(err.Error(), no) {
				t.Errorf("%q is in %q", no, err)
			}
		}
	}
}
