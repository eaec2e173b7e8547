package web

import (
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
)

// A recording of web traffic shows times, statuses and sizes, and the bodies and messages
// of each request with it.
func TestRecordingPageOfRequests(t *testing.T) {
	f := start(t)
	alice, bob, sam := f.as(t, "alice"), f.as(t, "bob"), f.as(t, "sam")
	sess, stop := f.running(t, alice, bob,
		audit.Request{N: 1, Method: "POST", Path: "/orders?x=<script>", Headers: []audit.Header{{Name: "User-Agent", Value: "curl"}}},
		audit.Request{N: 2, Method: "GET", Path: "/clock"},
		audit.Body{N: 1, Direction: "up", Type: "application/json", Text: `{"a":"<script>","password":"(hidden)"}`, Size: 40, Hidden: 1},
		audit.RequestDone{N: 1, Status: 201, Sent: 40, Bytes: 7, Took: 3 * time.Millisecond, Headers: []audit.Header{{Name: "Server", Value: "nginx"}}},
		audit.Message{N: 2, Direction: "down", Kind: "text", Text: "tick\x1b[2J", Size: 70_000, Cut: true},
		audit.RequestDone{N: 2, Status: 101, Up: 1, Down: 2},
		audit.Request{N: 3, Method: "POST", Path: "/test.Echo/Say"},
		audit.RequestDone{N: 3, Status: 200, Call: "7"},
		audit.Request{N: 4, Method: "GET", Path: "/download"},
		audit.RequestDone{N: 4, Status: 200, Bytes: 5, Cut: true},
	)
	_ = stop()
	until(t, "the session has ended", func() bool { return strings.Contains(sam.get("/sessions").body, "No session is live") })
	sam.get("/recordings/"+sess.ID()).want(t, 200, "4 requests, 1 error, 12 bytes out", "<h2>Requests</h2>", ">Status</th>",
		"POST /orders?x=&lt;script&gt;", "User-Agent: curl", "Server: nginx", "201", "40 bytes up", "7 bytes down", "3 ms",
		"up, application/json, 40 bytes, 1 left out", "(hidden)", "down, text, 70000 bytes, the beginning", "tick\\u{1b}[2J", "1 frames up", "2 frames down",
		"gRPC 7", "the client did not get the whole answer").lacks(t, "<script>", "\x1b")
}
