package http2

import (
	"strings"

	"github.com/meshd/meshd/proxy/observe"
)

// grpcStatus is what clients are told of a call that meshd has ended.
func grpcStatus(c *observe.Code) string {
	switch c {
	case observe.Denied:
		return "7" // PERMISSION_DENIED
	case observe.HeadTooLarge:
		return "8" // RESOURCE_EXHAUSTED
	case observe.ResponseTimeout, observe.RequestTimeout, observe.BodyTimeout:
		return "4" // DEADLINE_EXCEEDED
	case observe.NotImplemented:
		return "12" // UNIMPLEMENTED
	case observe.Cancelled:
		return "1" // CANCELLED
	case observe.BadResponse:
		return "13" // INTERNAL
	}
	if c.Status < 500 {
		return "3" // INVALID_ARGUMENT
	}
	return "14" // UNAVAILABLE
}

// grpcMessage encodes a text as grpc-message wants it.
func grpcMessage(s string) string {
	var b strings.Builder
	for _, c := range []byte(strings.TrimSuffix(s, "\n")) {
		if c < ' ' || c > '~' || c == '%' {
			b.WriteString("%" + string("0123456789ABCDEF"[c>>4]) + string("0123456789ABCDEF"[c&15]))
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
