//go:build !linux

package proxy

import (
	"context"
	"net"
)

// loops are Linux's; elsewhere goroutines relay.
type loops struct{}

func (*loops) stop() {}

type flow struct{}

func newFlow(_, _ net.Conn, _, _ Observer, _ context.CancelCauseFunc) (*flow, error) { return nil, nil } //nolint:nilnil // no flow is no error

func (*flow) run(context.Context) error { return nil }
