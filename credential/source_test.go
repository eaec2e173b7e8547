package credential

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func write(t *testing.T, mode os.FileMode, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSourcesRead(t *testing.T) {
	t.Setenv("ORDERS_PASSWORD", "from env")
	for _, c := range []struct{ from, where, want string }{
		{"env:ORDERS_PASSWORD", "env:ORDERS_PASSWORD", "from env"},
		{"file:" + write(t, 0o600, "from file\n"), "", "from file"},
		{"file:" + write(t, 0o400, "with space \r\n"), "", "with space "},
		{"exec:/bin/echo from program", "exec:/bin/echo", "from program"},
	} {
		source, err := Parse(c.from, "/")
		if err != nil {
			t.Fatal(err)
		}
		if c.where != "" && source.Where() != c.where {
			t.Errorf("%s is said to be at %s", c.from, source.Where())
		}
		secret, err := source.Read(t.Context())
		if err != nil || string(secret.Reveal()) != c.want {
			t.Errorf("%s: %q, %v", c.from, secret.Reveal(), err)
		}
	}
}

func TestRelativeFileIsBesideTheConfiguration(t *testing.T) {
	source, err := Parse("file:keys/orders", "/etc/sallyport")
	if err != nil || source.Where() != "file:/etc/sallyport/keys/orders" {
		t.Fatalf("%v, %v", source, err)
	}
}

func TestRotatedFileIsReadAgain(t *testing.T) {
	path := write(t, 0o600, "old")
	source, err := Parse("file:"+path, "/")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	secret, err := source.Read(t.Context())
	if err != nil || string(secret.Reveal()) != "new" {
		t.Fatalf("%q, %v", secret.Reveal(), err)
	}
}

func TestPlacesThatAreRefused(t *testing.T) {
	for from, want := range map[string]string{
		"":                 "names no place",
		"hunter2":          "names no place",
		"env:":             "names no place",
		"env:A=B":          "name of an environment variable",
		"vault:x":          "no place begins",
		"exec:pass orders": "absolute path",
		"exec: ":           "absolute path",
	} {
		if _, err := Parse(from, "/"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", from, err)
		}
	}
}

func TestSecretsThatAreRefused(t *testing.T) {
	for from, want := range map[string]string{
		"env:SALLYPORT_NO_SUCH_VARIABLE":                          "no such variable",
		"file:/nonexistent/secret":                                "does not exist",
		"file:" + t.TempDir():                                     "no regular file",
		"file:" + write(t, 0o640, "leaky"):                        "chmod 600",
		"file:" + write(t, 0o604, "leaky"):                        "chmod 600",
		"file:" + write(t, 0o600, "\n"):                           "is empty",
		"file:" + write(t, 0o600, strings.Repeat("x", MaxSize+1)): "too much for a secret",
		"exec:/bin/false":                                         "exit status 1",
		"exec:/nonexistent/program":                               "no such file",
		"exec:/bin/true":                                          "is empty",
		"exec:/usr/bin/head -c 100000 /dev/zero":                  "too much for a secret",
		"exec:/usr/bin/yes":                                       "too much for a secret", // it dies of SIGPIPE
	} {
		source, err := Parse(from, "/")
		if err != nil {
			t.Fatal(err)
		}
		secret, err := source.Read(t.Context())
		if err == nil || !strings.Contains(err.Error(), want) || !secret.IsZero() {
			t.Errorf("%s: %v", from, err)
		}
	}
}

func TestFileOfAnotherUserIsRefused(t *testing.T) {
	path := write(t, 0o600, "planted")
	if err := os.Chown(path, 65534, 65534); err != nil {
		// Only root can give a file away; others meet such files as unreadable.
		if _, err := ReadFile("/proc/1/environ"); err == nil {
			t.Fatal("read another user's file")
		}
		return
	}
	if _, err := ReadFile(path); err == nil || !strings.Contains(err.Error(), "belongs to another user") {
		t.Fatalf("%v", err)
	}
}

func TestErrorsNeverShowTheSecret(t *testing.T) {
	const secret = "hunter2-secret"
	script := filepath.Join(t.TempDir(), "leak")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho "+secret+"\necho "+secret+" >&2\nexit 3\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	source, err := Parse("exec:"+script+" --token "+secret, "/")
	if err != nil {
		t.Fatal(err)
	}
	_, err = source.Read(t.Context())
	if err == nil || strings.Contains(err.Error(), secret) {
		t.Fatalf("%v", err)
	}
}

// The program's own children end too, even where they keep its output open.
func TestCommandEndsWithItsSession(t *testing.T) {
	dir := t.TempDir()
	script, pidFile := filepath.Join(dir, "slow"), filepath.Join(dir, "pid")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n/bin/sleep 60 &\necho $! > "+pidFile+".new && mv "+pidFile+".new "+pidFile+"\nwait\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	source, err := Parse("exec:"+script, "/")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	read := make(chan error, 1)
	go func() {
		_, err := source.Read(ctx)
		read <- err
	}()
	var pid []byte
	for tick := time.NewTicker(5 * time.Millisecond); len(pid) == 0; <-tick.C {
		pid, _ = os.ReadFile(pidFile) // not there yet
	}
	cancel()
	if err := <-read; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	stat := filepath.Join("/proc", strings.TrimSpace(string(pid)), "stat")
	deadline := time.Now().Add(10 * time.Second)
	for tick := time.NewTicker(5 * time.Millisecond); ; <-tick.C {
		text, err := os.ReadFile(stat)
		if err != nil || strings.Contains(string(text), ") Z ") {
			return // gone, or waiting to be buried
		}
		if time.Now().After(deadline) {
			t.Fatal("the program's child lives on")
		}
	}
}

func TestUnknownCredential(t *testing.T) {
	if _, err := (Set{}).Read(t.Context(), "orders"); !errors.Is(err, ErrUnknown) {
		t.Fatalf("%v", err)
	}
}
