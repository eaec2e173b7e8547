// Package demorun runs `sallyport demo` as a person would and speaks to it as pages and
// clients do, for the programs that measure a gate at work.
package demorun

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/sallyport/sallyport/internal/devidp"
)

// A Demo is one that runs.
type Demo struct {
	Web      string `json:"web"`
	Postgres string `json:"postgres"`
	App      string `json:"app"`
	SSH      string `json:"ssh"`
	CA       string `json:"ca"`
	Users    []struct {
		Email    string `json:"email"`
		Password string `json:"password"`
	} `json:"users"`

	Roots *x509.CertPool `json:"-"` // of CA

	cmd  *exec.Cmd
	said said
	read sync.WaitGroup
}

// said keeps the last of what a program wrote.
type said struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.text.Len() > 1<<20 {
		s.text.Reset()
	}
	return s.text.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// Start starts a demo in dir, which may be one that ran there before, and returns once it is
// open. PostgreSQL's own user must be able to enter the folder that dir is in.
func Start(ctx context.Context, binary, dir string) (*Demo, error) {
	d := &Demo{cmd: exec.CommandContext(ctx, binary, "demo", "--json", "--ports", "random", "--dir", dir)}
	d.cmd.Cancel = func() error { return d.cmd.Process.Signal(os.Interrupt) }
	d.cmd.Stderr = &d.said
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := d.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w (make build makes it)", binary, err)
	}
	lines := bufio.NewReader(out)
	line, err := lines.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, d)
	}
	d.read.Go(func() { _, _ = io.Copy(io.Discard, lines) }) // it ends with the program
	if err == nil {
		var pem []byte
		pem, err = os.ReadFile(d.CA)
		d.Roots = x509.NewCertPool()
		d.Roots.AppendCertsFromPEM(pem)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the demo did not get ready: %w: %s", err, d.Said()), d.Stop())
	}
	return d, nil
}

// PID is the process of the gate.
func (d *Demo) PID() int { return d.cmd.Process.Pid }

// Said is what the demo has written for people, or the last of it.
func (d *Demo) Said() string { return d.said.String() }

// Stop is Ctrl-C; it returns once everything has ended.
func (d *Demo) Stop() error { return d.end(os.Interrupt) }

// Kill is kill -9 of the gate. What it started may go on.
func (d *Demo) Kill() { _ = d.end(os.Kill) }

func (d *Demo) end(by os.Signal) error {
	_ = d.cmd.Process.Signal(by) // it may have ended
	d.read.Wait()
	return d.cmd.Wait()
}

// A Person is somebody's browser, signed in.
type Person struct {
	d    *Demo
	HTTP *http.Client // has the cookies
}

// Person signs somebody in.
func (d *Demo) Person(email string) (*Person, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	client := &http.Client{Jar: jar, Timeout: 30 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: d.Roots, MinVersion: tls.VersionTLS12}, DialContext: Dial,
	}}
	for _, u := range d.Users {
		if u.Email == email {
			answer, err := devidp.SignInBrowser(client, d.Web+"/login", email, u.Password)
			if err != nil {
				return nil, err
			}
			return &Person{d, client}, answer.Body.Close()
		}
	}
	return nil, errors.New("the demo has no " + email)
}

// Dial reaches every name on this machine: the resolver may not know *.localhost.
func Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	return (&net.Dialer{}).DialContext(ctx, network, net.JoinHostPort("127.0.0.1", port))
}

// Post calls the JSON API as a page does; body and into are what goes there and what comes
// back, nil where that does not matter.
func (p *Person) Post(ctx context.Context, path string, body, into any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.d.Web+path, bytes.NewReader(text))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	return p.call(request, into)
}

// Get reads from the JSON API.
func (p *Person) Get(ctx context.Context, path string, into any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.d.Web+path, nil)
	if err != nil {
		return err
	}
	return p.call(request, into)
}

func (p *Person) call(request *http.Request, into any) error {
	request.Header.Set("Sec-Fetch-Site", "same-origin")
	answer, err := p.HTTP.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	said, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	if answer.StatusCode/100 != 2 {
		return fmt.Errorf("%s: %d %s", request.URL.Path, answer.StatusCode, strings.TrimSpace(string(said)))
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(said, into)
}
