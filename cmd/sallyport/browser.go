package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// browserFails is how long a browser's command has to say that it cannot start. One that
// still runs then is the browser itself, and is left alone.
const browserFails = 3 * time.Second

// openBrowser starts the person's own browser: the first that starts of the commands in
// $BROWSER (colon separated, with %s where the address goes, else it comes last), else
// what the desktop says.
func openBrowser(ctx context.Context, address string) error {
	commands := strings.Split(os.Getenv("BROWSER"), ":")
	if runtime.GOOS == "darwin" {
		commands = append(commands, "open")
	}
	err := errors.New("there is no browser to start")
	for _, command := range append(commands, "xdg-open") {
		words := strings.Fields(command)
		if len(words) == 0 {
			continue
		}
		if err = started(ctx, words, address); err == nil {
			return nil
		}
	}
	return err
}

// started starts one command; no shell sees the address.
func started(ctx context.Context, words []string, address string) error {
	named := false
	for i, word := range words {
		if strings.Contains(word, "%s") {
			words[i], named = strings.ReplaceAll(word, "%s", address), true
		}
	}
	if !named {
		words = append(words, address)
	}
	cmd := exec.CommandContext(context.WithoutCancel(ctx), words[0], words[1:]...)
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }() // ends with the browser, or with this program
	select {
	case err := <-ended:
		return err
	case <-time.After(browserFails):
		return nil
	}
}
