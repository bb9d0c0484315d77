package httpapi

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	apiv1 "github.com/meshd/meshd/api/v1"
)

const (
	snapshotType = "application/octet-stream"
	// stall is how long a snapshot may stand still.
	stall = 30 * time.Second
	// piece is how much of a body is read at once, in bytes.
	piece = 64 << 10
)

// saveSnapshot answers with a snapshot's bytes.
func saveSnapshot(methods Methods, w http.ResponseWriter, r *http.Request) error {
	d := &download{transfer: newTransfer(w, r), w: w}
	if err := bind(&endpoint{Path: r.URL.Path}, r, &d.request); err != nil {
		return err
	}
	err := methods.Stream("SaveSnapshot", d)
	if err != nil && d.begun {
		panic(http.ErrAbortHandler) // so that nobody takes the part for the whole
	}
	return err
}

// restoreSnapshot takes a snapshot's bytes.
func restoreSnapshot(methods Methods, w http.ResponseWriter, r *http.Request) error {
	u := &upload{transfer: newTransfer(w, r), body: r.Body, contentType: func() error { return checkType(r, snapshotType) }}
	for name, values := range r.URL.Query() {
		other, err := strconv.ParseBool(values[0])
		if name != "other_mesh" || len(values) > 1 || err != nil {
			return badRequest(http.StatusBadRequest, "it takes other_mesh=true", "%s takes no such parameter: %q", r.URL.Path, name)
		}
		u.otherMesh = other
	}
	if err := methods.Stream("RestoreSnapshot", u); err != nil {
		return err
	}
	return writeMessage(w, http.StatusOK, u.reply)
}

// A transfer is what streams of a method see of a request.
type transfer struct {
	ctx     context.Context
	control *http.ResponseController
}

func newTransfer(w http.ResponseWriter, r *http.Request) transfer {
	return transfer{r.Context(), http.NewResponseController(w)}
}

func (t transfer) Context() context.Context     { return t.ctx }
func (t transfer) SetHeader(metadata.MD) error  { return nil }
func (t transfer) SendHeader(metadata.MD) error { return nil }
func (t transfer) SetTrailer(metadata.MD)       {}

// goOn gives the other side time for the next piece.
func (t transfer) goOn() {
	end := time.Now().Add(stall)
	// A server whose connections have no deadlines has no need of longer ones.
	_ = t.control.SetReadDeadline(end)
	_ = t.control.SetWriteDeadline(end)
}

// A download is the stream of SaveSnapshot.
type download struct {
	transfer
	w       http.ResponseWriter
	request apiv1.SaveSnapshotRequest
	begun   bool
}

var _ grpc.ServerStream = (*download)(nil)

func (d *download) RecvMsg(m any) error {
	m.(*apiv1.SaveSnapshotRequest).Stale = d.request.Stale
	return nil
}

func (d *download) SendMsg(m any) error {
	if !d.begun {
		d.w.Header().Set("Content-Type", snapshotType)
		d.begun = true
	}
	d.goOn()
	_, err := d.w.Write(m.(*apiv1.SnapshotChunk).Data)
	return err
}

// An upload is the stream of RestoreSnapshot.
type upload struct {
	transfer
	body        io.Reader
	contentType func() error // checked when the caller is known to be allowed
	otherMesh   bool
	begun       bool
	reply       *apiv1.RestoreSnapshotReply
}

var _ grpc.ServerStream = (*upload)(nil)

func (u *upload) RecvMsg(m any) error {
	request := m.(*apiv1.RestoreSnapshotRequest)
	request.Reset()
	if !u.begun {
		u.begun = true
		if err := u.contentType(); err != nil {
			return err
		}
		request.OtherMesh = u.otherMesh
	}
	u.goOn()
	data := make([]byte, piece)
	n, err := io.ReadFull(u.body, data)
	request.Data = data[:n]
	if n > 0 && (errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF)) {
		return nil
	}
	return err
}

func (u *upload) SendMsg(m any) error {
	u.reply = m.(*apiv1.RestoreSnapshotReply)
	return nil
}
