package http

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/sallyport/sallyport/internal/gatetest"
	"github.com/sallyport/sallyport/session"
)

// plainText is a codec of strings.
type plainText struct{}

func (plainText) Marshal(v any) ([]byte, error) { return []byte(*v.(*string)), nil } //nolint:forcetypeassert // of this test
func (plainText) Unmarshal(p []byte, v any) error {
	*v.(*string) = string(p) //nolint:forcetypeassert // of this test
	return nil
}
func (plainText) Name() string { return "text" }

// echoes is a gRPC service with every kind of call.
func echoes(t testing.TB) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	say := func(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) { //nolint:revive // gRPC's order
		var in string
		if err := decode(&in); err != nil {
			return nil, err
		}
		md, _ := metadata.FromIncomingContext(ctx)
		_ = grpc.SetHeader(ctx, metadata.Pairs("x-head", "head"))
		_ = grpc.SetTrailer(ctx, metadata.Pairs("x-tail", "tail"))
		switch in {
		case "fail":
			return nil, grpcstatus.Error(codes.FailedPrecondition, "the till is closed")
		case "hang":
			<-ctx.Done()
			return nil, ctx.Err()
		}
		out := fmt.Sprint(in, " ", len(md["authorization"]), " ", len(md["sallyport-identity"]))
		return &out, nil
	}
	chat := func(_ any, s grpc.ServerStream) error {
		for {
			var in string
			if err := s.RecvMsg(&in); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
			for in == "flood" {
				block := strings.Repeat("x", 10_000)
				if err := s.SendMsg(&block); err != nil {
					return err
				}
			}
			if err := s.SendMsg(&in); err != nil {
				return err
			}
		}
	}
	s := grpc.NewServer(grpc.ForceServerCodec(plainText{}))
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: "test.Echo", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Say", Handler: say}},
		Streams: []grpc.StreamDesc{{StreamName: "Chat", Handler: chat, ServerStreams: true, ClientStreams: true}},
	}, nil)
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		must(t, <-served)
	})
	return l.Addr().String()
}

// calls is a gRPC client of a host behind the gate.
func (w *world) calls(t testing.TB, address string, certs ...tls.Certificate) *grpc.ClientConn {
	t.Helper()
	c, err := grpc.NewClient("passthrough:///"+strings.TrimPrefix(address, "https://"),
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: w.roots, Certificates: certs})),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", w.addr)
		}),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(plainText{})))
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func callWorld(t testing.TB) *world {
	t.Helper()
	return newWorld(t, http.NotFoundHandler(), options{address: echoes(t), extra: "http2 = true", limits: limits{headWait, idleWait, 100 * time.Millisecond}})
}

// chats opens a stream and has one message echoed.
func chats(t testing.TB, ctx context.Context, c *grpc.ClientConn) grpc.ClientStream { //nolint:revive // t first, as everywhere in tests
	t.Helper()
	s, err := c.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/test.Echo/Chat")
	must(t, err)
	echoed(t, s)
	return s
}

func echoed(t testing.TB, s grpc.ClientStream) {
	t.Helper()
	in, out := "hello", ""
	must(t, s.SendMsg(&in))
	if err := s.RecvMsg(&out); err != nil || out != in {
		t.Fatalf("got %q, %v", out, err)
	}
}

// Calls of every kind pass with a token as their proof, with headers, trailers and
// statuses as they are.
func TestCalls(t *testing.T) {
	w := callWorld(t)
	c := w.calls(t, w.app)
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+w.token(t))
	var head, tail metadata.MD
	in, out := "hello", ""
	must(t, c.Invoke(ctx, "/test.Echo/Say", &in, &out, grpc.Header(&head), grpc.Trailer(&tail)))
	if out != "hello 0 1" || head.Get("x-head")[0] != "head" || tail.Get("x-tail")[0] != "tail" {
		t.Errorf("answered %q, %v, %v", out, head, tail)
	}
	in = "fail"
	if err := c.Invoke(ctx, "/test.Echo/Say", &in, &out, grpc.Trailer(&tail)); grpcstatus.Code(err) != codes.FailedPrecondition || grpcstatus.Convert(err).Message() != "the till is closed" {
		t.Errorf("failed with %v", err)
	}
	if err := c.Invoke(ctx, "/test.Echo/Nothing", &in, &out); grpcstatus.Code(err) != codes.Unimplemented {
		t.Errorf("failed with %v", err)
	}
	s := chats(t, ctx, c)
	// A client that listens is not slow.
	timer := time.NewTimer(300 * time.Millisecond)
	defer timer.Stop()
	<-timer.C
	echoed(t, s)
	must(t, s.CloseSend())
	if err := s.RecvMsg(&out); !errors.Is(err, io.EOF) {
		t.Errorf("ended with %v", err)
	}
}

