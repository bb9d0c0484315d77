package agent

import (
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/grpcx"
	"github.com/meshd/meshd/internal/netx"
)

// Whoever asks an agent for what is no host's business is told where to ask.
func TestChangesOfTheMeshAreMadeElsewhere(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := netx.System{}.Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	g := grpcx.NewServer(grpc.UnaryInterceptor(notHere), grpc.StreamInterceptor(streamNotHere))
	apiv1.RegisterAdminServer(g, adminAPI{})
	done := make(chan struct{})
	go func() { defer close(done); g.Serve(l) }()
	defer func() { g.Stop(); <-done }()
	conn, err := grpcx.DialUnix(netx.System{}, socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	asked := 0
	f := func(method string, streams bool) {
		t.Helper()
		full := "/" + apiv1.Admin_ServiceDesc.ServiceName + "/" + method
		stream, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: streams, ClientStreams: streams}, full)
		if err == nil {
			_ = stream.SendMsg(&apiv1.StatusRequest{})
			_ = stream.CloseSend()
			err = stream.RecvMsg(&apiv1.StatusReply{})
		}
		if status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), method) || !strings.Contains(err.Error(), "on a server host") {
			t.Errorf("%s gave %v", method, err)
		}
		asked++
	}
	for _, m := range apiv1.Admin_ServiceDesc.Methods {
		switch m.MethodName {
		case "Status", "Members", "ListServices", "GetResources":
		default:
			f(m.MethodName, false)
		}
	}
	for _, s := range apiv1.Admin_ServiceDesc.Streams {
		f(s.StreamName, true)
	}
	if asked < 15 {
		t.Errorf("only %d methods were tried", asked)
	}
}
