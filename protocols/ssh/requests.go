package ssh

import (
	"cmp"
	"fmt"

	"golang.org/x/crypto/ssh"
)

// Payloads of session channel requests (RFC 4254, section 6).
type (
	ptyRequest struct {
		Term                         string
		Columns, Rows, Width, Height uint32
		Modes                        string
	}
	windowChange struct{ Columns, Rows, Width, Height uint32 }
	envRequest   struct{ Name, Value string }
	execRequest  struct{ Command string }
	subsystem    struct{ Name string }
	signal       struct{ Name string }
	breakRequest struct{ Length uint32 }
	x11Request   struct {
		Single           bool
		Protocol, Cookie string
		Screen           uint32
	}
)

// Limits on what is set at the target for one channel.
const (
	maxEnvironment = 1024 // bytes of a variable, its name and its value each
	maxVariables   = 64
)

// asked answers what the client asks of the channel. What goes on is marshalled anew
// from what was read, so the target sees what was checked; what is not known here does
// not pass.
func (p *pair) asked(request *ssh.Request) {
	ok := false
	switch request.Type {
	case "pty-req":
		ok = p.pty(request)
	case "env":
		ok = p.environment(request)
	case "shell", "exec", "subsystem":
		ok = p.start(request)
	case "window-change":
		ok = p.resize(request)
	case "signal":
		var v signal
		ok = read(request, &v) && p.begun() && p.said("signal %q", v.Name) && p.send(request, v)
	case "break":
		var v breakRequest
		ok = read(request, &v) && p.begun() && p.said("break") && p.send(request, v)
	case "eow@openssh.com":
		ok = p.begun() && p.send(request, nil)
	case "auth-agent-req@openssh.com":
		ok = p.lends(request, channelAgent, nil)
	case "x11-req":
		var v x11Request
		ok = read(request, &v) && p.lends(request, channelX11, v)
	}
	_ = request.Reply(ok, nil) // a client that has gone needs no answer
}

// read decodes a payload; bytes behind it are an error.
func read(request *ssh.Request, into any) bool { return ssh.Unmarshal(request.Payload, into) == nil }

// send passes a request on and waits for the answer where the client wants one.
func (p *pair) send(request *ssh.Request, payload any) bool {
	var data []byte
	if payload != nil {
		data = ssh.Marshal(payload)
	}
	if p.r.isOver() {
		return false // what is asked behind the cut does not go on
	}
	ok, err := p.target.SendRequest(request.Type, request.WantReply, data)
	return ok && err == nil
}

// begun reports that the channel is a shell, command or subsystem by now.
func (p *pair) begun() bool {
	select {
	case <-p.started:
		return true
	default:
		return false
	}
}

// said writes down what the client asks of the channel, before the target hears of it.
func (p *pair) said(format string, args ...any) bool {
	if err := p.r.rec.note(p.stream+": "+format, args...); err != nil {
		p.r.fail(err)
		return false
	}
	return true
}

// environment sets a variable at the target: a program does what its environment says,
// so the record has it.
func (p *pair) environment(request *ssh.Request) bool {
	var v envRequest
	if !read(request, &v) || !passes(v.Name) || len(v.Name) > maxEnvironment || len(v.Value) > maxEnvironment || p.begun() {
		return false
	}
	if p.variables++; p.variables > maxVariables {
		return false
	}
	return p.said("%s=%q", v.Name, v.Value) && p.send(request, v)
}

func (p *pair) pty(request *ssh.Request) bool {
	var v ptyRequest
	if !read(request, &v) || p.tty != nil || p.begun() || len(v.Term) > 128 {
		return false
	}
	if !p.r.rules.allows(channelShell) && !p.r.rules.allows(channelExec) {
		return false
	}
	if !p.said("TERM=%q", v.Term) || !p.send(&ssh.Request{Type: request.Type, WantReply: true}, v) {
		return false
	}
	p.mu.Lock()
	p.tty = &tty{}
	p.mu.Unlock()
	p.r.over(p.r.rec.terminal(p.stream, "r", size(v.Columns, v.Rows)))
	return true
}

func (p *pair) resize(request *ssh.Request) bool {
	var v windowChange
	if !read(request, &v) || p.tty == nil {
		return false
	}
	if err := p.r.rec.terminal(p.stream, "r", size(v.Columns, v.Rows)); err != nil {
		p.r.fail(err)
		return false
	}
	return p.send(request, v)
}

// size is what is recorded of a terminal's size. Whose terminal it is may say anything,
// and players take 16 bits; 0 is one that is not known.
func size(columns, rows uint32) []byte {
	const most = 1000
	return fmt.Appendf(nil, "%dx%d", min(cmp.Or(columns, 80), most), min(cmp.Or(rows, 24), most))
}

// lends opens a way from the target back into the user's machine, where the scope
// names it.
func (p *pair) lends(request *ssh.Request, channel string, payload any) bool {
	if !p.r.rules.allows(channel) {
		p.r.over(p.r.rec.note("refused: the grant allows no %s forwarding", channel))
		return false
	}
	p.r.over(p.r.rec.note("%s forwarding was asked for", channel))
	p.r.mu.Lock()
	if channel == channelAgent {
		p.r.agent = true
	} else {
		p.r.x11 = true
	}
	p.r.mu.Unlock()
	return p.send(&ssh.Request{Type: request.Type, WantReply: true}, payload)
}

