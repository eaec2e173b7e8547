package devidp

import (
	"html/template"
	"net/http"

	"github.com/zitadel/oidc/v3/pkg/op"
)

const (
	loginPath = "/login"
	maxForm   = 4 << 10 // bytes
)

func routes(provider *op.Provider, s *store) http.Handler {
	mux := http.NewServeMux()
	callback := op.AuthCallbackURL(provider)
	issuer := op.NewIssuerInterceptor(provider.IssuerFromRequest)
	mux.HandleFunc("GET "+loginPath, func(w http.ResponseWriter, r *http.Request) {
		id := r.URL.Query().Get("id")
		if !s.waits(id) {
			show(w, http.StatusNotFound, form{Wrong: "There is no such sign-in. Go back to where you came from and begin again."})
			return
		}
		show(w, http.StatusOK, form{ID: id})
	})
	mux.HandleFunc("POST "+loginPath, issuer.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		id, name := r.PostFormValue("id"), r.PostFormValue("username")
		if err := s.signIn(id, name, r.PostFormValue("password")); err != nil {
			show(w, http.StatusUnauthorized, form{ID: id, Name: name, Wrong: "Not signed in: " + err.Error() + "."})
			return
		}
		http.Redirect(w, r, callback(r.Context(), id), http.StatusSeeOther)
	}))
	mux.Handle("/", provider)
	return mux
}

type form struct{ ID, Name, Wrong string }

func show(w http.ResponseWriter, status int, f form) {
	header := w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	// No form-action: browsers apply it to the redirects after the form, too, and
	// those lead to the gate.
	header.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'")
	w.WriteHeader(status)
	_ = page.Execute(w, f) // the browser has gone; there is nobody to tell
}

var page = template.Must(template.New("login").Parse(`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Sign in to the demo</title>
<style>
:root { color-scheme: light dark; }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 22rem; margin: 12vh auto 0; padding: 0 1rem;
  color: light-dark(#1c2024, #eceef0); background: light-dark(#fcfcfd, #111315); }
h1 { font-size: 1.25rem; }
label { display: block; margin-top: 1rem; }
input, button { font: inherit; box-sizing: border-box; width: 100%; min-height: 48px; padding: 0 .75rem;
  border: 1px solid light-dark(#8b8d98, #696e77); border-radius: 6px; background: transparent; color: inherit; }
button { margin-top: 1.5rem; border: 0; color: #fff; background: #1f5fbf; }
.wrong { color: light-dark(#b42318, #ff9b8f); }
</style>
</head>
<body>
<main>
<h1>Sign in to the demo</h1>
{{with .Wrong}}<p class="wrong" role="alert">{{.}}</p>{{end}}
{{if .ID}}<form method="post" action="/login">
<input type="hidden" name="id" value="{{.ID}}">
<label for="username">User</label>
<input id="username" name="username" value="{{.Name}}" autocomplete="username" autocapitalize="none" required{{if not .Name}} autofocus{{end}}>
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password" required{{if .Name}} autofocus{{end}}>
<button type="submit">Sign in</button>
</form>
<p>Invented people of the demo: alice, bob, carol, sam. The demo printed their passwords.</p>{{end}}
</main>
</body>
</html>
`))
