// Package codec reads and writes HTTP/1.1 as RFC 9112 has it: pure functions
// over bytes, which do no IO and keep nothing they were not given.
//
// It refuses whatever two servers might read differently, and repairs nothing.
// What it writes is always framed anew, never as it was received.
package codec

import "fmt"

// Limits of what is read.
const (
	MaxHead   = 64 << 10 // bytes of a head, its empty line included
	MaxLine   = 8 << 10  // bytes of one of its lines
	MaxFields = 100
	// maxOptions bounds what Connection may list: each is compared with every field.
	maxOptions = 32
	// maxExtensions bounds the bytes of chunk extensions of a whole body.
	maxExtensions = 256
	maxTrailers   = 8 << 10
)

// An Error is why a message is refused.
type Error struct {
	Status int // that a request is answered with
	Reason string
}

func (e *Error) Error() string { return e.Reason }

func bad(reason string) error { return &Error{400, reason} }

func badf(format string, args ...any) error { return &Error{400, fmt.Sprintf(format, args...)} }

var (
	errHeadTooLarge  = &Error{431, "the header is larger than 64 KiB"}
	errLineTooLong   = &Error{431, "a line of the header is longer than 8 KiB"}
	errTooManyFields = &Error{431, "the header has more than 100 fields"}
	errTargetTooLong = &Error{414, "the request line is longer than 8 KiB"}
)
