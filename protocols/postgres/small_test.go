package postgres

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// A small server speaks as much of PostgreSQL as sessions need that stream, sleep or
// idle: a real one has a process for each of thousands.
type small struct {
	listener net.Listener
	busy     sync.WaitGroup
	pids     atomic.Uint32

	mu       sync.Mutex // guards what follows
	backends map[uint32]*smallBackend
	conns    map[net.Conn]struct{}
}

type smallBackend struct {
	secret []byte
	cancel chan struct{} // holds at most one
}

// newSmall serves at a unix socket until close.
func newSmall(socket string) (*small, error) {
	l, err := net.Listen("unix", socket)
	if err != nil {
		return nil, err
	}
	s := &small{listener: l, backends: map[uint32]*smallBackend{}, conns: map[net.Conn]struct{}{}}
	s.busy.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns[conn] = struct{}{}
			s.mu.Unlock()
			s.busy.Go(func() {
				_ = s.serve(conn) // the gate's side is what is looked at
				_ = conn.Close()
				s.mu.Lock()
				delete(s.conns, conn)
				s.mu.Unlock()
			})
		}
	})
	return s, nil
}

func (s *small) close() {
	_ = s.listener.Close()
	s.mu.Lock()
	for conn := range s.conns {
		_ = conn.Close()
	}
	for _, b := range s.backends {
		b.stop()
	}
	s.mu.Unlock()
	s.busy.Wait()
}

// live counts backends.
func (s *small) live() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.backends)
}

func (b *smallBackend) stop() {
	select {
	case b.cancel <- struct{}{}:
	default:
	}
}

func (s *small) serve(conn net.Conn) error {
	front := pgproto3.NewBackend(conn, conn)
	first, err := front.ReceiveStartupMessage()
	if err != nil {
		return err
	}
	if c, ok := first.(*pgproto3.CancelRequest); ok {
		s.mu.Lock()
		defer s.mu.Unlock()
		if b := s.backends[c.ProcessID]; b != nil && string(b.secret) == string(c.SecretKey) {
			b.stop()
		}
		return nil
	}
	pid, b := s.pids.Add(1), &smallBackend{secret: make([]byte, 4), cancel: make(chan struct{}, 1)}
	_, _ = rand.Read(b.secret) // never fails
	s.mu.Lock()
	s.backends[pid] = b
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.backends, pid)
	}()
	front.Send(&pgproto3.AuthenticationOk{})
	for name, value := range map[string]string{"server_version": "17.0", "server_encoding": "UTF8", "client_encoding": "UTF8", "standard_conforming_strings": "on"} {
		front.Send(&pgproto3.ParameterStatus{Name: name, Value: value})
	}
	front.Send(&pgproto3.BackendKeyData{ProcessID: pid, SecretKey: b.secret})
	for {
		front.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
		if err := front.Flush(); err != nil {
			return err
		}
		m, err := front.Receive()
		if err != nil {
			return err
		}
		switch m := m.(type) {
		case *pgproto3.Query:
			if err := b.query(front, pid, m.String); err != nil {
				return err
			}
		case *pgproto3.Terminate:
			return nil
		default:
			return fmt.Errorf("a small server does not know %T", m)
		}
	}
}

// query answers up to ReadyForQuery.
func (b *smallBackend) query(front *pgproto3.Backend, pid uint32, sql string) error {
	switch {
	case sql == judgement:
		var fields []pgproto3.FieldDescription
		for range 6 {
			fields = append(fields, pgproto3.FieldDescription{Name: []byte("c"), DataTypeOID: 25, DataTypeSize: -1, TypeModifier: -1})
		}
		front.Send(&pgproto3.RowDescription{Fields: fields})
		front.Send(&pgproto3.DataRow{Values: [][]byte{[]byte("f"), []byte("f"), {}, fmt.Append(nil, pid), []byte("1"), []byte("4")}})
		front.Send(&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")})
		return nil
	case strings.HasPrefix(sql, "copy"):
		front.Send(&pgproto3.CopyOutResponse{ColumnFormatCodes: []uint16{0}})
		for row, tick := make([]byte, 8187), time.NewTicker(100*time.Millisecond); ; {
			select {
			case <-b.cancel:
				tick.Stop()
				return b.cancelled(front)
			case <-tick.C:
			}
			binary.BigEndian.PutUint64(row, uint64(pid))
			front.Send(&pgproto3.CopyData{Data: row})
			if err := front.Flush(); err != nil {
				return err
			}
		}
	case strings.Contains(sql, "pg_sleep"):
		<-b.cancel
		return b.cancelled(front)
	}
	front.Send(&pgproto3.CommandComplete{CommandTag: []byte("SELECT 0")})
	return nil
}

func (b *smallBackend) cancelled(front *pgproto3.Backend) error {
	front.Send(&pgproto3.ErrorResponse{Severity: "ERROR", SeverityUnlocalized: "ERROR", Code: "57014", Message: "canceling statement due to user request"})
	return nil
}
