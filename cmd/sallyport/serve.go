package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/config"
	"github.com/sallyport/sallyport/internal/calm"
	"github.com/sallyport/sallyport/internal/cli"
	"github.com/sallyport/sallyport/internal/lossy"
	"github.com/sallyport/sallyport/protocols"
)

func newServe() *cobra.Command {
	var path, format string
	var debug bool
	c := &cobra.Command{
		Use: "serve", Short: "Run the gate",
		Long: `Runs the gate of a proxy.hcl. It parses everything, opens store and log (and
verifies the log's tail), binds all listeners, and only then serves.

SIGTERM and SIGINT stop it: nothing new is taken, live sessions are told, have
limits.grace to finish, and are cut. SIGHUP reads policy, certificates and the places
of credentials again, and says what has to wait for a restart.`,
		Example: "  sallyport serve --config /etc/sallyport/proxy.hcl",
	}
	configFlag(c, &path)
	c.Flags().StringVar(&format, "log", "text", "how to write what happens to stderr: text or json")
	c.Flags().BoolVar(&debug, "debug", false, "write down every connection")
	c.RunE = func(c *cobra.Command, _ []string) error {
		logger, said, err := newLogger(c.ErrOrStderr(), format, debug)
		if err != nil {
			return cli.Usage(c, err)
		}
		defer said()
		loaded, err := config.Load(path, protocolNames())
		if err != nil {
			return err
		}
		return serve(c.Context(), loaded, logger, nil)
	}
	return c
}

func configFlag(c *cobra.Command, path *string) {
	c.Flags().StringVar(path, "config", "/etc/sallyport/proxy.hcl", "the configuration")
}

// newLogger writes what happens to w, which may be a pipe that nobody reads: nobody waits
// for it. said gives it a moment to take what waits.
func newLogger(w io.Writer, format string, debug bool) (logger *slog.Logger, said func(), err error) {
	o := &slog.HandlerOptions{Level: slog.LevelInfo}
	if debug {
		o.Level = slog.LevelDebug
	}
	var handler func(w io.Writer) slog.Handler
	switch format {
	case "text":
		handler = func(w io.Writer) slog.Handler { return slog.NewTextHandler(w, o) }
	case "json":
		handler = func(w io.Writer) slog.Handler { return slog.NewJSONHandler(w, o) }
	default:
		return nil, nil, fmt.Errorf("--log is text or json, not %q", format)
	}
	lines := lossy.New(w, func(missing int) []byte {
		var line bytes.Buffer
		slog.New(handler(&line)).Warn("lines are missing here: nobody read this", "lines", missing)
		return line.Bytes()
	}, nil)
	return slog.New(calm.Handler(handler(lines))), func() { lines.Close(time.Second) }, nil
}

// serve runs a gate until ctx ends. ready, where it is set, is called once everything
// is open and bound.
func serve(ctx context.Context, c *config.Config, logger *slog.Logger, ready func() error) error {
	// A pipe at stdout or stderr that nobody reads any more is an error of the write; by
	// itself Go would end the program.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	p, err := openProgram(ctx, c, logger)
	if err != nil {
		return err
	}
	// What came before Notify is not lost: the default action of SIGHUP would end us.
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	reloading, stop := context.WithCancel(ctx)
	reloaded := make(chan struct{})
	go func() {
		defer close(reloaded)
		p.reloads(reloading, hangups)
	}()
	defer func() { stop(); <-reloaded }()
	tellSystemd("READY=1")
	if ready != nil {
		err = ready()
	}
	if err == nil {
		err = p.run(ctx)
	}
	tellSystemd("STOPPING=1")
	return errors.Join(err, p.close())
}

// reloads reloads at every SIGHUP, and looks after the policy's archive. A reload that
// fails changes nothing but the log.
func (p *program) reloads(ctx context.Context, hangups <-chan os.Signal) {
	var due <-chan time.Time
	if p.archive != nil {
		every := time.NewTicker(p.archive.conf.EveryTime)
		defer every.Stop()
		due = every.C
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-due:
			p.poll(ctx)
			continue
		case <-hangups:
		}
		if err := p.reload(ctx); err != nil {
			p.logger.Error("not reloaded", "err", err)
		}
	}
}

// tellSystemd sends one state to the service manager (sd_notify(3)), where there is one.
func tellSystemd(state string) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	if strings.HasPrefix(path, "@") {
		path = "\x00" + path[1:]
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }() // nothing is left to write
	_, _ = conn.Write([]byte(state))    // a manager that is gone need not be told
}

// protocolNames are the words that listen blocks may use beside "web".
func protocolNames() []string {
	var names []string
	for _, p := range protocols.All() {
		if name := p.Name(); name != wire(config.Listener{Protocol: "web"}) {
			names = append(names, name)
		}
	}
	return names
}
