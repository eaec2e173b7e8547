package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/config"
	"github.com/sallyport/sallyport/credential"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/cli"
	"github.com/sallyport/sallyport/notify"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/protocols"
	gated "github.com/sallyport/sallyport/protocols/http"
	"github.com/sallyport/sallyport/proxy"
	"github.com/sallyport/sallyport/session"
	"github.com/sallyport/sallyport/store"
	"github.com/sallyport/sallyport/web"
)

// aliveEvery is how often the log says that the gate runs, so that silence shows.
const aliveEvery = 10 * time.Second

// A program is the gate as a value: open parses, opens and binds everything, run
// serves until its context ends, and closing undoes what was opened, the last first.
type program struct {
	config *config.Config
	logger *slog.Logger

	log        *audit.Log
	db         *store.DB
	recordings *audit.Recordings
	gate       *session.Gate
	web        *web.Web
	people     *relyingParty
	sealer     *identity.Sealer
	certs      []*certificate
	secrets    *secrets
	archive    *archived // nil: the policy is not fetched

	server *proxy.Server // all listeners

	closers []closer
}

type closer struct {
	what  string
	close func() error
}

// openProgram does everything that can fail before the gate serves. On an error
// nothing is left open, and nobody was let in.
func openProgram(ctx context.Context, c *config.Config, logger *slog.Logger) (_ *program, err error) {
	p := &program{config: c, logger: logger, secrets: newSecrets(c.Set)}
	defer func() {
		if err != nil {
			err = errors.Join(badDisk(err), p.close())
		}
	}()
	if err := p.openRecord(); err != nil {
		return nil, err
	}
	if p.archive, err = newArchived(c, p.secrets); err != nil {
		return nil, err
	}
	loaded, err := p.loadPolicy(ctx)
	if err != nil {
		return nil, err
	}
	if p.people, err = newRelyingParty(c, p.secrets, loaded); err != nil {
		return nil, err
	}
	ca, err := p.keys()
	if err != nil {
		return nil, err
	}
	sshCA, err := p.sshLogin()
	if err != nil {
		return nil, err
	}
	hostCA, err := sshHostCA(c, sshCA)
	if err != nil {
		return nil, err
	}
	notifier, err := p.notifier()
	if err != nil {
		return nil, err
	}
	p.gate, err = session.New(session.Config{
		Store: p.db, Log: p.log, Recordings: p.recordings, Credentials: p.secrets,
		Certificate:    func(cert *x509.Certificate) (string, error) { return ca.Verify(cert, time.Now()) },
		SSHCertificate: sshVerifier(sshCA), Workloads: p.people,
		URL: c.Gate.URL, Node: c.Gate.Node, Logger: logger,
		SignInWait: c.Limits.SignInTime, MaxHeld: c.Limits.Held, MaxHeldPerSource: c.Limits.HeldPerSource,
		Scopes: scopes(), Notifier: notifier,
	}, loaded)
	if err != nil {
		return nil, err
	}
	p.web, err = web.New(web.Config{
		Gate: p.gate, Log: p.log, Recordings: p.recordings, Issuer: p.people.current, CA: ca, Sealer: p.sealer, SSHCA: sshCA, HostCA: hostCA,
		Verify: func(ctx context.Context, id string) (audit.Report, error) {
			return audit.Verify(ctx, c.Audit.Dir, audit.VerifyOptions{Recordings: c.Recordings.Dir, Session: id})
		},
		URL: c.Gate.URL, Addresses: advertised(c), TargetURL: func(t policy.Target) string { return gated.Address(c.Gate.URL, t) }, RootCA: c.Gate.CA,
		Ready: func(context.Context) error { return p.gate.Ready() }, Logger: logger,
	})
	if err != nil {
		return nil, err
	}
	p.closers = append(p.closers, closer{"pages", func() error { p.web.Close(); return nil }})
	if err := p.bind(ctx); err != nil {
		return nil, err
	}
	if err := p.gate.Start(ctx); err != nil {
		return nil, fmt.Errorf("start the gate: %w", err)
	}
	return p, nil
}

// notifier tells people of requests, where the configuration says how; else nil. A
// notice that never arrived is an entry.
func (p *program) notifier() (session.Notifier, error) {
	if p.config.Notify == nil {
		return nil, nil //nolint:nilnil // nobody is told, and that is no error
	}
	fanout, err := notify.New(*p.config.Notify, p.config.Set, func(sink string, n session.Notice, why error) {
		_, err := p.log.Record(context.Background(), audit.Event{
			Type: audit.NoticeLost, Actor: "gate", Request: n.Request.ID, Body: map[string]any{"sink": sink, "kind": n.Kind, "why": why.Error()},
		})
		if err != nil {
			p.logger.Warn("a lost notice was not written down", "err", err)
		}
	}, p.logger)
	if err != nil {
		return nil, err
	}
	p.closers = append(p.closers, closer{"notices", func() error { fanout.Close(); return nil }})
	return fanout, nil
}

