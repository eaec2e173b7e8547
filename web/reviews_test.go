package web

import (
	"testing"
	"time"

	"github.com/sallyport/sallyport/session"
)

// Everybody sees on every page that the glass is broken; what and by whom is for those
// who review it and whoever did it.
func TestGlassIsBrokenForAllToSee(t *testing.T) {
	f := start(t)
	alice, bob, sam := f.as(t, "alice"), f.as(t, "bob"), f.as(t, "sam")
	alice.get("/").want(t, 200, "break the glass").lacks(t, "The glass is broken")
	alice.get("/requests/new?target=billing&role=writer&glass=yes").want(t, 200, "Break the glass, for billing as writer", `name="glass" value="yes" checked`)
	at := alice.post("/requests/new", "access", "billing as writer", "reason", "INC-9", "glass", "yes", "for", "30m").want(t, 200, "The glass was broken")
	for _, page := range []string{"/", "/requests", "/grants", "/sessions", "/reviews", "/requests/new", at.url.Path} {
		alice.get(page).want(t, 200, `The glass is broken: alice has <span class="what">billing</span> as <span class="what">writer</span> until`)
	}
	bob.get("/").want(t, 200, "The glass is broken at 1 target").lacks(t, "billing</span>")
	bob.get("/reviews").want(t, 200, "No review is open")
	sam.get("/users").want(t, 200, "The glass is broken: alice has", "Review it")

	list := decode[struct{ Reviews []session.Broken }](t, sam.api("GET", "/api/v1/reviews?state=open", "", nil).want(t, 200)).Reviews
	if len(list) != 1 || !list[0].May || !list[0].Active {
		t.Fatalf("%+v", list)
	}
	review := "/reviews/" + list[0].ID
	sam.get("/g/"+list[0].ID).want(t, 200, "alice has")
	sam.post(review, "word", "fine").want(t, 403, "This grant is still active, until")
	alice.post("/g/"+list[0].ID+"/release").want(t, 200)
	alice.get("/").lacks(t, "The glass is broken")
	sam.get("/").want(t, 200, "alice broke the glass of", "the review is due by")
	sam.post(review, "word", " ").want(t, 422, "Say what you found")
	sam.api("POST", "/api/v1"+review+"/done", "", map[string]string{"word": ""}).want(t, 422, "Say what you found")
	bob.post(review, "word", "fine").want(t, 403, "you are not among them")
	f.ahead.Store(int64(11 * time.Minute))
	sam.get("/reviews").want(t, 200, "a review needs a sign-in of the last ten minutes")
	sam.post(review, "word", "fine").want(t, 403, "A review needs a sign-in of the last ten minutes")
	f.ahead.Store(0)
	sam.post(review, "word", "one row\nput back").want(t, 200, "No review is open", "“one row put back”")
	sam.get("/").lacks(t, "broke the glass")
}

func TestHeldConnectionsPageOffersToBreakTheGlass(t *testing.T) {
	f := start(t)
	alice := f.as(t, "alice")
	c := f.connect(t, "billing", "writer", "127.0.0.1:40000")
	page := alice.get(c.link).want(t, 200, "Break the glass: it opens at once", "security  reviews it afterwards")
	alice.post(c.link, "phrase", c.phrase, "reason", "INC-9", "glass", "yes").want(t, 200, "The glass is broken: alice has")
	if err := c.wait(t); err != nil {
		t.Fatal(err, page.url)
	}
	other := f.connect(t, "orders", "reader", "127.0.0.1:40001")
	alice.get(other.link).want(t, 200).lacks(t, "Break the glass: it opens")
}
