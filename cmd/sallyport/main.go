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
		fmt.Fprintln(os.Stderr, "sallyport: "+text)
	}
	os.Exit(code)
}
