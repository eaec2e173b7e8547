package ssh

import (
	"context"
	"errors"
	"testing"

	"github.com/sallyport/sallyport/internal/contain"
)

// Class: one client ends everybody. What panics in one channel ends its session.
func TestPanicInAChannelEndsItsSession(t *testing.T) {
	ctx, fail := context.WithCancelCause(t.Context())
	c := crew{fail: fail}
	c.Go(func() { panic("a packet that nobody thought of") })
	c.Wait()
	var panicked *contain.Error
	if err := context.Cause(ctx); !errors.As(err, &panicked) {
		t.Errorf("the session ends by %v", err)
	}
}
