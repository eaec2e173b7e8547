package http

import (
	"bytes"
	"encoding/base64"
	"io"
	"net/http"
	"slices"
	"testing"

	"github.com/gorilla/websocket"

	"github.com/sallyport/sallyport/credential"
	"github.com/sallyport/sallyport/internal/gatetest"
)

// A role's credential reaches the target in each of the ways that a policy can name, with
// requests and with websockets; what the client sends in its place does not.
func TestCredentials(t *testing.T) {
	first := &world{}
	first.certificates(t)
	for _, one := range []struct {
		name, role, secret string
		header             string   // that carries it; empty: none does
		want               []string // its values
	}{
		{"bearer", `options { auth = "bearer" }`, "pencil sharpener\n", "Authorization", []string{"Bearer pencil sharpener"}},
		{"basic", `options { auth = "basic" }`, "pencil", "Authorization", []string{"Basic " + base64.StdEncoding.EncodeToString([]byte("user:pencil"))}},
		{"basic with an account", "account = \"robot\"\noptions { auth = \"basic\" }", "pencil", "Authorization", []string{"Basic " + base64.StdEncoding.EncodeToString([]byte("robot:pencil"))}},
		{"header", "options {\nauth = \"header\"\nheader = \"x-api-key\"\n}", "pencil", "X-Api-Key", []string{"pencil"}},
		{"certificate", `options { auth = "certificate" }`, string(first.pair), "", nil},
	} {
		t.Run(one.name, func(t *testing.T) {
			seen := make(chan *http.Request, 2)
			w := newWorld(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				seen <- r
				if isWebsocket(r) {
					if socket, err := (&websocket.Upgrader{}).Upgrade(w, r, nil); err == nil {
						_ = socket.Close()
					}
					return
				}
				_, _ = io.WriteString(w, "application")
			}), options{
				tls: true, asksCertificate: one.header == "", extra: "websocket = true",
				roles:   "role \"user\" {\ncredential = \"app\"\n" + one.role + "\n}",
				secrets: credential.Set{"app": fixed(one.secret)},
			})
			by := w.SignIn(t, gatetest.Alice)
			forged := http.Header{"X-Api-Key": {"forged"}, "X_Api_Key": {"forged"}, "Authorization": {"Bearer forged"}, "AUTHORIZATION": {"Basic forged"}}
			var lines []string
			for name, values := range forged {
				lines = append(lines, name+": "+values[0])
			}
			ask(t, w.client(t, false, w.certificate(t, by)), http.MethodGet, w.app+"/", lines...).refused(t, http.StatusOK, "application")
			_ = w.dial(t, by, "/", forged)
			for range 2 {
				r := <-seen
				if one.header == "" {
					if len(r.TLS.PeerCertificates) != 1 || !bytes.Equal(r.TLS.PeerCertificates[0].Raw, first.cert.Certificate[0]) {
						t.Errorf("the target was shown %d certificates", len(r.TLS.PeerCertificates))
					}
					continue
				}
				if !slices.Equal(r.Header[one.header], one.want) || one.name == "header" && r.Header.Get("X_api_key") != "" {
					t.Errorf("the target was shown %v", r.Header)
				}
			}
		})
	}
}

// A credential that cannot be shown as the policy says opens nothing, and is told to
// nobody.
func TestCredentialsThatCannotBeShown(t *testing.T) {
	for _, one := range []struct{ auth, secret, words string }{
		{"bearer", "pencil\nsharpener", "The credential for this target cannot be sent"},
		{"basic", "pencil\x00", "The credential for this target cannot be sent"},
		{"certificate", "pencil", "is no certificate that can be shown"},
	} {
		app := newSeen()
		w := newWorld(t, app, options{
			tls: true, roles: "role \"user\" {\ncredential = \"app\"\noptions { auth = \"" + one.auth + "\" }\n}", secrets: credential.Set{"app": fixed(one.secret)},
		})
		s := ask(t, w.alice(t), http.MethodGet, w.app+"/")
		s.refused(t, http.StatusBadGateway, one.words)
		if bytes.Contains([]byte(s.body), []byte("pencil")) {
			t.Errorf("%s: the answer says %s", one.auth, s.body)
		}
		app.none(t)
	}
}

// A target gets the plain headers that the policy asks for, and whatever a name holds it
// stays one header.
func TestPlainHeaders(t *testing.T) {
	app := newSeen()
	w := newWorld(t, app, options{extra: `headers = { "X-Who" = "user", "X-Mail" = "email", "X-Name" = "name", "X-Groups" = "groups", "X-Role" = "role" }`})
	alice := gatetest.Alice
	alice.Name, alice.Groups = "Alice\r\nX-Evil: 1\x00", []string{"engineering", "oncall"}
	ask(t, w.client(t, false, w.certificate(t, w.SignIn(t, alice))), http.MethodGet, w.app+"/", "X-Role: forged", "X_Groups: forged").refused(t, http.StatusOK, "application")
	got := app.last(t).Header
	for name, want := range map[string]string{"X-Who": alice.ID(), "X-Mail": alice.Email, "X-Name": "Alice  X-Evil: 1", "X-Groups": "engineering,oncall", "X-Role": "user"} {
		if values := got[name]; len(values) != 1 || values[0] != want {
			t.Errorf("%s: %q, want %q", name, values, want)
		}
	}
	if got.Get("X-Evil") != "" || got.Get("X_groups") != "" {
		t.Errorf("the target was told %v", got)
	}
}
