package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/meshd/meshd/store/command"
)

// A Propose has a command applied on all servers, as Store.Apply does.
type Propose func(context.Context, proto.Message) (*command.Result, error)

// RestoreSnapshot brings back what SaveSnapshot wrote. Configuration becomes what
// it was, and hosts that are gone since come back as lost; all else stays, see
// DESIGN.md. Of a snapshot of another mesh, which is refused unless otherMesh is
// set, only configuration is taken. All of the snapshot is checked before
// anything is proposed, and it takes force, all at once, with the last of the
// commands, the one that has Last set, whose result this is. Broken off before,
// it has changed nothing.
func RestoreSnapshot(ctx context.Context, r io.Reader, otherMesh bool, propose Propose) (*command.Result, error) {
	_, snapshot, err := readArchive(r)
	if err != nil {
		return nil, fmt.Errorf("reading a saved snapshot: %w", err)
	}
	w := &stager{ctx: ctx, propose: propose, id: rand.Text(), otherMesh: otherMesh}
	if _, err = snapshot.WriteTo(w); err == nil {
		err = w.flush(true)
	}
	if errors.Is(err, errRefused) {
		err = nil
	}
	return w.result, err
}

// errRefused ends the writing when the state has refused a piece.
var errRefused = errors.New("refused")

// A stager proposes what is written to it, piece by piece.
type stager struct {
	ctx       context.Context
	propose   Propose
	id        string
	otherMesh bool
	buf       []byte
	offset    uint64
	result    *command.Result // of the last piece
}

func (w *stager) Write(b []byte) (int, error) {
	w.buf = append(w.buf, b...)
	for len(w.buf) > pieceSize {
		if err := w.flush(false); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}

// flush proposes one piece. There is always one left for the last flush.
func (w *stager) flush(last bool) (err error) {
	n := min(len(w.buf), pieceSize)
	w.result, err = w.propose(w.ctx, &command.RestoreState{
		Id: w.id, Offset: w.offset, Data: w.buf[:n], Last: last, OtherMesh: w.otherMesh, TimeUnix: time.Now().Unix(),
	})
	if err != nil {
		return fmt.Errorf("bringing back a saved snapshot, at byte %d: %w", w.offset, err)
	}
	if w.result.Refusal != command.Refusal_REFUSAL_NONE {
		return errRefused
	}
	w.offset += uint64(n)
	w.buf = w.buf[n:]
	return nil
}
