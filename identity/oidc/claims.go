package oidc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/sallyport/sallyport/identity"
)

// Limits on what is taken from a provider; more is refused, never cut.
const (
	maxSubject = 255 // signs; OpenID Connect Core section 2
	maxEmail   = 254 // signs; RFC 5321 section 4.5.3.1.3, less the brackets
	maxGroups  = 1000
	maxClaim   = 256 // bytes of a group's name or a mapped claim
)

// user makes the identity of what the provider said. Errors name the claim, never
// its value.
func (c Config) user(said claims) (identity.User, error) {
	u := identity.User{Issuer: c.Issuer, Kind: c.Kind}
	var err error
	if u.Subject, err = subject(said); err != nil {
		return identity.User{}, err
	}
	if u.Claims, err = c.mapped(said); err != nil {
		return identity.User{}, err
	}
	if c.Kind == identity.Workload {
		// Groups are a person's; rules match a pipeline by its mapped claims.
		return u, nil
	}
	if u.Email, err = c.email(said); err != nil {
		return identity.User{}, err
	}
	if u.Groups, err = c.groups(said); err != nil {
		return identity.User{}, err
	}
	if c.Person != "" {
		if u.Person, err = said.text(c.Person); err != nil {
			return identity.User{}, err
		}
		if u.Person == "" {
			return identity.User{}, fmt.Errorf("the claim %q, which joins the accounts of one person, is missing", c.Person)
		}
	}
	u.Name = c.name(said)
	return u, nil
}

func subject(said claims) (string, error) {
	sub, err := said.text("sub")
	if err != nil {
		return "", err
	}
	if sub == "" || len(sub) > maxSubject {
		return "", fmt.Errorf("the claim \"sub\" must have 1 to %d signs", maxSubject)
	}
	for _, c := range []byte(sub) {
		if c < ' ' || c > '~' {
			return "", errors.New("the claim \"sub\" must be plain ASCII")
		}
	}
	return sub, nil
}

// email takes the address exactly as it is given. It is not the identity (issuer
// and subject are), but rules name people by it and approvers know each other by it.
// So an address that looks like another one is refused: no signs outside ASCII, one
// "@", no quoting. Case is neither folded nor refused: folding would make one person
// of two accounts where a provider tells them apart, and rules compare exactly.
func (c Config) email(said claims) (string, error) {
	address, err := said.text(c.Email)
	if err != nil {
		return "", err
	}
	if address == "" {
		return "", fmt.Errorf("the claim %q is missing; the client may need the scope email", c.Email)
	}
	if !plainAddress(address) {
		return "", fmt.Errorf("the claim %q is no plain e-mail address", c.Email)
	}
	if c.AllowUnverifiedEmail {
		return address, nil
	}
	// Some providers write the truth value as a string.
	switch string(bytes.TrimSpace(said["email_verified"])) {
	case "true", `"true"`:
		return address, nil
	}
	return "", errors.New("the provider does not say that the e-mail address is verified (email_verified)")
}

func plainAddress(address string) bool {
	local, domain, found := strings.Cut(address, "@")
	if !found || local == "" || domain == "" || len(address) > maxEmail {
		return false
	}
	return only(local, "!#$%&'*+/=?^_`{|}~.-") && only(domain, ".-")
}

// only reports that s holds letters and digits of ASCII and the given signs.
func only(s, signs string) bool {
	for _, c := range []byte(s) {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !letter && strings.IndexByte(signs, c) < 0 {
			return false
		}
	}
	return true
}

// groups insists on a list: a provider that leaves the claim out (or puts it
// elsewhere because there are too many) has not said that there are none, and a
// forbid rule on a group would silently not match.
func (c Config) groups(said claims) ([]string, error) {
	raw, there := said[c.Groups]
	var list []string
	if !there || json.Unmarshal(raw, &list) != nil || list == nil {
		return nil, fmt.Errorf("the claim %q must be a list of group names; set the provider up to send it, or name the right claim in identity.hcl", c.Groups)
	}
	if len(list) > maxGroups {
		return nil, fmt.Errorf("the claim %q has more than %d groups; set the provider up to send fewer", c.Groups, maxGroups)
	}
	for _, group := range list {
		if group == "" || len(group) > maxClaim || !printable(group) {
			return nil, fmt.Errorf("the claim %q holds a name that is empty, longer than %d bytes or not printable", c.Groups, maxClaim)
		}
	}
	return list, nil
}

// mapped reads the claims that rules use. One that is absent stays absent: rules
// see the empty string.
func (c Config) mapped(said claims) (map[string]string, error) {
	if len(c.Claims) == 0 {
		return nil, nil
	}
	found := map[string]string{}
	for name, claim := range c.Claims {
		raw, there := said[claim]
		if !there {
			continue
		}
		value, err := scalar(raw)
		if err != nil {
			return nil, fmt.Errorf("the claim %q %w", claim, err)
		}
		found[name] = value
	}
	return found, nil
}

// scalar reads a string, number or truth value as text. What two readers could
// read differently is refused.
func scalar(raw json.RawMessage) (string, error) {
	var value any
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	if err := decoder.Decode(&value); err != nil {
		return "", errors.New("is no JSON value")
	}
	var text string
	switch v := value.(type) {
	case string:
		text = v
	case json.Number:
		text = v.String()
	case bool:
		text = fmt.Sprint(v)
	default:
		return "", errors.New("must be a string, a number, true or false")
	}
	if len(text) > maxClaim || !printable(text) {
		return "", fmt.Errorf("is longer than %d bytes or not printable", maxClaim)
	}
	return text, nil
}

// text reads a claim that must be a string. An absent one is empty.
func (c claims) text(name string) (string, error) {
	raw, there := c[name]
	if !there {
		return "", nil
	}
	var text *string
	if json.Unmarshal(raw, &text) != nil || text == nil {
		return "", fmt.Errorf("the claim %q must be a string", name)
	}
	if len(*text) > maxClaim || !printable(*text) {
		return "", fmt.Errorf("the claim %q is longer than %d bytes or not printable", name, maxClaim)
	}
	return *text, nil
}

// name is only for people to read, so one that is too long or could deceive
// (control signs, changes of direction) is left out and refuses nobody.
func (c Config) name(said claims) string {
	text, err := said.text(c.Name)
	if err != nil {
		return ""
	}
	return text
}

// printable refuses control signs, line breaks, changes of direction and whatever
// else unicode.IsPrint does, so that no name reaches a terminal as a command.
func printable(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}