// openRecord opens log, store and recordings. Opening the log verifies its tail.
func (p *program) openRecord() (err error) {
	mirror, err := openMirror(p.config.Audit.Mirror)
	if err != nil {
		return err
	}
	if mirror != nil {
		p.closers = append(p.closers, closer{"mirror", mirror.Close})
	}
	p.log, err = audit.Open(audit.Config{
		Dir: p.config.Audit.Dir, Node: p.config.Gate.Node, Origin: p.config.Audit.Origin, Mirror: orNil(mirror), Alive: aliveEvery, Logger: p.logger,
	})
	if err != nil {
		return err
	}
	p.closers = append(p.closers, closer{"log", p.log.Close})
	if p.db, err = store.Open(p.config.Store.Path, p.log); err != nil {
		return err
	}
	p.closers = append(p.closers, closer{"store", p.db.Close})
	p.recordings, err = audit.OpenRecordings(p.config.Recordings.Dir, p.log, audit.RecordingOptions{Logger: p.logger})
	if err != nil {
		return err
	}
	p.closers = append(p.closers, closer{"recordings", p.recordings.Close})
	return nil
}

// openMirror opens where entries are copied to; nil where nowhere.
func openMirror(mirror string) (io.WriteCloser, error) {
	if mirror == "" {
		return nil, nil
	}
	if mirror == "stdout" {
		return keepOpen{os.Stdout}, nil
	}
	path, mode := strings.TrimPrefix(mirror, "file:"), os.O_WRONLY
	if info, err := os.Stat(path); err == nil && info.Mode()&os.ModeNamedPipe != 0 {
		mode = os.O_RDWR // does not wait for a reader, and outlives one (fifo(7))
	}
	f, err := os.OpenFile(path, mode|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the log's mirror: %w", err)
	}
	return f, nil
}

// keepOpen is stdout, which is not ours to close.
type keepOpen struct{ io.Writer }

func (keepOpen) Close() error { return nil }

// orNil keeps a nil WriteCloser from becoming a Writer that is not nil.
func orNil(w io.WriteCloser) io.Writer {
	if w == nil {
		return nil
	}
	return w
}

// keys reads the login CA and the sealing key.
func (p *program) keys() (*identity.CA, error) {
	key, err := credential.ReadFile(p.config.LoginCA.Key)
	if err != nil {
		return nil, err
	}
	cert, err := os.ReadFile(p.config.LoginCA.Certificate)
	if err != nil {
		return nil, fmt.Errorf("read the login CA: %w", err)
	}
	ca, err := identity.LoadCA(cert, key)
	if err != nil {
		return nil, err
	}
	seal, err := credential.ReadFile(p.config.SealKey)
	if err != nil {
		return nil, err
	}
	if len(seal) != 32 {
		return nil, fmt.Errorf("%s must hold exactly 32 random bytes; type: head -c 32 /dev/urandom > %s", p.config.SealKey, p.config.SealKey)
	}
	p.sealer, err = identity.NewSealer([32]byte(seal))
	return ca, err
}

// scopes says what each built-in protocol enforces.
func scopes() map[string][]string {
	all := map[string][]string{}
	for _, protocol := range protocols.All() {
		all[protocol.Name()] = protocol.Scopes()
	}
	return all
}

// checkTargets has a built-in protocol look at its targets' options.
func checkTargets(protocol string, targets []policy.Target) []policy.Problem {
	for _, p := range protocols.All() {
		if p.Name() == protocol {
			return p.Check(targets)
		}
	}
	return nil
}

func advertised(c *config.Config) map[string]string {
	all := map[string]string{}
	for _, l := range c.Listeners {
		if _, found := all[l.Protocol]; !found {
			all[l.Protocol] = l.Advertise
		}
	}
	return all
}

// bind binds all listeners, so that a port that is taken is known before anybody is served.
func (p *program) bind(ctx context.Context) error {
	p.server = &proxy.Server{
		Log: p.logger, Handshake: p.config.Limits.HandshakeTime,
		MaxConnections: p.config.Limits.Connections, MaxPerSource: p.config.Limits.ConnectionsPerSource,
	}
	p.closers = append(p.closers, closer{"listeners", p.server.Close})
	var listeners []proxy.Listener
	for _, l := range p.config.Listeners {
		conf, err := p.serverTLS(l)
		if err != nil {
			return err
		}
		handler, err := configure(l, p.protocolConfig(l, conf))
		if err != nil {
			return err
		}
		listeners = append(listeners, proxy.Listener{Name: l.Protocol, Address: l.Address, Handler: handler})
	}
	return portTaken(p.server.Listen(ctx, listeners...))
}

