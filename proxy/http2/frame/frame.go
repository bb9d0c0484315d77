// Package frame reads and writes the frames of HTTP/2 as RFC 9113 has them: pure
// functions over bytes, which know what one frame may look like but not what it
// means for a connection.
package frame

import (
	"encoding/binary"
	"fmt"
)

// Preface is what a client sends first.
const Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// HeaderSize is how many bytes stand before a frame's payload.
const HeaderSize = 9

// Limits that RFC 9113 sets.
const (
	DefaultWindow  = 65_535
	MaxWindow      = 1<<31 - 1
	DefaultMaxSize = 16 << 10 // of a payload
	LargestMaxSize = 1<<24 - 1
)

// A Type is what a frame is.
type Type uint8

const (
	Data Type = iota
	Headers
	Priority
	Reset
	SettingsType
	PushPromise
	PingType
	GoAwayType
	WindowUpdateType
	Continuation
)

func (t Type) String() string {
	names := [...]string{"DATA", "HEADERS", "PRIORITY", "RST_STREAM", "SETTINGS", "PUSH_PROMISE", "PING", "GOAWAY", "WINDOW_UPDATE", "CONTINUATION"}
	if int(t) < len(names) {
		return names[t]
	}
	return fmt.Sprintf("frame of type %d", uint8(t))
}

// Flags of a frame; what they mean depends on its type.
type Flags uint8

const (
	EndStream   Flags = 0x1
	Ack         Flags = 0x1
	EndHeaders  Flags = 0x4
	Padded      Flags = 0x8
	HasPriority Flags = 0x20
)

// Has reports whether a flag is set.
func (f Flags) Has(flag Flags) bool { return f&flag != 0 }

// A Header is the nine bytes before a payload.
type Header struct {
	Length int
	Type   Type
	Flags  Flags
	Stream uint32
}

// ParseHeader reads a header. There must be HeaderSize bytes.
func ParseHeader(b []byte) Header {
	return Header{
		Length: int(b[0])<<16 | int(b[1])<<8 | int(b[2]),
		Type:   Type(b[3]),
		Flags:  Flags(b[4]),
		Stream: binary.BigEndian.Uint32(b[5:]) & MaxWindow,
	}
}

// A Code says why a stream or connection ended.
type Code uint32

const (
	NoError Code = iota
	ProtocolError
	InternalError
	FlowControlError
	SettingsTimeout
	StreamClosed
	FrameSizeError
	RefusedStream
	Cancel
	CompressionError
	ConnectError
	EnhanceYourCalm
	InadequateSecurity
	HTTP11Required
)

func (c Code) String() string {
	names := [...]string{"NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED",
		"FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM", "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED"}
	if int(c) < len(names) {
		return names[c]
	}
	return fmt.Sprintf("error %d", uint32(c))
}

// An Error is why a frame cannot be accepted. Without a stream, the connection
// cannot go on.
type Error struct {
	Stream uint32
	Code   Code
	Reason string
}

func (e *Error) Error() string { return e.Reason + " (" + e.Code.String() + ")" }

func connError(code Code, reason string) error { return &Error{Code: code, Reason: reason} }

// Each of these is refused without a look at its payload.
var (
	errStreamZero = connError(ProtocolError, "a frame that is about a stream has none")
	errNotZero    = connError(ProtocolError, "a frame that is about the connection has a stream")
	errSize       = connError(FrameSizeError, "a frame has a size that its type cannot have")
	errTooLong    = connError(FrameSizeError, "a frame is longer than was agreed")
	errPadding    = connError(ProtocolError, "a frame has more padding than payload")
	errPush       = connError(ProtocolError, "nothing may be pushed")
)
