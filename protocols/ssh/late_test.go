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
	"github.com/sallyport/sallyport/policy"
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
	looked   func() // called when somebody looks what it is for; nil: nobody minds
}

func (a *asking) ChannelType() string { return a.kind }

func (a *asking) ExtraData() []byte {
	if a.looked != nil {
		a.looked()
	}
	return a.payload
}

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
	r, _ = recorded(t)
	return r, func() { r.why = "it ended"; close(r.ended) }
}

// recorded is a relay, and the lines of its record.
func recorded(t *testing.T) (r *relay, lines func() string) {
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
	id := identity.NewID()
	rec, err := recordings.Start(t.Context(), audit.Meta{Session: id})
	check(err)
	_, fail := context.WithCancelCause(t.Context())
	r = &relay{
		rec: &record{to: rec}, fail: fail, busy: crew{fail: fail}, stalls: &stalls{over: fail}, slots: make(chan struct{}, maxChannels),
		pairs: map[*pair]struct{}{}, remote: map[string]bool{"127.0.0.1:80": true}, ended: make(chan struct{}),
	}
	t.Cleanup(r.busy.Wait)
	return r, func() string {
		recording, err := recordings.Read(id)
		check(err)
		var all []byte
		for line, err := range recording.Lines(t.Context()) {
			check(err)
			all = append(append(all, line.Raw...), '\n')
		}
		return string(all)
	}
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

// A client that goes while the target opens its forward leaves its end on the record.
func TestForwardWhoseClientGoesHasItsEnd(t *testing.T) {
	r, lines := recorded(t)
	far := &side{}
	r.target.Conn = &opener{open: func(string) ssh.Channel { return far }}
	r.direct(&asking{kind: channelDirect, payload: ssh.Marshal(direct{"127.0.0.1", 80, "127.0.0.1", 1})})
	if text := lines(); !far.closed || strings.Count(text, `"query"`) != 1 || strings.Count(text, `"done"`) != 1 {
		t.Errorf("closed %t; recorded:\n%s", far.closed, text)
	}
}

// A connection may come before the gate has read which port the target has chosen for it.
func TestConnectionOvertakesItsPort(t *testing.T) {
	r, lines := recorded(t)
	opened, looked := make(chan struct{}), make(chan struct{})
	channel := &asking{kind: channelForwarded, payload: ssh.Marshal(direct{"127.0.0.1", 4711, "127.0.0.1", 1})}
	channel.looked = sync.OnceFunc(func() { close(looked) }) // with mu
	var back sync.WaitGroup
	far := &side{}
	r.client.Conn = &opener{open: func(string) ssh.Channel { close(opened); return far }}
	r.target.Conn = &chooser{port: 4711, before: func() {
		back.Go(func() { r.back(channel) })
		<-looked
		r.mu.Lock() // until it has seen nothing
		defer r.mu.Unlock()
	}}
	if ok, _ := r.listen("tcpip-forward", ssh.Marshal(listening{"127.0.0.1", 0})); !ok {
		t.Fatal("the target does not listen")
	}
	back.Wait()
	select {
	case <-opened:
	default:
		t.Errorf("it was rejected: %s; recorded:\n%s", channel.rejected, lines())
	}
	if r.remote["127.0.0.1:0"] {
		t.Error("a port that is none is listened at")
	}
}

// chooser is a target that chooses a port, and says so when before returns.
type chooser struct {
	ssh.Conn
	port   uint32
	before func()
}

func (c *chooser) SendRequest(string, bool, []byte) (bool, []byte, error) {
	c.before()
	return true, ssh.Marshal(struct{ Port uint32 }{c.port}), nil
}

// Class: silent defaults and spelling. A host and port are not allowed as a path, nor a path
// as a host and port; none is cancelled or answered for as the other.
func TestPlacesAndPathsAreTwo(t *testing.T) {
	r, lines := recorded(t)
	r.rules = rules{policy.Scope{
		Channels: []string{channelForward, channelListen}, Forward: []string{"db:5432", "/run/db:80"}, Listen: []string{"db:5432", "/run/db:80"},
	}}
	r.remote["db:5432"], r.remote["/run/db:80"] = true, true
	unheard := &opener{open: func(kind string) ssh.Channel { t.Errorf("the other side heard of %s", kind); return &side{} }}
	r.client.Conn, r.target.Conn = unheard, unheard
	const path, host = "db:5432", "/run/db"
	for _, channel := range []*asking{
		{kind: channelDirectLocal, payload: ssh.Marshal(directLocal{Path: path})},
		{kind: channelDirect, payload: ssh.Marshal(direct{host, 80, "127.0.0.1", 1})},
		{kind: channelForwardedLocal, payload: ssh.Marshal(forwardedLocal{Path: path})},
		{kind: channelForwarded, payload: ssh.Marshal(direct{host, 80, "127.0.0.1", 1})},
	} {
		switch channel.kind {
		case channelDirectLocal:
			r.directLocal(channel)
		case channelDirect:
			r.direct(channel)
		default:
			r.back(channel)
		}
		if channel.accepted || channel.rejected == "" {
			t.Errorf("%s: rejected %q", channel.kind, channel.rejected)
		}
	}
	for kind, payload := range map[string]any{
		"tcpip-forward": listening{host, 80}, "streamlocal-forward@openssh.com": listeningLocal{path},
		"cancel-tcpip-forward": listening{host, 80}, "cancel-streamlocal-forward@openssh.com": listeningLocal{path},
	} {
		r.request(&ssh.Request{Type: kind, Payload: ssh.Marshal(payload)})
	}
	if len(r.remote) != 3 || strings.Contains(lines(), `"query"`) {
		t.Errorf("%v; recorded:\n%s", r.remote, lines())
	}
}
