package ssh

import (
	"bytes"
	"context"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
)

// What begins, or is about to, when the session ends. Who answers late is played here.

// side is one side of a channel. It keeps what is asked of it.
type side struct {
	ssh.Channel
	answers func(kind string) // called before a request is granted; nil: at once

	mu     sync.Mutex
	asked  []string
	closed bool
	said   bytes.Buffer // on stderr
}

func (s *side) SendRequest(kind string, _ bool, _ []byte) (bool, error) {
	s.mu.Lock()
	s.asked = append(s.asked, kind)
	s.mu.Unlock()
	if s.answers != nil {
		s.answers(kind)
	}
	return true, nil
}

func (s *side) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}

func (s *side) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.said.Write(p)
}

func (s *side) Stderr() io.ReadWriter {
	return struct {
		io.Reader
		io.Writer
	}{nil, s}
}

// heard returns what was asked of it, in words.
func (s *side) heard() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.asked, " ")
}

// opener is a connection on which a channel opens when open returns.
type opener struct {
	ssh.Conn
	open func(kind string) ssh.Channel
}

func (o *opener) OpenChannel(kind string, _ []byte) (ssh.Channel, <-chan *ssh.Request, error) {
	requests := make(chan *ssh.Request)
	close(requests)
	return o.open(kind), requests, nil
}

func (o *opener) SendRequest(kind string, _ bool, _ []byte) (bool, []byte, error) {
	o.open(kind)
	return true, nil, nil
}

// asking is a channel that somebody asks for.
type asking struct {
	ssh.NewChannel
	kind     string
	payload  []byte
	accepted bool
	rejected string
}

func (a *asking) ChannelType() string { return a.kind }
func (a *asking) ExtraData() []byte   { return a.payload }

func (a *asking) Reject(_ ssh.RejectionReason, say string) error {
	a.rejected = say
	return nil
}

func (a *asking) Accept() (ssh.Channel, <-chan *ssh.Request, error) {
	a.accepted = true
	return nil, nil, io.EOF
}

// ending is a relay with a record, and what ends it.
func ending(t *testing.T) (r *relay, end func()) {
	t.Helper()
	dir := t.TempDir()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(audit.Init(filepath.Join(dir, "log"), "test.example/log"))
	log, err := audit.Open(audit.Config{Dir: filepath.Join(dir, "log"), Node: "gate"})
	check(err)
	recordings, err := audit.OpenRecordings(filepath.Join(dir, "recordings"), log, audit.RecordingOptions{})
	check(err)
	t.Cleanup(func() { check(recordings.Close()); check(log.Close()) })
	check(recordings.Recover(t.Context()))
	rec, err := recordings.Start(t.Context(), audit.Meta{Session: identity.NewID()})
	check(err)
	_, fail := context.WithCancelCause(t.Context())
	r = &relay{
		rec: &record{to: rec}, fail: fail, busy: crew{fail: fail}, stalls: &stalls{over: fail}, slots: make(chan struct{}, maxChannels),
		pairs: map[*pair]struct{}{}, remote: map[string]bool{"127.0.0.1:80": true}, ended: make(chan struct{}),
	}
	t.Cleanup(r.busy.Wait)
	return r, func() { r.why = "it ended"; close(r.ended) }
}

func (r *relay) pair(target ssh.Channel) (p *pair, client *side) {
	client = &side{}
	return &pair{
		r: r, client: client, target: target, stream: "channel 1",
		started: make(chan struct{}), exited: make(chan struct{}), over: make(chan struct{}),
	}, client
}

func execs(line string) *ssh.Request {
	return &ssh.Request{Type: "exec", Payload: ssh.Marshal(execRequest{line})}
}

