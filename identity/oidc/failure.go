package oidc

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"

	"golang.org/x/oauth2"

	"github.com/sallyport/sallyport/identity"
)

// A Failure is why a sign-in or a refresh did not happen. Say is the sentence for
// the person, who may be a stranger; Error adds what helps whoever runs the gate.
// Neither holds a secret or a provider's own text.
type Failure struct {
	Say string
	Err error // may be nil
}

func (f *Failure) Error() string {
	if f.Err == nil {
		return f.Say
	}
	return f.Say + " (" + f.Err.Error() + ")"
}

func (f *Failure) Unwrap() error { return f.Err }

func fail(say string, err error) *Failure { return &Failure{Say: say, Err: err} }

// An answered is a provider's answer that is not 200. The body is left out: it may
// echo what was sent.
type answered struct {
	status int
	code   string // an OAuth error code; empty where there is none
}

func (a *answered) Error() string {
	if a.code == "" {
		return fmt.Sprintf("it answered %d", a.status)
	}
	return fmt.Sprintf("it answered %d %s", a.status, a.code)
}

// clean turns an error of a call to the provider into one that is safe to log and
// that is an identity.ErrUnreachable where the provider said nothing about the user.
func clean(err error) error {
	var (
		retrieve *oauth2.RetrieveError
		reply    *answered
		unknown  x509.UnknownAuthorityError
		host     x509.HostnameError
		invalid  x509.CertificateInvalidError
		operr    *net.OpError
		dns      *net.DNSError
		call     *url.Error
	)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, identity.ErrUnreachable):
		return err
	case errors.As(err, &retrieve):
		status := 0
		if retrieve.Response != nil {
			status = retrieve.Response.StatusCode
		}
		return clean(&answered{status: status, code: plainCode(retrieve.ErrorCode)})
	case errors.As(err, &reply):
		if reply.status >= 500 || reply.status == http.StatusTooManyRequests || reply.code == "temporarily_unavailable" {
			return fmt.Errorf("%w: %w", identity.ErrUnreachable, reply)
		}
		return reply
	case errors.As(err, &unknown):
		return fmt.Errorf("%w: its certificate is from an authority that the gate does not know; set the issuer's ca in identity.hcl", identity.ErrUnreachable)
	case errors.As(err, &host):
		return fmt.Errorf("%w: its certificate is for another name", identity.ErrUnreachable)
	case errors.As(err, &invalid):
		return fmt.Errorf("%w: its certificate is not valid now; look at its end and at this machine's clock", identity.ErrUnreachable)
	case errors.As(err, &dns):
		return fmt.Errorf("%w: its name is not known here", identity.ErrUnreachable)
	case errors.Is(err, context.DeadlineExceeded), isTimeout(err):
		return fmt.Errorf("%w: no answer in time", identity.ErrUnreachable)
	case errors.As(err, &operr):
		return fmt.Errorf("%w: no connection (%s)", identity.ErrUnreachable, operr.Op)
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("%w: %w", identity.ErrUnreachable, context.Canceled)
	case errors.As(err, &call): // a connection that the provider closed, as when it restarts
		return fmt.Errorf("%w: the connection broke", identity.ErrUnreachable)
	}
	return puzzling("its answer was not understood")
}

// puzzling stands for an answer that makes no sense: half of one, or an error page
// of something in between. It says nothing about the user, so it counts as none; its
// own text is left out.
type puzzling string

func (p puzzling) Error() string        { return string(p) }
func (p puzzling) Is(target error) bool { return target == identity.ErrUnreachable }

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// plainCode lets an error code pass only in the form that RFC 6749 section 5.2 and
// its extensions use, so that nothing else gets into a log or a page.
func plainCode(code string) string {
	if len(code) > 40 {
		return ""
	}
	for _, c := range []byte(code) {
		if c != '_' && (c < 'a' || c > 'z') {
			return ""
		}
	}
	return code
}
