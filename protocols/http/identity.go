package http

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sallyport/sallyport/identity"
)

const (
	jwtLife   = time.Minute
	keyLife   = 24 * time.Hour // then a new one signs
	keyLead   = 2 * time.Hour  // a new one is in the key set before: targets keep what they have read, Grafana for an hour
	keyLinger = time.Hour      // an old one stays in the key set
)

// signer signs who asks, for targets (RFC 7519, ES256 of RFC 7518).
type signer struct {
	mu   sync.Mutex
	keys []signingKey // by from: those that signed, the one that signs, the one that will
}

type signingKey struct {
	key    *ecdsa.PrivateKey
	id     string
	header string    // of a JWT, encoded
	from   time.Time // signs from then on, until the next one does
}

func newSigner() (*signer, error) {
	k, err := newKey(time.Now())
	return &signer{keys: []signingKey{k}}, err
}

func newKey(from time.Time) (signingKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return signingKey{}, fmt.Errorf("make the key for identities: %w", err)
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		return signingKey{}, fmt.Errorf("make the key for identities: %w", err)
	}
	sum := sha256.Sum256(point)
	k := signingKey{key: key, id: encode(sum[:12]), from: from}
	k.header = encode([]byte(`{"alg":"ES256","typ":"JWT","kid":"` + k.id + `"}`))
	return k, nil
}

// turn makes the next key in time, and forgets those that signed nothing for a while.
// The caller holds mu.
func (s *signer) turn(now time.Time) error {
	newest := s.keys[len(s.keys)-1]
	if begins := newest.from.Add(keyLife); !now.Before(begins.Add(-keyLead)) {
		if soonest := now.Add(keyLead); begins.Before(soonest) { // nobody asked for a day
			begins = soonest
		}
		k, err := newKey(begins)
		if err != nil {
			return err
		}
		s.keys = append(s.keys, k)
	}
	for len(s.keys) > 1 && now.After(s.keys[1].from.Add(keyLinger)) {
		s.keys = s.keys[1:]
	}
	return nil
}

// current is the key that signs now.
func (s *signer) current(now time.Time) (signingKey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.turn(now); err != nil {
		return signingKey{}, err
	}
	signs := s.keys[0]
	for _, k := range s.keys[1:] {
		if !k.from.After(now) {
			signs = k
		}
	}
	return signs, nil
}

// claims are what a target is told of a session's user; sign adds what is each token's own.
type claims struct {
	Issuer   string   `json:"iss"`
	Audience string   `json:"aud"` // the target's name
	Subject  string   `json:"sub"` // identity.User.ID
	Email    string   `json:"email,omitempty"`
	Name     string   `json:"name,omitempty"`
	Groups   []string `json:"groups,omitempty"`
	Role     string   `json:"role"`
	Session  string   `json:"session"`
}

// begin is the claims as JSON, without its end.
func (c claims) begin() []byte {
	text, _ := json.Marshal(c) //nolint:errchkjson // strings
	return text[:len(text)-1]
}

// sign makes a JWT of claims that begin so, with a time and an identifier of its own.
func (s *signer) sign(begin []byte, now time.Time) (string, error) {
	k, err := s.current(now)
	if err != nil {
		return "", err
	}
	body := fmt.Appendf(slices.Clip(begin), `,"iat":%d,"exp":%d,"jti":%q}`, now.Unix(), now.Add(jwtLife).Unix(), identity.NewID())
	text := k.header + "." + encode(body)
	sum := sha256.Sum256([]byte(text))
	// Without a source of randomness the nonce is that of RFC 6979, at half the cost.
	der, err := k.key.Sign(nil, sum[:], crypto.SHA256)
	var pair struct{ R, S *big.Int }
	if err == nil {
		_, err = asn1.Unmarshal(der, &pair)
	}
	if err != nil {
		return "", fmt.Errorf("sign the identity: %w", err)
	}
	var signature [64]byte // RFC 7518, section 3.4
	pair.R.FillBytes(signature[:32])
	pair.S.FillBytes(signature[32:])
	return text + "." + encode(signature[:]), nil
}

// identity is the JWT about a session's user for one request more: its own, or one that
// serves others too, for as long as the target's options say.
func (l *live) identity() (string, error) {
	now := time.Now()
	keep, _ := l.site.identityFor()
	if keep == 0 {
		return l.h.signer.sign(l.claims, now)
	}
	l.signing.Lock()
	defer l.signing.Unlock()
	if now.Sub(l.signed) >= keep {
		token, err := l.h.signer.sign(l.claims, now)
		if err != nil {
			return "", err
		}
		l.token, l.signed = token, now
	}
	return l.token, nil
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// jwks writes the key set (RFC 7517).
func (s *signer) jwks(w http.ResponseWriter, now time.Time) {
	type jwk struct {
		Type  string `json:"kty"`
		Curve string `json:"crv"`
		Use   string `json:"use"`
		Alg   string `json:"alg"`
		ID    string `json:"kid"`
		X     string `json:"x"`
		Y     string `json:"y"`
	}
	set := struct {
		Keys []jwk `json:"keys"`
	}{}
	s.mu.Lock()
	err := s.turn(now)
	for _, k := range s.keys {
		point, err := k.key.PublicKey.Bytes() // 4, X, Y (SEC 1, section 2.3.3)
		if err == nil {
			set.Keys = append(set.Keys, jwk{"EC", "P-256", "sig", "ES256", k.id, encode(point[1:33]), encode(point[33:65])})
		}
	}
	s.mu.Unlock()
	if err != nil {
		http.Error(w, "no key", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/jwk-set+json")
	w.Header().Set("Cache-Control", "public, max-age=300")
	_ = json.NewEncoder(w).Encode(set) //nolint:errchkjson // the client has gone, or has it
}

// say is one fact of a user for a plain header.
func say(u identity.User, role, fact string) string {
	switch fact {
	case "user":
		return u.ID()
	case "email":
		return u.Email
	case "name":
		return u.Name
	case "groups":
		return strings.Join(u.Groups, ",")
	case "role":
		return role
	}
	return ""
}
