package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// result is a workload's rounds.
type result struct {
	name, unit   string
	lower        bool
	direct, gate []float64
	ratios, cpu  []float64
}

func (r *result) add(direct, gate float64) {
	r.direct, r.gate = append(r.direct, direct), append(r.gate, gate)
	r.ratios = append(r.ratios, gate/direct)
}

func median(list []float64) float64 {
	if len(list) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(list))
	return sorted[len(sorted)/2]
}

func (r *result) line(cpuUnit string) string {
	s := fmt.Sprintf("%-28s %5.2f [%.2f, %.2f]   direct %9.2f, gate %9.2f %-5s", r.name, median(r.ratios), slices.Min(r.ratios), slices.Max(r.ratios),
		median(r.direct), median(r.gate), r.unit)
	if r.lower {
		s += fmt.Sprintf(" added %4.0f us", (median(r.gate)-median(r.direct))*1000)
	}
	if len(r.cpu) > 0 {
		s += fmt.Sprintf("  %7.1f %s", median(r.cpu), cpuUnit)
	}
	return s
}

// weigh opens connections that do nothing and sees by how much the gate grows.
func (g *gate) weigh(ctx context.Context, p path, idle, held int) error {
	fmt.Println()
	config, err := pgconn.ParseConfig(fmt.Sprintf("host=%s port=%s user=%s dbname=orders sslmode=verify-full sslrootcert=%s", p.host, p.port, p.user, p.ca))
	if err != nil {
		return err
	}
	config.Password = p.password
	open := func() (func(), error) {
		conn, err := pgconn.ConnectConfig(ctx, config)
		if err != nil {
			return nil, err
		}
		return func() { _ = conn.Close(ctx) }, nil
	}
	if err := g.growth("idle live session", idle, func(int) (func(), error) { return open() }); err != nil {
		return err
	}
	return g.growth("held connection", held, func(n int) (func(), error) { return g.hold(n, p) })
}

func (g *gate) growth(what string, n int, open func(n int) (func(), error)) error {
	if n == 0 {
		return nil
	}
	for range 5 { // what the first ones cost once is not a connection's
		shut, err := open(0)
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		defer shut()
	}
	before, err := g.memory()
	if err != nil {
		return err
	}
	for i := range n {
		shut, err := open(i)
		if err != nil {
			return fmt.Errorf("%s %d: %w", what, i, err)
		}
		defer shut()
	}
	time.Sleep(2 * time.Second) // buffers go back, the collector runs
	after, err := g.memory()
	if err != nil {
		return err
	}
	fmt.Printf("%-28s %6.1f KiB (RSS growth over %d, by TLS)\n", what, (after-before)/float64(n), n)
	return nil
}

// hold opens a connection that waits for somebody to sign in. A source may hold a
// hundred, so they come from many addresses of the loopback network.
func (g *gate) hold(n int, p path) (func(), error) {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+n/80))}}
	raw, err := dialer.Dial("tcp", net.JoinHostPort("127.0.0.1", p.port))
	if err != nil {
		return nil, err
	}
	if _, err := raw.Write([]byte{0, 0, 0, 8, 4, 210, 22, 47}); err != nil { // SSLRequest
		return nil, err
	}
	if _, err := raw.Read(make([]byte, 1)); err != nil {
		return nil, err
	}
	conn := tls.Client(raw, &tls.Config{RootCAs: g.Roots, ServerName: p.host, MinVersion: tls.VersionTLS12})
	front := pgproto3.NewFrontend(conn, conn)
	front.Send(&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{"user": "reader", "database": "orders"}})
	if err := front.Flush(); err != nil {
		return nil, err
	}
	for range 3 { // AuthenticationOk, the link, the phrase
		if _, err := front.Receive(); err != nil {
			return nil, err
		}
	}
	return func() { _ = conn.Close() }, nil
}
