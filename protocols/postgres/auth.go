package postgres

import (
	"bytes"
	"crypto/md5" //nolint:gosec // PostgreSQL's md5 authentication is what some targets ask for
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
)

// Authentication requests (manual, "Message Formats", AuthenticationOk and after).
const (
	authOk        = 0
	authCleartext = 3
	authMD5       = 5
	authSASL      = 10
	authSASLNext  = 11
	authSASLFinal = 12
)

// keyring is what a role's secret holds: a password, or a client certificate with
// its key, both in PEM.
type keyring struct {
	password    []byte
	certificate *tls.Certificate
	err         error // the PEM cannot be used; said when it is needed
}

func parseCredential(secret []byte) keyring {
	if !bytes.HasPrefix(bytes.TrimSpace(secret), []byte("-----BEGIN ")) {
		return keyring{password: secret}
	}
	var certs, key []byte
	for rest := secret; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type == "CERTIFICATE" {
			certs = append(certs, pem.EncodeToMemory(block)...)
		} else {
			key = append(key, pem.EncodeToMemory(block)...)
		}
	}
	pair, err := tls.X509KeyPair(certs, key)
	if err != nil {
		return keyring{err: errors.New("the credential is no certificate with its key in PEM")} // err could quote the key
	}
	return keyring{certificate: &pair}
}

// authenticate answers what the target asks, up to AuthenticationOk.
func (s *server) authenticate(a account, cred keyring) error {
	if cred.err != nil {
		return cred.err
	}
	for notices := 0; ; {
		kind, body, err := s.receive()
		if err != nil {
			return err
		}
		if kind == 'N' && notices < 100 {
			notices++
			continue
		}
		if kind != 'R' || len(body) < 4 {
			return fmt.Errorf("the target sent a %q message instead of an authentication request", kind)
		}
		switch code := binary.BigEndian.Uint32(body); code {
		case authOk:
			return nil
		case authCleartext:
			err = s.cleartext(cred)
		case authMD5:
			err = s.md5(a, cred, body[4:])
		case authSASL:
			err = s.scram(cred, body[4:])
		default:
			return fmt.Errorf("the target asks for authentication method %d, which the gate does not know", code)
		}
		if err != nil {
			return err
		}
	}
}

var errNoPassword = errors.New("the target asks for a password, and the role's credential holds none")

// cleartext sends the password itself, and so only inside TLS or on this machine.
func (s *server) cleartext(cred keyring) error {
	if len(cred.password) == 0 {
		return errNoPassword
	}
	if _, secure := s.conn.(*tls.Conn); !secure && !local(s.conn.RemoteAddr()) {
		return errors.New("the target asks for the password in cleartext on a connection without tls")
	}
	return s.sendPassword(append(bytes.Clone(cred.password), 0))
}

func local(a net.Addr) bool {
	switch a := a.(type) {
	case *net.UnixAddr:
		return true
	case *net.TCPAddr:
		return a.IP.IsLoopback()
	}
	return false
}

// md5 answers with md5(md5(password, user), salt), as hex with "md5" before it.
func (s *server) md5(a account, cred keyring, salt []byte) error {
	if len(cred.password) == 0 {
		return errNoPassword
	}
	inner := md5.Sum(append(bytes.Clone(cred.password), a.name...))    //nolint:gosec // see the import
	outer := md5.Sum(append(hex.AppendEncode(nil, inner[:]), salt...)) //nolint:gosec // see the import
	return s.sendPassword(append(hex.AppendEncode([]byte("md5"), outer[:]), 0))
}

func (s *server) sendPassword(body []byte) error {
	s.password = true
	if _, err := s.conn.Write(appendMessage(nil, 'p', body)); err != nil {
		return fmt.Errorf("write to the target: %w", err)
	}
	return nil
}
