package push

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// The numbers of the fields that are encoded piece by piece: a message is the
// same whether it was encoded at once or put together of its fields.
const (
	messageSlice = 2 // of ServerMessage

	updateVersion      = 1 // of SliceUpdate
	updateSnapshot     = 2
	updateServices     = 3
	updateNodes        = 5
	updateRemovedNodes = 6
	updateIndex        = 10
	updateScoped       = 11
	updateMore         = 12

	serviceEndpoints = 6 // of ServiceSlice
)

// encoded gives a message in bytes.
func encoded(m proto.Message) []byte {
	b, err := proto.Marshal(m)
	if err != nil {
		panic(fmt.Sprintf("BUG: a message made of checked rows cannot be encoded: %v", err))
	}
	return b
}

// field gives a message as a field of another.
func field(number protowire.Number, m proto.Message) []byte {
	return appendField(nil, number, encoded(m))
}

func appendField(b []byte, number protowire.Number, content []byte) []byte {
	b = protowire.AppendTag(b, number, protowire.BytesType)
	return protowire.AppendBytes(b, content)
}

func appendFlag(b []byte, number protowire.Number, set bool) []byte {
	if !set {
		return b
	}
	b = protowire.AppendTag(b, number, protowire.VarintType)
	return protowire.AppendVarint(b, 1)
}

// chunkSize is what pieces are put together to: few enough to be sent in one
// go, large enough for there to be few.
const chunkSize = 32 << 10

// A chunker puts small pieces together.
type chunker struct {
	chunks [][]byte
	open   []byte
}

func (c *chunker) add(piece []byte) {
	if len(c.open) > 0 && len(c.open)+len(piece) > chunkSize {
		c.flush()
	}
	c.open = append(c.open, piece...)
}

func (c *chunker) flush() {
	if len(c.open) > 0 {
		c.chunks, c.open = append(c.chunks, c.open), nil
	}
}

func (c *chunker) done() [][]byte {
	c.flush()
	return c.chunks
}
