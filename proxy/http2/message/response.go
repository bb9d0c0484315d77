package message

import (
	"github.com/meshd/meshd/proxy/exchange"
	"github.com/meshd/meshd/proxy/http2/hpack"
)

// Status gives the status of a response, or 0 if it is none.
func Status(b *hpack.Block) int {
	if len(b.Fields) == 0 || string(b.Fields[0].Name) != ":status" {
		return 0
	}
	v := b.Fields[0].Value
	n, ok := exchange.Number(v)
	if len(v) != 3 || !ok || n < 100 || n == 101 {
		return 0
	}
	return int(n)
}

// Length gives what content-length says of a body: -1 if nothing.
func Length(b *hpack.Block) int64 {
	for i := range b.Fields {
		if string(b.Fields[i].Name) == "content-length" {
			if n, ok := exchange.Number(b.Fields[i].Value); ok {
				return n
			}
		}
	}
	return -1
}

// TakeResponse reads a response.
func TakeResponse(b *hpack.Block, r *exchange.Response) error {
	r.Reset()
	if b.TooLarge {
		return errTooLarge
	}
	if r.Status = Status(b); r.Status == 0 {
		return errStatus
	}
	for i := range b.Fields[1:] {
		f := &b.Fields[1+i]
		if len(f.Name) > 0 && f.Name[0] == ':' {
			return errUnknown
		}
		if err := takeField(&r.Header, f, false); err != nil {
			return err
		}
	}
	return nil
}