// A command that the target has not answered when the end comes is waited for, and hung up.
func TestEndWaitsForWhatIsStarting(t *testing.T) {
	r, end := ending(t)
	asked, answer, signalled := make(chan struct{}), make(chan struct{}), make(chan struct{})
	target := &side{answers: func(kind string) {
		switch kind {
		case "exec":
			close(asked)
			<-answer
		case "signal":
			close(signalled)
		}
	}}
	p, _ := r.pair(target)
	started := make(chan bool, 1)
	go func() { started <- p.start(execs("sleep 1000")) }()
	<-asked
	end()
	over := make(chan struct{})
	close(over)
	if !p.hangUp(over) {
		t.Error("it is said to have ended, and the target has not answered")
	}
	hung := make(chan bool, 1)
	go func() { hung <- p.hangUp(nil) }()
	close(answer)
	if !<-started {
		t.Error("it did not start")
	}
	select {
	case <-signalled:
	case lives := <-hung:
		t.Fatalf("lives %t, and the target heard of %s", lives, target.heard())
	}
	close(p.exited)
	if <-hung {
		t.Error("it is said to live")
	}
}

func TestNothingStartsBehindTheEnd(t *testing.T) {
	r, end := ending(t)
	target := &side{}
	p, client := r.pair(target)
	end()
	if p.start(execs("id")); client.said.String() != "sallyport: it ended\r\n" || client.heard() != "exit-status" || !client.closed {
		t.Errorf("the client was told %q, and asked %s", client.said.String(), client.heard())
	}
	for _, one := range []struct {
		kind    string
		payload any
	}{
		{"pty-req", ptyRequest{Term: "xterm"}}, {"env", envRequest{"LC_ALL", "C"}},
	} {
		p.asked(&ssh.Request{Type: one.kind, Payload: ssh.Marshal(one.payload)})
	}
	if heard := target.heard(); heard != "" {
		t.Errorf("the target heard of %s", heard)
	}
}

// What was refused has ended its channel: nothing else begins in it.
func TestNothingStartsBehindARefusal(t *testing.T) {
	r, _ := ending(t)
	target := &side{}
	p, _ := r.pair(target)
	p.asked(&ssh.Request{Type: "subsystem", Payload: ssh.Marshal(subsystem{"netconf"})})
	if p.asked(execs("id")); target.heard() != "" {
		t.Errorf("the target heard of %s", target.heard())
	}
}

// A channel that the other side opens late, when the end has begun, is not opened at all.
func TestChannelThatOpensBehindTheEnd(t *testing.T) {
	place := ssh.Marshal(direct{"127.0.0.1", 80, "127.0.0.1", 1})
	for kind, open := range map[string]func(*relay, ssh.NewChannel){
		"session":         (*relay).session,
		channelDirect:     (*relay).direct,
		channelForwarded:  (*relay).back,
		channelForwarded2: (*relay).opensBack,
	} {
		r, end := ending(t)
		far, asked := &side{}, 0
		other := &opener{open: func(string) ssh.Channel { asked++; end(); return far }}
		r.client.Conn, r.target.Conn = other, other
		channel := &asking{kind: strings.TrimSuffix(kind, "2"), payload: place}
		if kind == channelForwarded2 {
			end()
		}
		open(r, channel)
		r.busy.Wait()
		if channel.accepted || channel.rejected != "sallyport: it ended" {
			t.Errorf("%s: accepted %t, rejected %q", kind, channel.accepted, channel.rejected)
		}
		if asked > 0 && !far.closed {
			t.Errorf("%s: the other side stays open", kind)
		}
	}
}

// channelForwarded2 is one that the target begins only then.
const channelForwarded2 = channelForwarded + "2"

func TestNothingIsAskedOfTheTargetBehindTheEnd(t *testing.T) {
	r, end := ending(t)
	r.target.Conn = &opener{open: func(kind string) ssh.Channel { t.Errorf("the target heard of %s", kind); return nil }}
	end()
	r.request(&ssh.Request{Type: "tcpip-forward", Payload: ssh.Marshal(listening{"127.0.0.1", 81})})
	r.request(&ssh.Request{Type: "cancel-tcpip-forward", Payload: ssh.Marshal(listening{"127.0.0.1", 80})})
}
