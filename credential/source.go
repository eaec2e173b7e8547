package credential

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// MaxSize is the greatest secret that is read, in bytes: more is a wrong path, not a secret.
const MaxSize = 64 << 10

// execWait bounds a command that looks a secret up, because a client waits for it.
const execWait = 10 * time.Second

// Parse makes a Source from its place as proxy.hcl writes it:
//
//	env:NAME         an environment variable of the gate
//	file:/path       a file of mode 0600 or stricter; a final line break is not part of the secret
//	exec:/path args  what a program prints; no shell, arguments split at spaces
//
// Relative paths of files are taken from dir. Nothing is read yet.
func Parse(from, dir string) (Source, error) {
	kind, place, found := strings.Cut(from, ":")
	if !found || place == "" {
		// It is not repeated: people write the password itself here.
		return nil, errors.New("this names no place; write \"env:NAME\", \"file:/path\" or \"exec:/path/to/program arguments\"")
	}
	switch kind {
	case "env":
		if strings.ContainsAny(place, "= \t") {
			return nil, errors.New("env: asks for the name of an environment variable, such as \"env:ORDERS_PASSWORD\"")
		}
		return env(place), nil
	case "file":
		if !filepath.IsAbs(place) {
			place = filepath.Join(dir, place)
		}
		return file(place), nil
	case "exec":
		words := strings.Fields(place)
		if len(words) == 0 || !filepath.IsAbs(words[0]) {
			// A bare name would be looked up on PATH, which whoever starts the gate can bend.
			return nil, errors.New("exec: asks for the program's absolute path, such as \"exec:/usr/bin/pass show orders\"")
		}
		return command(words), nil
	}
	return nil, errors.New("no place begins like this; write \"env:NAME\", \"file:/path\" or \"exec:/path/to/program arguments\"")
}

type env string

func (e env) Where() string { return "env:" + string(e) }

func (e env) Read(context.Context) (Secret, error) {
	value := os.Getenv(string(e))
	if value == "" {
		return Secret{}, fmt.Errorf("%s: the gate's environment has no such variable", e.Where())
	}
	return NewSecret([]byte(value)), nil
}

type file string

func (f file) Where() string { return "file:" + string(f) }

func (f file) Read(context.Context) (Secret, error) {
	value, err := ReadFile(string(f))
	if err != nil {
		return Secret{}, err
	}
	return trimmed(value, f.Where())
}

type command []string

// Where leaves the arguments out, because people put tokens there.
func (c command) Where() string { return "exec:" + c[0] }

func (c command) Read(ctx context.Context) (Secret, error) {
	ctx, cancel := context.WithTimeout(ctx, execWait)
	defer cancel()
	cmd := exec.CommandContext(ctx, c[0], c[1:]...)
	// The whole group is ended: a child that keeps stdout open must not hold the session.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	var out limited
	cmd.Stdout = &out
	// What it says on stderr is not repeated: it may hold the secret.
	if err := cmd.Run(); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		} else if out.over.Load() { // it may have died of the pipe that is no longer read
			err = errTooMuch
		}
		return Secret{}, fmt.Errorf("%s: %w", c.Where(), err)
	}
	return trimmed(out.buf.Bytes(), c.Where())
}

// trimmed drops one final line break, which editors and programs add.
func trimmed(value []byte, where string) (Secret, error) {
	value = bytes.TrimSuffix(value, []byte("\n"))
	value = bytes.TrimSuffix(value, []byte("\r"))
	if len(value) == 0 {
		return Secret{}, fmt.Errorf("%s: is empty", where)
	}
	return NewSecret(value), nil
}

// limited does not embed its buffer: io.Copy would find ReadFrom and pass the limit by.
type limited struct {
	buf  bytes.Buffer
	over atomic.Bool
}

var errTooMuch = fmt.Errorf("more than %d bytes, too much for a secret", MaxSize)

func (l *limited) Write(p []byte) (int, error) {
	if l.buf.Len()+len(p) > MaxSize {
		l.over.Store(true)
		return 0, errTooMuch
	}
	return l.buf.Write(p)
}

// CheckFile says whether a file that holds a secret is a regular file that only
// its owner, or root, can read and write.
func CheckFile(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return plain(path, err)
	}
	return check(path, info)
}

// ReadFile reads a file that holds a secret, and refuses one that others can read
// or that is longer than MaxSize.
func ReadFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, plain(path, err)
	}
	defer f.Close()
	// The opened file is judged, not the path: it could be swapped in between.
	info, err := f.Stat()
	if err != nil {
		return nil, plain(path, err)
	}
	if err := check(path, info); err != nil {
		return nil, err
	}
	value, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return nil, plain(path, err)
	}
	if len(value) > MaxSize {
		return nil, fmt.Errorf("%s: more than %d bytes, too much for a secret", path, MaxSize)
	}
	return value, nil
}

func check(path string, info fs.FileInfo) error {
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is no regular file", path)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("%s holds a secret, and others can get at it (mode %04o); type: chmod 600 %s", path, mode, path)
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if ok && owner.Uid != 0 && int(owner.Uid) != os.Geteuid() {
		return fmt.Errorf("%s holds a secret, and belongs to another user (uid %d)", path, owner.Uid)
	}
	return nil
}

// plain says a file error in words for people; errors.Is still knows the cause.
func plain(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &fileError{say: path + " does not exist", err: err}
	case errors.Is(err, fs.ErrPermission):
		return &fileError{say: fmt.Sprintf("%s cannot be read by this user (uid %d)", path, os.Geteuid()), err: err}
	}
	return err
}

type fileError struct {
	say string
	err error
}

func (e *fileError) Error() string { return e.say }
func (e *fileError) Unwrap() error { return e.err }
