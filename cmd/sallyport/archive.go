package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/sallyport/sallyport/config"
	"github.com/sallyport/sallyport/internal/tarball"
	"github.com/sallyport/sallyport/policy"
)

// Bounds of a fetched archive: what a bundle may have, and the rest of a repository.
const (
	fetchTime    = 2 * time.Minute
	archiveBytes = 64 << 20
)

var archiveLimits = tarball.Limits{File: 16 << 20, Total: 256 << 20, Files: 50_000}

// An archived policy is fetched over https and unpacked beside its folder. Only once the
// loader has taken it there does it take the folder's place: whatever is fetched, the folder
// holds a policy that was loaded.
type archived struct {
	dir     string // the policy's
	conf    config.Archive
	secrets *secrets
	client  *http.Client

	tag  string            // of the server, for what was taken last
	last [sha256.Size]byte // digest of that
	said string            // why the last one was not taken; empty: it was
}

// newArchived is nil where the policy is not fetched.
func newArchived(c *config.Config, s *secrets) (*archived, error) {
	if c.Policy.Archive == nil {
		return nil, nil //nolint:nilnil // not fetched, and that is no error
	}
	a := &archived{dir: c.Policy.Dir, conf: *c.Policy.Archive, secrets: s}
	if err := a.settle(); err != nil {
		return nil, err
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}}
	if a.conf.CA != "" {
		text, err := os.ReadFile(a.conf.CA)
		if err != nil {
			return nil, fmt.Errorf("read the CA of the policy's archive: %w", err)
		}
		transport.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !transport.TLSClientConfig.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("the CA of the policy's archive, %s, holds no certificate", a.conf.CA)
		}
	}
	a.client = &http.Client{Transport: transport, Timeout: fetchTime, CheckRedirect: func(to *http.Request, via []*http.Request) error {
		if to.URL.Scheme != "https" || len(via) > 5 {
			return errors.New("it leads away from https, or too far")
		}
		return nil
	}}
	return a, nil
}

// bring fetches the archive, and reports whether the folder holds another policy now. What
// went wrong in the same way before comes as an *again.
func (a *archived) bring(ctx context.Context, o policy.Options) (fresh bool, err error) {
	defer func() {
		if err == nil {
			a.said = ""
		} else if err.Error() == a.said {
			err = &again{err}
		} else {
			a.said = err.Error()
		}
	}()
	staged := a.dir + ".fetched"
	if err := errors.Join(os.RemoveAll(staged), os.Mkdir(staged, 0o700)); err != nil {
		return false, fmt.Errorf("make room for the policy's archive: %w", err)
	}
	defer os.RemoveAll(staged) //nolint:errcheck // it is taken away before the next one, too
	at, tag, digest, err := a.fetch(ctx, staged)
	if err != nil || digest == a.last {
		return false, err
	}
	if _, err := policy.Load(at, o); err != nil {
		var refused *policy.Refused
		if errors.As(err, &refused) { // that folder is gone by the time that somebody types it
			refused.Do = strings.ReplaceAll(refused.Do, at, "FOLDER")
		}
		return false, err
	}
	if err := a.place(at); err != nil {
		return false, fmt.Errorf("put the fetched policy into its place: %w", err)
	}
	a.tag, a.last = tag, digest
	return true, nil
}

// place makes what is at a path the policy's folder. A crash in between leaves the one
// before beside it, where settle finds it.
func (a *archived) place(at string) error {
	if err := os.RemoveAll(a.before()); err != nil {
		return err
	}
	if err := os.Rename(a.dir, a.before()); err != nil && !errors.Is(err, fs.ErrNotExist) { // the first one
		return err
	}
	if err := os.Rename(at, a.dir); err != nil {
		return errors.Join(err, a.settle())
	}
	return os.RemoveAll(a.before())
}

func (a *archived) before() string { return a.dir + ".before" }

// settle puts the policy of before back where a crash left none in its place.
func (a *archived) settle() error {
	if _, err := os.Lstat(a.dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(a.before(), a.dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("put the policy of before back: %w", err)
	}
	return nil
}

// fetch unpacks the archive into dir, unless the server says that it is the last one that
// was taken, and returns where the bundle is in it, the server's tag and the digest of it.
func (a *archived) fetch(ctx context.Context, dir string) (at, tag string, digest [sha256.Size]byte, err error) {
	none := func(err error) (string, string, [sha256.Size]byte, error) {
		return "", "", digest, fmt.Errorf("fetch the policy: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, a.conf.URL, nil)
	if err != nil {
		return none(err)
	}
	if a.tag != "" {
		request.Header.Set("If-None-Match", a.tag)
	}
	if a.conf.Credential != "" {
		secret, err := a.secrets.Read(ctx, a.conf.Credential)
		if err != nil {
			return none(err)
		}
		request.Header.Set("Authorization", "Bearer "+string(secret.Reveal()))
	}
	reply, err := a.client.Do(request)
	if err != nil {
		return none(err)
	}
	defer reply.Body.Close() //nolint:errcheck // only read
	switch {
	case reply.StatusCode == http.StatusNotModified && a.tag != "":
		return "", a.tag, a.last, nil
	case reply.StatusCode != http.StatusOK:
		return none(fmt.Errorf("%s answers %s", request.URL.Host, reply.Status))
	}
	body := &io.LimitedReader{R: reply.Body, N: archiveBytes + 1}
	sum := sha256.New()
	at, err = tarball.Unpack(io.TeeReader(body, sum), dir, []string{"policy", "trust", "release"}, archiveLimits)
	if err == nil { // what stands behind the tar's end
		_, err = io.Copy(sum, body)
	}
	switch {
	case body.N <= 0:
		return none(fmt.Errorf("the archive is larger than %d MiB", archiveBytes>>20))
	case err != nil:
		return none(err)
	}
	return at, reply.Header.Get("ETag"), [sha256.Size]byte(sum.Sum(nil)), nil
}

// An again is an error that was told already.
type again struct{ error }

func (e *again) Unwrap() error { return e.error }

func told(err error) bool { return errors.As(err, new(*again)) }
