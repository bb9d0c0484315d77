// Package command is the envelope of log entries: what kind of entry it is, and
// its body.
package command

import (
	"encoding/binary"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"
)

// An encoded entry is one byte of format, two bytes of type (big-endian) and
// the protobuf encoding of the body.
const (
	format     = 1
	headerSize = 3
)

// An UnknownError reports an entry that this version of meshd does not know. A
// newer one wrote it.
type UnknownError struct {
	Format byte
	// Type is 0 when the format is the unknown thing.
	Type Type
}

func (e *UnknownError) Error() string {
	if e.Format != format {
		return fmt.Sprintf("log entry has format %d, this version of meshd knows only format %d: it was written by a newer one, so update this server", e.Format, format)
	}
	return fmt.Sprintf("log entry has type %d, which this version of meshd does not know: it was written by a newer one, so update this server", e.Type)
}

// Encode gives the bytes of a log entry with msg as its body. Equal messages
// have equal encodings. It fails for messages that are no commands.
func Encode(msg proto.Message) ([]byte, error) {
	t := TypeOf(msg)
	if t == 0 {
		return nil, fmt.Errorf("encoding a log entry: %T is not a command", msg)
	}
	b := binary.BigEndian.AppendUint16([]byte{format}, uint16(t))
	b, err := proto.MarshalOptions{Deterministic: true}.MarshalAppend(b, msg)
	if err != nil {
		return nil, fmt.Errorf("encoding a log entry of type %d: %w", t, err)
	}
	return b, nil
}

// Decode reads an encoded log entry. The error is an *UnknownError when a newer
// version wrote it.
func Decode(b []byte) (proto.Message, error) {
	if len(b) < headerSize {
		return nil, errors.New("decoding a log entry: it ends inside its header")
	}
	if b[0] != format {
		return nil, &UnknownError{Format: b[0]}
	}
	t := Type(binary.BigEndian.Uint16(b[1:]))
	msg := t.New()
	if msg == nil {
		return nil, &UnknownError{Format: format, Type: t}
	}
	if err := proto.Unmarshal(b[headerSize:], msg); err != nil {
		return nil, fmt.Errorf("decoding a log entry of type %d: %w", t, err)
	}
	return msg, nil
}
