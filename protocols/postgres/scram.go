package postgres

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"strconv"
	"strings"
)

// SCRAM-SHA-256 (RFC 5802, RFC 7677), with channel binding tls-server-end-point
// (RFC 5929) where the target offers it inside TLS.
const (
	scramPlain = "SCRAM-SHA-256"
	scramPlus  = "SCRAM-SHA-256-PLUS"
	// maxIterations bounds what a target can make the gate compute; PostgreSQL's
	// default is 4,096.
	maxIterations = 1_000_000
)

// exchange is one SCRAM conversation of the client side.
type exchange struct {
	password  []byte
	gs2       string // the header, which says whether the channel is bound
	binding   []byte // the channel's data; nil: not bound
	nonce     string
	bare      string // client-first-message-bare
	signature []byte // what the server has to prove itself with
}

// scram answers AuthenticationSASL, and does not go on before the target has proved
// that it knows the password too.
func (s *server) scram(cred keyring, offered []byte) error {
	if len(cred.password) == 0 {
		return errNoPassword
	}
	x, mechanism, err := newExchange(cred.password, offered, s.conn)
	if err != nil {
		return err
	}
	first := x.gs2 + x.bare
	body := append([]byte(mechanism), 0)
	body = binary.BigEndian.AppendUint32(body, uint32(len(first)))
	if err := s.sendPassword(append(body, first...)); err != nil {
		return err
	}
	challenge, err := s.sasl(authSASLNext)
	if err != nil {
		return err
	}
	final, err := x.respond(challenge)
	if err != nil {
		return err
	}
	if err := s.sendPassword([]byte(final)); err != nil {
		return err
	}
	outcome, err := s.sasl(authSASLFinal)
	if err != nil {
		return err
	}
	return x.verify(outcome)
}

// sasl reads the next SASL message of the target.
func (s *server) sasl(want uint32) (string, error) {
	kind, body, err := s.receive()
	if err != nil {
		return "", err
	}
	if kind != 'R' || len(body) < 4 || binary.BigEndian.Uint32(body) != want {
		return "", errors.New("the target breaks off SCRAM")
	}
	return string(body[4:]), nil
}

func newExchange(password, offered []byte, conn any) (*exchange, string, error) {
	names := strings.Split(strings.TrimRight(string(offered), "\x00"), "\x00")
	x := &exchange{password: password, gs2: "n,,"}
	mechanism := scramPlain
	if t, ok := conn.(*tls.Conn); ok {
		binding, err := endPoint(t.ConnectionState())
		switch {
		case err != nil && !contains(names, scramPlain):
			return nil, "", err
		case err == nil && contains(names, scramPlus):
			mechanism, x.gs2, x.binding = scramPlus, "p=tls-server-end-point,,", binding
		case err == nil:
			x.gs2 = "y,," // says that we could: a meddler who hid PLUS is found out
		}
	}
	if !contains(names, mechanism) {
		return nil, "", fmt.Errorf("the target offers %q, and the gate speaks SCRAM-SHA-256", names)
	}
	nonce := make([]byte, 18)
	_, _ = rand.Read(nonce) // never fails (crypto/rand)
	x.nonce = base64.StdEncoding.EncodeToString(nonce)
	x.bare = "n=,r=" + x.nonce // PostgreSQL takes the user from the startup message
	return x, mechanism, nil
}

// endPoint is the hash of the target's certificate, by the hash of its signature
// (RFC 5929 section 4.1: MD5 and SHA-1 become SHA-256).
func endPoint(state tls.ConnectionState) ([]byte, error) {
	if len(state.PeerCertificates) == 0 {
		return nil, errors.New("the target showed no certificate to bind to")
	}
	leaf := state.PeerCertificates[0]
	var h hash.Hash
	switch leaf.SignatureAlgorithm {
	case x509.MD5WithRSA, x509.SHA1WithRSA, x509.ECDSAWithSHA1, x509.SHA256WithRSA, x509.ECDSAWithSHA256, x509.SHA256WithRSAPSS:
		h = sha256.New()
	case x509.SHA384WithRSA, x509.ECDSAWithSHA384, x509.SHA384WithRSAPSS:
		h = sha512.New384()
	case x509.SHA512WithRSA, x509.ECDSAWithSHA512, x509.SHA512WithRSAPSS:
		h = sha512.New()
	default:
		return nil, fmt.Errorf("no channel binding is defined for %s certificates", leaf.SignatureAlgorithm)
	}
	h.Write(leaf.Raw)
	return h.Sum(nil), nil
}

// respond makes client-final-message from server-first-message.
func (x *exchange) respond(challenge string) (string, error) {
	parts := strings.Split(challenge, ",")
	if len(parts) < 3 || !strings.HasPrefix(parts[0], "r=") || !strings.HasPrefix(parts[1], "s=") || !strings.HasPrefix(parts[2], "i=") {
		return "", errors.New("the target's SCRAM challenge cannot be read")
	}
	nonce := parts[0][2:]
	if len(nonce) <= len(x.nonce) || !strings.HasPrefix(nonce, x.nonce) {
		return "", errors.New("the target's SCRAM nonce does not go on from ours")
	}
	salt, err := base64.StdEncoding.DecodeString(parts[1][2:])
	if err != nil || len(salt) == 0 {
		return "", errors.New("the target's SCRAM salt cannot be read")
	}
	iterations, err := strconv.Atoi(parts[2][2:])
	if err != nil || iterations < 1 || iterations > maxIterations {
		return "", fmt.Errorf("the target asks for %q SCRAM iterations", parts[2][2:])
	}
	key, err := salted.of(x.password, salt, iterations)
	if err != nil {
		return "", fmt.Errorf("derive the SCRAM key: %w", err)
	}
	final := "c=" + base64.StdEncoding.EncodeToString(append([]byte(x.gs2), x.binding...)) + ",r=" + nonce
	message := x.bare + "," + challenge + "," + final
	clientKey := mac(key, "Client Key")
	stored := sha256.Sum256(clientKey)
	proof := mac(stored[:], message)
	for i := range proof {
		proof[i] ^= clientKey[i]
	}
	x.signature = mac(mac(key, "Server Key"), message)
	return final + ",p=" + base64.StdEncoding.EncodeToString(proof), nil
}

// verify checks the target's own proof.
func (x *exchange) verify(outcome string) error {
	signature, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(outcome, "v="))
	if err != nil || !strings.HasPrefix(outcome, "v=") || !hmac.Equal(signature, x.signature) {
		return errors.New("the target does not know the password itself")
	}
	return nil
}

func mac(key []byte, text string) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(text))
	return m.Sum(nil)
}
