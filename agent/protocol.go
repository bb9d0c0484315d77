package agent

import (
	"context"
	"fmt"
	"io"
	"net"
	"time"

	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
)

// probeTime bounds the question to the application.
const probeTime = time.Second

// findProtocol completes a declaration that a person made and that leaves the
// protocol open: it asks the application once, when it is declared, whether it
// answers HTTP. What it finds is kept, and no call's bytes are ever looked at to
// guess. The warning is not empty when there was nobody to ask.
func (a *Agent) findProtocol(ctx context.Context, d *apiv1.Declaration) (_ *apiv1.Declaration, warning string) {
	if d.GetProtocol() != apiv1.Protocol_PROTOCOL_UNSPECIFIED || len(d.GetChecks()) > 0 {
		return d, ""
	}
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	c, err := a.cfg.Network.DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", d.GetPort()))
	if err != nil {
		return d, fmt.Sprintf("nothing answers on 127.0.0.1:%d, so the protocol is taken to be tcp; if it is HTTP, add the service again with --protocol http", d.GetPort())
	}
	defer c.Close()
	if deadline, _ := ctx.Deadline(); c.SetDeadline(deadline) != nil || !answersHTTP(c, d.GetName()) {
		return d, ""
	}
	d = proto.CloneOf(d)
	d.Protocol = apiv1.Protocol_PROTOCOL_HTTP
	return d, ""
}

func answersHTTP(c net.Conn, name string) bool {
	if _, err := fmt.Fprintf(c, "HEAD / HTTP/1.1\r\nHost: %s.mesh\r\nUser-Agent: meshd\r\nConnection: close\r\n\r\n", name); err != nil {
		return false
	}
	const version = "HTTP/1."
	var begin [len(version)]byte
	_, err := io.ReadFull(c, begin[:])
	return err == nil && string(begin[:]) == version
}
