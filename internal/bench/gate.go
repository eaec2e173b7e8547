package main

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
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/internal/devidp"
)

// gate is a running demo.
type gate struct {
	dir   string
	cmd   *exec.Cmd
	ready struct {
		Ready    bool   `json:"ready"`
		Web      string `json:"web"`
		Postgres string `json:"postgres"`
		CA       string `json:"ca"`
		Users    []struct {
			Email    string `json:"email"`
			Password string `json:"password"`
		} `json:"users"`
	}
	roots *x509.CertPool
}

// startGate starts a demo in a folder of its own, which PostgreSQL's user can enter.
func startGate(ctx context.Context, binary string) (*gate, error) {
	dir, err := os.MkdirTemp("", "sallyport-bench-")
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		return nil, err
	}
	g := &gate{dir: dir, cmd: exec.CommandContext(ctx, binary, "demo", "--json", "--ports", "random", "--dir", filepath.Join(dir, "demo"))}
	g.cmd.Cancel = func() error { return g.cmd.Process.Signal(os.Interrupt) }
	var said bytes.Buffer
	g.cmd.Stderr = &said
	out, err := g.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := g.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w (make build makes it)", binary, err)
	}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &g.ready)
	}
	if err != nil || !g.ready.Ready {
		g.stop()
		return nil, fmt.Errorf("the demo did not get ready: %w: %s", err, said.String())
	}
	go io.Copy(io.Discard, out) //nolint:errcheck // it ends with the program
	pem, err := os.ReadFile(g.ready.CA)
	if err != nil {
		g.stop()
		return nil, err
	}
	g.roots = x509.NewCertPool()
	g.roots.AppendCertsFromPEM(pem)
	return g, nil
}

func (g *gate) stop() {
	_ = g.cmd.Process.Signal(os.Interrupt) // it may have ended
	_ = g.cmd.Wait()
	_ = os.RemoveAll(g.dir)
}

// person signs in and calls the API with the cookie, as the pages do.
func (g *gate) person(email string) (*http.Client, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	client := &http.Client{Jar: jar, Timeout: 30 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: g.roots, MinVersion: tls.VersionTLS12},
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			_, port, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			return (&net.Dialer{}).DialContext(ctx, network, net.JoinHostPort("127.0.0.1", port))
		},
	}}
	for _, u := range g.ready.Users {
		if u.Email == email {
			answer, err := devidp.SignInBrowser(client, g.ready.Web+"/login", email, u.Password)
			if err != nil {
				return nil, err
			}
			return client, answer.Body.Close()
		}
	}
	return nil, errors.New("the demo has no " + email)
}

func (g *gate) call(client *http.Client, path string, body, into any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	request, err := http.NewRequest(http.MethodPost, g.ready.Web+path, bytes.NewReader(text))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Sec-Fetch-Site", "same-origin")
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close() //nolint:errcheck // read to its end
	said, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	if answer.StatusCode/100 != 2 {
		return fmt.Errorf("%s: %d %s", path, answer.StatusCode, said)
	}
	return json.Unmarshal(said, into)
}

var targetAddress = regexp.MustCompile(`address\s*=\s*"([^"]+)"`)

// path is a way to the same database.
type path struct{ host, port, user, password, ca string }

// paths gets Alice a grant for an hour and a token, and finds the way around the gate.
func (g *gate) paths(_ context.Context) (direct, gated path, err error) {
	alice, err := g.person("alice@example.com")
	if err != nil {
		return direct, gated, err
	}
	bob, err := g.person("bob@example.com")
	if err != nil {
		return direct, gated, err
	}
	var request, decided struct{ ID, Grant string }
	if err := g.call(alice, "/api/v1/requests", map[string]string{"target": "orders", "role": "reader", "reason": "benchmark", "duration": "1h"}, &request); err != nil {
		return direct, gated, err
	}
	if err := g.call(bob, "/api/v1/requests/"+request.ID+"/approve", map[string]string{}, &decided); err != nil {
		return direct, gated, err
	}
	var token struct{ Token string }
	if err := g.call(alice, "/api/v1/grants/"+decided.Grant+"/token", map[string]string{}, &token); err != nil {
		return direct, gated, err
	}
	_, port, err := net.SplitHostPort(g.ready.Postgres)
	if err != nil {
		return direct, gated, err
	}
	gated = path{"localhost", port, "reader+token", token.Token, g.ready.CA}
	dir := filepath.Join(g.dir, "demo")
	targets, err := os.ReadFile(filepath.Join(dir, "policy", "policy", "targets.hcl"))
	if err != nil {
		return direct, gated, err
	}
	password, err := os.ReadFile(filepath.Join(dir, "credentials", "orders-reader"))
	if err != nil {
		return direct, gated, err
	}
	m := targetAddress.FindSubmatch(targets)
	if m == nil {
		return direct, gated, errors.New("no address in targets.hcl")
	}
	host, port, err := net.SplitHostPort(string(m[1]))
	return path{host, port, "reader", strings.TrimSpace(string(password)), g.ready.CA}, gated, err
}

// cpu is what the gate's process has used so far (proc_pid_stat(5), utime and stime).
func (g *gate) cpu() time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", g.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100
}

// memory is the gate's resident set in KiB.
func (g *gate) memory() (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", g.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	pages, err := strconv.Atoi(strings.Fields(string(text))[1])
	return float64(pages) * float64(os.Getpagesize()) / 1024, err
}
