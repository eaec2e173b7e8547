package web

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"
	"unicode"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/spell"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/session"
)

//go:embed templates/*.html
var templateFiles embed.FS

// A view is what a page's template is given.
type view struct {
	Title   string
	Wide    bool
	Refresh int    // seconds after which a page without JavaScript loads itself again; 0: never
	Go      string // where the browser goes on to by itself; a path of the gate's
	Topics  string // kinds of session.Change after which the page reads itself again, by blanks
	Body    any
	Scripts []string // paths of what this page alone needs
	Styles  []string

	// Set by show.
	Who   identity.User
	Nav   []navItem
	Glass *banner // nil: nothing is broken
	Style string
	Code  string
}

type navItem struct {
	Path    string
	Name    string
	Current bool
}

// loadPages parses each template together with the layout.
func (s *Web) loadPages() (map[string]*template.Template, error) {
	files, err := fs.Glob(templateFiles, "templates/*.html")
	if err != nil {
		return nil, fmt.Errorf("list templates: %w", err)
	}
	pages := map[string]*template.Template{}
	for _, file := range files {
		name := strings.TrimSuffix(path.Base(file), ".html")
		if name == "layout" {
			continue
		}
		t, err := template.New("layout.html").Funcs(s.funcs()).ParseFS(templateFiles, "templates/layout.html", file)
		if err != nil {
			return nil, fmt.Errorf("parse template %s: %w", name, err)
		}
		pages[name] = t
	}
	return pages, nil
}

// show renders a page. It is rendered whole before the first byte goes out, so an
// error never leaves half a page behind.
func (s *Web) show(v *visit, code int, name string, data view) error {
	data.Who, data.Style, data.Code = v.by.User, s.assets["style.css"].path, s.assets["app.js"].path
	if !v.by.User.IsZero() {
		data.Nav, data.Glass = s.nav(v), s.glass(v)
		if data.Topics != "" {
			data.Topics += " review"
		}
	}
	var b bytes.Buffer
	if err := s.pages[name].Execute(&b, data); err != nil {
		return fmt.Errorf("render %s: %w", name, err)
	}
	v.w.Header().Set("Content-Type", "text/html; charset=utf-8")
	v.w.WriteHeader(code)
	_, err := io.WriteString(v.w, visible(b.String()))
	if err != nil {
		s.logger.Debug("the browser went away", "err", err)
	}
	return nil
}

// nav lists the pages that are of use to this person.
func (s *Web) nav(v *visit) []navItem {
	inbox := "Inbox"
	if waiting, err := s.gate.Inbox(v.r.Context(), v.by); err == nil && len(waiting) > 0 {
		inbox = fmt.Sprintf("Inbox (%d)", len(waiting))
	}
	items := []navItem{{"/", "Home", false}, {"/requests", inbox, false}, {"/grants", "Grants", false}, {"/sessions", "Sessions", false}}
	if s.has(v, policy.RightReview) {
		items = append(items, navItem{"/recordings", "Recordings", false})
	}
	if s.has(v, policy.RightAudit) {
		items = append(items, navItem{"/log", "Record", false})
	}
	if s.has(v, policy.RightUsers) {
		items = append(items, navItem{"/users", "Users", false})
	}
	for i := range items {
		at := items[i].Path
		items[i].Current = v.r.URL.Path == at || at != "/" && strings.HasPrefix(v.r.URL.Path, at+"/") ||
			at == "/grants" && strings.HasPrefix(v.r.URL.Path, "/g/")
	}
	return items
}

// visible writes control, direction and zero-width characters as \u{...}, so that a
// name or a reason never looks like something else to the person who decides (class
// of CVE-2021-42574). It works on the whole page: no template of ours has any.
func visible(s string) string {
	clean := func(r rune) bool {
		return r == '\n' || r == '\t' || !unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Co)
	}
	if strings.IndexFunc(s, func(r rune) bool { return !clean(r) }) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if clean(r) {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, "\\u{%x}", r)
		}
	}
	return b.String()
}

func (s *Web) funcs() template.FuncMap {
	return template.FuncMap{
		"clock":     func(t time.Time) template.HTML { return stamp(t, "15:04:05 UTC", "clock") },
		"day":       func(t time.Time) template.HTML { return stamp(t, "2 Jan 2006, 15:04:05 UTC", "day") },
		"since":     func(t time.Time) template.HTML { return stamp(t, "15:04:05 UTC", "since") },
		"left":      func(t time.Time) template.HTML { return stamp(t, "15:04:05 UTC", "left") },
		"span":      spell.Span,
		"short":     func(u identity.User) string { return u.Short() },
		"join":      func(words []string) string { return strings.Join(words, ", ") },
		"scope":     func(s policy.Scope) string { return s.String() },
		"decidedBy": decidedBy, "approver": approver,
		"compact": spell.Compact,
		"seconds": func(d time.Duration) int { return int(d / time.Second) },
		"choices": spell.Choices,
		"needs":   needs,
		"waits":   s.gate.WaitsFor,
		"cause":   causeWords,
		"now":     s.now,
		"add":     func(t time.Time, d time.Duration) time.Time { return t.Add(d) },
	}
}

// stamp writes a time in UTC; the script shows it in the reader's own zone. how is
// the script's word for what to show.
func stamp(t time.Time, layout, how string) template.HTML {
	if t.IsZero() {
		return "–"
	}
	t = t.UTC()
	//nolint:gosec // made of a time and two constants; nothing of it comes from outside
	return template.HTML(fmt.Sprintf(`<time datetime="%s" data-show="%s" aria-live="off">%s</time>`, t.Format(time.RFC3339), how, t.Format(layout)))
}

// needs says who has to agree: "1 of dba, then 1 of leads".
func needs(d policy.Decision) string {
	if d.Automatic() {
		return "nobody: the rule decides"
	}
	var stages []string
	for _, stage := range d.Stages {
		stages = append(stages, fmt.Sprintf("%d of %s", stage.Count, names(stage.From.Groups, stage.From.Emails)))
	}
	return strings.Join(stages, ", then ")
}

// causeWords says why a session ended, in the words of a person.
func causeWords(r session.Record) string {
	words := map[string]string{
		"expired": "at the grant’s end", "revoked": "the grant was revoked", "killed": "it was killed", "closed": "the client closed it",
		"recorder": "it could not be recorded", "stopping": "the gate stopped", "policy": "the policy changed",
		"signed-out": "the person signed out", "error": "the connection failed", "crashed": "the gate crashed",
	}
	if say, ok := words[r.Cause]; ok {
		return say
	}
	return r.Cause
}

// redirect answers a form: 303, so that reloading does not send it again.
func redirect(v *visit, to string) error {
	http.Redirect(v.w, v.r, to, http.StatusSeeOther)
	return nil
}
