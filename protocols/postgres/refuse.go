package postgres

import (
	"errors"
	"io"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/sallyport/sallyport/proxy"
	"github.com/sallyport/sallyport/session"
)

// SQLSTATEs that the gate says (manual, "PostgreSQL Error Codes").
const (
	stateNotAllowed  = "28000" // invalid_authorization_specification
	stateBadToken    = "28P01" // invalid_password
	stateEnded       = "57P01" // admin_shutdown
	stateNotNow      = "57P03" // cannot_connect_now
	stateNoTarget    = "08006" // connection_failure
	stateProtocol    = "08P01" // protocol_violation
	stateInvalid     = "22023" // invalid_parameter_value
	stateTargetState = "08004" // sqlserver_rejected_establishment_of_sqlconnection
	stateInternal    = "XX000" // internal_error
)

// refuse is the door that all errors leave by. A client that has been told, or that
// has gone, is told nothing. Refusals come after AuthenticationOk, because libpq with
// sslmode=prefer tries again in plaintext after one that comes before; a bad token,
// and a client without TLS, are told before it.
func (c *conn) refuse(err error) {
	if err == nil || c.told || gone(err) || c.version == 0 && !isOurs(err) {
		return
	}
	c.told = true
	var out []byte
	if !errors.Is(err, session.ErrBadToken) && (c.peer() != nil || c.h.config.Plaintext) && c.version != 0 {
		out = c.ok(out)
	}
	if c.write(c.fatal(out, err), writeWait) == nil {
		c.endWrite()
	}
}

// gone reports that there is nobody left to tell.
func gone(err error) bool {
	if errors.Is(err, proxy.ErrReset) || errors.Is(err, errHungUp) {
		return true
	}
	if _, ours := session.Message(err); ours {
		return false
	}
	var network *net.OpError
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) || errors.As(err, &network)
}

// isOurs reports errors with a sentence for the user: a client that sent nothing we
// understand is told only those.
func isOurs(err error) bool {
	var invalid *session.Invalid
	var ended *session.Ended
	return errors.As(err, &invalid) || errors.As(err, &ended)
}

// endWrite says that nothing more comes.
func (c *conn) endWrite() {
	c.lingers = true
	_ = proxy.CloseWrite(c.net) // the client may have gone, which is as well
}

// linger reads away what the client still sends for a moment: closing with input
// unread resets the connection, and the last words would be lost with it.
func (c *conn) linger() {
	if !c.lingers {
		return
	}
	_ = c.base.SetReadDeadline(time.Now().Add(proxy.CutWait))
	_, _ = io.Copy(io.Discard, io.LimitReader(c.base, 1<<20))
}

// ok adds AuthenticationOk where it has not gone out yet.
func (c *conn) ok(dst []byte) []byte {
	if c.admitted {
		return dst
	}
	c.admitted = true
	return encode(dst, &pgproto3.AuthenticationOk{})
}

// notice shows a held client one line.
func (c *conn) notice(line string) error {
	return c.write(appendNotice(c.ok(nil), line), writeWait)
}

func appendNotice(dst []byte, line string) []byte {
	return encode(dst, &pgproto3.NoticeResponse{Severity: "NOTICE", SeverityUnlocalized: "NOTICE", Code: "00000", Message: ourWords(line)})
}

// fatal adds our error as PostgreSQL would say it. Internal errors are logged with a
// reference by the gate.
func (c *conn) fatal(dst []byte, err error) []byte {
	return encode(dst, &pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: sqlstate(err), Message: ourWords(c.gate.Message(err))})
}

// ourWords marks a line as the gate's. A NUL would end the message early.
func ourWords(line string) string { return "sallyport: " + strings.ReplaceAll(line, "\x00", "") }

func sqlstate(err error) string {
	var ended *session.Ended
	var denied *session.Denied
	var invalid *session.Invalid
	var held *session.Held
	var failed *session.Failed
	switch {
	case errors.Is(err, session.ErrBadToken):
		return stateBadToken
	case errors.As(err, &ended):
		return stateEnded
	case errors.As(err, &denied):
		return stateNotAllowed
	case errors.As(err, &invalid) && invalid.Field == "protocol":
		return stateProtocol
	case errors.As(err, &invalid):
		return stateInvalid
	case errors.As(err, &held):
		return stateNotNow
	case errors.As(err, &failed) && errors.As(failed.Err, new(*targetError)):
		return stateTargetState
	case errors.As(err, &failed):
		return stateNoTarget
	}
	return stateInternal
}
