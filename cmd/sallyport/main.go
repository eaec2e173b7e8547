// Command sallyport is the gate, and what people type to use and run it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/sallyport/sallyport/internal/cli"
)

func main() {
	// A second signal ends the program at once, whatever it is still waiting for; but
	// not one that comes with the first, as timeout(1) and some shells send it.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, func() { time.AfterFunc(time.Second, stop) })
	err := newRoot().ExecuteContext(ctx)
	stop()
	if err == nil {
		return
	}
	code := cli.Failed
	var failure *cli.Exit
	if errors.As(err, &failure) {
		code = failure.Code
	}
	if text := err.Error(); text != "" {
		lastWord("sallyport: " + text)
	}
	os.Exit(code)
}

// lastWord goes to stderr, which may be a pipe that nobody reads: the end does not wait
// for that.
func lastWord(text string) {
	said := make(chan struct{})
	go func() {
		defer close(said)
		fmt.Fprintln(os.Stderr, text)
	}()
	select {
	case <-said:
	case <-time.After(time.Second):
	}
}
