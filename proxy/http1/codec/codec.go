// Package codec reads and writes HTTP/1.1 as RFC 9112 has it: pure functions
// over bytes, which do no IO and keep nothing they were not given.
//
// It refuses whatever two servers might read differently, and repairs nothing.
// What it writes is always framed anew, never as it was received.
package codec

import "github.com/meshd/meshd/proxy/exchange"

// Limits of what is read.
const (
	MaxHead   = exchange.MaxHead  // bytes of a head, its empty line included
	MaxLine   = exchange.MaxField // bytes of one of its lines
	MaxFields = exchange.MaxFields
	// maxOptions bounds what Connection may list: each is compared with every field.
	maxOptions = 32
	// maxExtensions bounds the bytes of chunk extensions of a whole body.
	maxExtensions = 256
	maxTrailers   = 8 << 10
)

var (
	errHeadTooLarge  = &exchange.Error{Status: 431, Reason: "the header is larger than 64 KiB"}
	errLineTooLong   = &exchange.Error{Status: 431, Reason: "a line of the header is longer than 8 KiB"}
	errTooManyFields = &exchange.Error{Status: 431, Reason: "the header has more than 100 fields"}
	errTargetTooLong = &exchange.Error{Status: 414, Reason: "the request line is longer than 8 KiB"}
)