func (p *program) protocolConfig(l config.Listener, conf *tls.Config) proxy.Config {
	return proxy.Config{
		Gate: p.gate, TLS: conf, Plaintext: l.Plaintext, Pages: p.web, URL: p.config.Gate.URL, Log: p.logger, Options: l.Options,
		Targets: func() []policy.Target {
			var own []policy.Target
			for _, t := range p.gate.Policy().Targets() {
				if t.Protocol == wire(l) {
					own = append(own, t)
				}
			}
			return own
		},
	}
}

// wire is the protocol that a listener speaks: the web listener has the gate's pages and
// the targets of HTTP.
func wire(l config.Listener) string {
	if l.Protocol == "web" {
		return "http"
	}
	return l.Protocol
}

func configure(l config.Listener, c proxy.Config) (proxy.Handler, error) {
	for _, protocol := range protocols.All() {
		if protocol.Name() == wire(l) {
			return protocol.Configure(c)
		}
	}
	return nil, fmt.Errorf("there is no protocol %q", l.Protocol)
}

// portTaken says what to do about an address that somebody else uses.
func portTaken(err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%w; end what uses that port (ss -ltnp shows it), or choose another in the listen block", err)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%w; ports below 1024 need the capability CAP_NET_BIND_SERVICE", err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%w; this machine has no such address", err)
	}
	return err
}

// badDisk says what to do about a disk that takes nothing.
func badDisk(err error) error {
	switch {
	case errors.Is(err, audit.ErrFull), errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w; make room on that disk and start again: nothing is lost", err)
	case errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%w; look in the system's log why that disk is read-only, and mount it writable", err)
	}
	return err
}

// run serves until ctx ends or the gate stops by itself, then stops in order: no new
// asks, tell those who are in, grace, cut, wait.
func (p *program) run(ctx context.Context) error {
	failed := make(chan error, 1)
	serving, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var wait sync.WaitGroup
	wait.Go(func() {
		if err := p.server.Serve(serving); !errors.Is(err, proxy.ErrServerClosed) {
			failed <- err
		}
	})
	wait.Go(func() { p.refresher().Run(serving) })
	p.logger.Info("the gate is open", "url", p.config.Gate.URL, "policy", p.gate.Policy().Version())
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	case <-p.gate.Done():
		err = p.gate.Err()
	}
	err = errors.Join(err, p.stop(ctx))
	cancel()
	wait.Wait()
	return err
}

func (p *program) stop(ctx context.Context) error {
	grace := p.config.Limits.GraceTime
	p.logger.Info("the gate stops", "grace", grace)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace+20*time.Second)
	defer cancel()
	err := p.gate.Stop(ctx, grace)
	p.web.Close() // its websockets would keep their connections
	return errors.Join(err, p.server.Shutdown(ctx))
}

// close undoes what openProgram opened, the last first.
func (p *program) close() error {
	var errs []error
	for i := len(p.closers) - 1; i >= 0; i-- {
		if err := p.closers[i].close(); err != nil {
			errs = append(errs, fmt.Errorf("close %s: %w", p.closers[i].what, err))
		}
	}
	p.closers = nil
	return errors.Join(errs...)
}

// A certificate is a listener's, which a reload reads again.
type certificate struct {
	pair config.Pair
	now  atomic.Pointer[tls.Certificate]
}

func (c *certificate) load() error {
	key, err := credential.ReadFile(c.pair.Key)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(c.pair.Certificate)
	if err != nil {
		return fmt.Errorf("read certificate: %w", err)
	}
	loaded, err := tls.X509KeyPair(text, key)
	if err != nil {
		return fmt.Errorf("certificate %s with key %s: %w", c.pair.Certificate, c.pair.Key, err)
	}
	if loaded.Leaf != nil && time.Now().After(loaded.Leaf.NotAfter) {
		return fmt.Errorf("certificate %s ended at %s", c.pair.Certificate, cli.Clock(loaded.Leaf.NotAfter))
	}
	c.now.Store(&loaded)
	return nil
}

// serverTLS is the server side of a listener; nil where it has no certificate.
func (p *program) serverTLS(l config.Listener) (*tls.Config, error) {
	if l.TLS == nil {
		return nil, nil
	}
	c := &certificate{pair: *l.TLS}
	if err := c.load(); err != nil {
		return nil, err
	}
	p.certs = append(p.certs, c)
	conf := &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.now.Load(), nil },
	}
	// The gate verifies: a bad certificate gets words of ours, not an alert.
	conf.ClientAuth = tls.RequestClientCert
	if l.Protocol == "web" {
		// A browser asks its user only about certificates of this CA.
		text, err := os.ReadFile(p.config.LoginCA.Certificate)
		if err != nil {
			return nil, fmt.Errorf("read the login CA: %w", err)
		}
		conf.ClientCAs = x509.NewCertPool()
		conf.ClientCAs.AppendCertsFromPEM(text)
	}
	return conf, nil
}