// A call that is refused has a status and our sentence.
func TestCallsAreRefused(t *testing.T) {
	w := callWorld(t)
	cert := w.certificate(t, w.SignIn(t, gatetest.Alice))
	for _, one := range []struct {
		name, address string
		pairs         []string
		certs         []tls.Certificate
		code          codes.Code
		words         string
	}{
		{"no proof", w.app, nil, nil, codes.Unauthenticated, "nothing is opened yet; sign in and say why; open " + w.gate + "/requests/new?"},
		{"a wrong token", w.app, []string{"authorization", "Bearer spg_wrong"}, nil, codes.Unauthenticated, "not valid"},
		{"another path", w.app, []string{"sallyport-role", "some"}, []tls.Certificate{cert}, codes.PermissionDenied, "your grant does not have this path"},
		{"people must agree", w.app, []string{"sallyport-role", "careful"}, []tls.Certificate{cert}, codes.PermissionDenied, "waits for 1 of: dba"},
		{"nobody there", w.other, nil, []tls.Certificate{cert}, codes.Unavailable, "cannot be reached now"},
	} {
		in, out := "hello", ""
		err := w.calls(t, one.address, one.certs...).Invoke(metadata.AppendToOutgoingContext(t.Context(), one.pairs...), "/test.Echo/Say", &in, &out)
		if grpcstatus.Code(err) != one.code || !strings.Contains(grpcstatus.Convert(err).Message(), one.words) {
			t.Errorf("%s: %v", one.name, err)
		}
	}
}

// At the cut a call ends with PERMISSION_DENIED and the reason, whether it has begun
// to answer, is silent, or floods; and with UNAVAILABLE where the gate stops.
func TestCutCalls(t *testing.T) {
	for _, stop := range []bool{false, true} {
		w := callWorld(t)
		ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+w.token(t))
		quiet, flooded := chats(t, ctx, w.calls(t, w.app)), chats(t, ctx, w.calls(t, w.app))
		in := "flood"
		must(t, flooded.SendMsg(&in))
		ends := make(chan error, 3)
		hung := w.calls(t, w.app)
		go func() {
			in, out := "hang", ""
			ends <- hung.Invoke(ctx, "/test.Echo/Say", &in, &out)
		}()
		for _, s := range []grpc.ClientStream{quiet, flooded} {
			go func() {
				var out string
				err := error(nil)
				for err == nil {
					err = s.RecvMsg(&out)
				}
				ends <- err
			}()
		}
		eventually(t, "the call does not begin", func() bool {
			list, err := w.Sessions(t.Context(), w.SignIn(t, gatetest.Alice), session.Filter{State: "live"})
			must(t, err)
			return len(list) > 0
		})
		code, words, begun := codes.PermissionDenied, "your access was revoked by sam@example.com: enough", time.Now()
		stopped := make(chan error, 1)
		if stop {
			code, words = codes.Unavailable, "stop"
			go func() { stopped <- w.Stop(context.WithoutCancel(t.Context()), 0) }()
		} else {
			begun = w.end(t, gatetest.Alice)
			stopped <- nil
		}
		for range 3 {
			err := <-ends
			if grpcstatus.Code(err) != code || !strings.Contains(grpcstatus.Convert(err).Message(), words) {
				t.Errorf("ended with %v", err)
			}
		}
		if took := time.Since(begun); took > soon {
			t.Errorf("cut after %v", took)
		}
		must(t, <-stopped)
	}
}

// The record says how calls ended in gRPC's words: over HTTP all of them are answered 200.
func TestCallsAreRecorded(t *testing.T) {
	w := callWorld(t)
	by := w.SignIn(t, gatetest.Alice)
	cert := w.certificate(t, by)
	say := func(address, role, text string) {
		var out string
		_ = w.calls(t, address, cert).Invoke(metadata.AppendToOutgoingContext(t.Context(), "sallyport-role", role), "/test.Echo/Say", &text, &out)
	}
	for role, want := range map[string][]string{"user": {"0", "9"}, "some": {"7", "7"}} {
		say(w.app, role, "hello")
		say(w.app, role, "fail")
		w.end(t, gatetest.Alice)
		record := w.record(t, by, role)
		var got []string
		for _, done := range record.done {
			got = append(got, done.Call)
		}
		if !slices.Equal(got, want) || record.requests[0].Path != "/test.Echo/Say" {
			t.Errorf("as %s %v was recorded: %s", role, got, record.raw)
		}
	}
	say(w.other, "user", "hello") // nobody is there
	w.end(t, gatetest.Alice)
	if got := w.record(t, by, "user", "other").done; len(got) != 1 || got[0].Call != "14" {
		t.Errorf("%+v was recorded", got)
	}
}