// start begins the one thing that a session channel is for. It is on the record
// before the target hears of it.
func (p *pair) start(request *ssh.Request) bool {
	p.starting.Lock()
	defer p.starting.Unlock()
	switch {
	case p.begun():
		return false
	case p.r.isOver(): // the end looks for what has begun, once
		return p.refused(request, p.r.why)
	case p.cutting.Load():
		return false
	}
	kind, what, payload, ok := p.wants(request)
	if !ok {
		return false
	}
	if !p.r.rules.allows(kind) {
		say := "the grant allows no " + kind + " here"
		p.r.over(p.r.rec.note("refused: %s: %s", say, what))
		return p.refused(request, say)
	}
	if kind == channelSFTP && request.Type == "subsystem" && what != channelSFTP {
		say := "the subsystem " + what + " does not pass the gate"
		p.r.over(p.r.rec.note("refused: %s", say))
		return p.refused(request, say)
	}
	if err := p.r.rec.begun(p.n, kind, what); err != nil {
		p.r.fail(err)
		_ = request.Reply(true, nil) // the cut has the words, and a client shows them only then
		request.WantReply = false
		return false
	}
	p.kind, p.watch = kind, p.observe(kind, what)
	if !p.send(&ssh.Request{Type: request.Type, WantReply: true}, payload) {
		p.r.over(p.r.rec.done(p.n, "refused by the target", 0, p.since))
		return false
	}
	// The client hears that it began before anything of it, its end too.
	_ = request.Reply(true, nil) // a client that has gone needs no answer
	request.WantReply = false
	close(p.started)
	return true
}

// wants says what is asked for: its kind in the scope's words, what to write down,
// and the payload to send on.
func (p *pair) wants(request *ssh.Request) (kind, what string, payload any, ok bool) {
	switch request.Type {
	case "shell":
		return channelShell, "", nil, len(request.Payload) == 0
	case "exec":
		var v execRequest
		ok := read(request, &v)
		return channelExec, v.Command, v, ok
	default:
		var v subsystem
		ok := read(request, &v)
		return channelSFTP, v.Name, v, ok
	}
}

// refused says why in a way that every client shows: the thing begins, says it, and
// ends with 255.
func (p *pair) refused(request *ssh.Request, say string) bool {
	_ = request.Reply(true, nil) // a client that has gone needs no words
	request.WantReply = false
	p.cut(say)
	return false
}

// observe picks how the channel's bytes are recorded.
func (p *pair) observe(kind, what string) observer {
	switch {
	case kind == channelSFTP:
		return newFiles(p.r.rec, p.n)
	case p.tty != nil:
		return newTerminal(p)
	case kind == channelExec:
		if end, ok := scpEndOf(what); ok {
			return newSCP(p, end)
		}
	}
	return newPlain(p)
}

// terminal records what is drawn, and what is typed where the policy asks for it.
type terminal struct {
	p    *pair
	echo *echo // nil: what is typed is not recorded
}

func newTerminal(p *pair) *terminal {
	t := &terminal{p: p}
	if p.r.options.Input {
		t.echo = &echo{}
	}
	return t
}

func (t *terminal) down(data []byte) error {
	if err := t.p.r.rec.terminal(t.p.stream, "o", data); err != nil || t.echo == nil {
		return err
	}
	for _, line := range t.echo.shown(data) {
		if err := t.p.r.rec.terminal(t.p.stream, "i", line); err != nil {
			return err
		}
	}
	return nil
}

func (t *terminal) up(data []byte) error {
	if t.echo != nil {
		t.echo.typed(data)
	}
	return nil
}

func (t *terminal) close() error { return nil }

// plain records a command or shell without a terminal: its output, in full or by its
// digest, and its input likewise where the policy asks for it, else by its digest. What
// is read from an input nobody sees, so unlike at a terminal all of it is recorded.
type plain struct {
	p   *pair
	in  *digest // nil: the input is recorded in full
	out *digest // nil: so is the output
}

func newPlain(p *pair) *plain {
	c := &plain{p: p}
	full := p.r.options.Output != "digest"
	if !full {
		c.out = newDigest()
	}
	if !full || !p.r.options.Input {
		c.in = newDigest()
	}
	return c
}

func (c *plain) up(data []byte) error   { return c.keep("i", c.in, data) }
func (c *plain) down(data []byte) error { return c.keep("o", c.out, data) }

func (c *plain) keep(code string, into *digest, data []byte) error {
	if into != nil {
		into.add(data)
		return nil
	}
	return c.p.r.rec.terminal(c.p.stream, code, data)
}

func (c *plain) close() error {
	if c.in != nil && c.in.size > 0 {
		if err := c.p.r.rec.note("%s: input of %s", c.p.stream, c.in); err != nil {
			return err
		}
	}
	if c.out != nil && c.out.size > 0 {
		return c.p.r.rec.note("%s: output of %s", c.p.stream, c.out)
	}
	return nil
}
