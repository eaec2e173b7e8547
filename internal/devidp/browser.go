package devidp

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/net/html"
)

// SignInBrowser signs in as a browser does: it opens address (the gate's own
// sign-in page, or an authorization URL), follows the redirects to the provider's
// form, fills it in, posts it, and follows the redirects back. The client needs a
// cookie jar and the right CA, and reaches the names by itself. The answer is the
// page at the end; the caller closes its body. A client whose CheckRedirect stops
// at the callback gets that redirect as the answer.
func SignInBrowser(client *http.Client, address, username, password string) (*http.Response, error) {
	reply, err := client.Get(address)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", address, err)
	}
	action, fields, err := readForm(reply)
	if err != nil {
		return nil, fmt.Errorf("sign-in form at %s: %w", reply.Request.URL.Redacted(), err)
	}
	fields.Set("username", username)
	fields.Set("password", password)
	reply, err = client.PostForm(action, fields)
	if err != nil {
		return nil, fmt.Errorf("post sign-in form: %w", err)
	}
	if reply.StatusCode == http.StatusUnauthorized && reply.Request.URL.Path == loginPath {
		_ = reply.Body.Close()
		return nil, errors.New("the provider refused user or password")
	}
	return reply, nil
}

// readForm finds the form that asks for a password, and closes the body.
func readForm(reply *http.Response) (action string, fields url.Values, err error) {
	defer func() { _ = reply.Body.Close() }()
	document, err := html.Parse(io.LimitReader(reply.Body, 1<<20))
	if err != nil {
		return "", nil, err
	}
	for node := range document.Descendants() {
		if node.Type != html.ElementNode || node.Data != "form" || !strings.EqualFold(attribute(node, "method"), "post") {
			continue
		}
		fields := url.Values{}
		for input := range node.Descendants() {
			if name := attribute(input, "name"); input.Data == "input" && name != "" {
				fields.Set(name, attribute(input, "value"))
			}
		}
		if !fields.Has("password") {
			continue
		}
		target, err := reply.Request.URL.Parse(attribute(node, "action"))
		if err != nil {
			return "", nil, err
		}
		return target.String(), fields, nil
	}
	return "", nil, fmt.Errorf("there is none (status %d)", reply.StatusCode)
}

func attribute(node *html.Node, name string) string {
	for _, a := range node.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}
