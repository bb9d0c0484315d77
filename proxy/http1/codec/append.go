package codec

import (
	"strconv"

	"github.com/meshd/meshd/proxy/exchange"
)

// Onward says how a request goes on to the next hop.
type Onward struct {
	// Host is used if the request names none.
	Host string
	// ClientID is the verified identity of the caller, for an application.
	ClientID string
	// Chunked says that a body follows whose length is not known.
	Chunked bool
}

// AppendRequest appends the head of a request as it goes on.
func AppendRequest(dst []byte, r *exchange.Request, o Onward) []byte {
	dst = append(dst, r.Method...)
	dst = append(dst, ' ')
	dst = append(dst, r.Path...)
	dst = append(dst, r.Query...)
	dst = append(dst, " HTTP/1.1\r\nhost: "...)
	if r.Authority != nil {
		dst = append(dst, r.Authority...)
	} else {
		dst = append(dst, o.Host...)
	}
	dst = append(dst, "\r\n"...)
	for i := range r.Fields {
		if f := &r.Fields[i]; r.Onward(f) {
			dst = appendField(dst, f.Name, f.Value)
		}
	}
	if o.ClientID != "" {
		dst = append(dst, "meshd-client-id: "...)
		dst = append(dst, o.ClientID...)
		dst = append(dst, "\r\n"...)
	}
	dst = appendHop(dst, r)
	switch {
	case o.Chunked:
		return appendChunked(dst)
	case r.Length >= 0:
		return appendLength(dst, r.Length)
	}
	return append(dst, "\r\n"...)
}

// appendHop appends what is said to the next hop only.
func appendHop(dst []byte, r *exchange.Request) []byte {
	if r.Trailers {
		dst = append(dst, "te: trailers\r\nconnection: te\r\n"...)
	}
	if r.Upgrade != nil {
		dst = append(dst, "connection: upgrade\r\n"...)
		dst = appendField(dst, []byte("upgrade"), r.Upgrade)
	}
	return dst
}

// Back says how a response goes back to the caller.
type Back struct {
	// Framing of the body that follows. Sized takes its length from the
	// response; it is said even where no body follows, as for HEAD.
	Framing Framing
	// Close says that the connection is closed after the response; KeepAlive,
	// to an HTTP/1.0 client, that it is not.
	Close, KeepAlive bool
	// Reason is given if the response has none.
	Reason string
	// FromApplication says that the response has not passed meshd before, so
	// that what it says in meshd's name is not true.
	FromApplication bool
}

// AppendResponse appends the head of a response as it goes back.
func AppendResponse(dst []byte, r *exchange.Response, b Back) []byte {
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(r.Status), 10)
	dst = append(dst, ' ')
	if r.Reason != nil {
		dst = append(dst, r.Reason...)
	} else {
		dst = append(dst, b.Reason...)
	}
	dst = append(dst, "\r\n"...)
	for i := range r.Fields {
		if f := &r.Fields[i]; r.Back(f, b.FromApplication) {
			dst = appendField(dst, f.Name, f.Value)
		}
	}
	switch {
	case r.Status == 101:
		dst = append(dst, "connection: upgrade\r\n"...)
		dst = appendField(dst, []byte("upgrade"), r.Upgrade)
	case b.Close:
		dst = append(dst, "connection: close\r\n"...)
	case b.KeepAlive:
		dst = append(dst, "connection: keep-alive\r\n"...)
	}
	switch {
	case b.Framing == Chunked:
		return appendChunked(dst)
	case b.Framing != UntilClose && r.Length >= 0 && r.Status >= 200 && r.Status != 204:
		return appendLength(dst, r.Length)
	}
	return append(dst, "\r\n"...)
}

func appendField(dst, name, value []byte) []byte {
	dst = append(dst, name...)
	dst = append(dst, ": "...)
	dst = append(dst, value...)
	return append(dst, "\r\n"...)
}

func appendChunked(dst []byte) []byte {
	return append(dst, "transfer-encoding: chunked\r\n\r\n"...)
}

func appendLength(dst []byte, n int64) []byte {
	dst = append(dst, "content-length: "...)
	dst = strconv.AppendInt(dst, n, 10)
	return append(dst, "\r\n\r\n"...)
}

// AppendChunk appends a chunk with that payload, or nothing if there is none:
// an empty chunk would end the body.
func AppendChunk(dst, payload []byte) []byte {
	if len(payload) == 0 {
		return dst
	}
	dst = strconv.AppendInt(dst, int64(len(payload)), 16)
	dst = append(dst, "\r\n"...)
	dst = append(dst, payload...)
	return append(dst, "\r\n"...)
}

// AppendEnd appends the end of a chunked body, with trailers as Body.Trailers
// gives them.
func AppendEnd(dst, trailers []byte) []byte {
	dst = append(dst, "0\r\n"...)
	dst = append(dst, trailers...)
	return append(dst, "\r\n"...)
}
