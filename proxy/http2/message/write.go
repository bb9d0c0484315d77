package message

import (
	"bytes"
	"strconv"

	"github.com/meshd/meshd/proxy/exchange"
)

// Fields are where a message is written to.
type Fields interface {
	Field(name, value []byte, sensitive bool)
}

// A Writer writes messages, one after the other. It keeps memory for that.
type Writer struct {
	name, value []byte
}

var (
	method        = []byte(":method")
	scheme        = []byte(":scheme")
	authority     = []byte(":authority")
	path          = []byte(":path")
	status        = []byte(":status")
	http          = []byte("http")
	te            = []byte("te")
	trailers      = []byte("trailers")
	clientID      = []byte("meshd-client-id")
	contentLength = []byte("content-length")
)

// Request writes the head of a request as it goes on. host is used if the
// request names none, and client is the caller's verified identity, if it is to
// be told.
func (w *Writer) Request(to Fields, r *exchange.Request, host, client string) {
	to.Field(method, r.Method, false)
	to.Field(scheme, http, false)
	w.value = append(w.value[:0], host...)
	if r.Authority != nil {
		w.value = append(w.value[:0], r.Authority...)
	}
	to.Field(authority, w.value, false)
	w.value = append(append(w.value[:0], r.Path...), r.Query...)
	to.Field(path, w.value, false)
	for i := range r.Fields {
		if f := &r.Fields[i]; r.Onward(f) || announces(f) {
			w.field(to, f)
		}
	}
	if client != "" {
		w.value = append(w.value[:0], client...)
		to.Field(clientID, w.value, false)
	}
	if r.Trailers {
		to.Field(te, trailers, false)
	}
	if r.Length >= 0 {
		w.number(to, contentLength, r.Length)
	}
}

// Response writes the head of a response as it goes back.
func (w *Writer) Response(to Fields, r *exchange.Response, fromApplication bool) {
	w.number(to, status, int64(r.Status))
	for i := range r.Fields {
		if f := &r.Fields[i]; r.Back(f, fromApplication) || announces(f) {
			w.field(to, f)
		}
	}
	if r.Length >= 0 && r.Status >= 200 && r.Status != 204 {
		w.number(to, contentLength, r.Length)
	}
}

// announces reports whether a field announces trailers that may be passed on:
// some servers take no others.
func announces(f *exchange.Field) bool {
	if f.Kind != exchange.Trailer {
		return false
	}
	for list := f.Value; len(list) > 0; {
		var name []byte
		if name, list = exchange.CutList(list); !exchange.IsToken(name) || !exchange.MayTrail(name) {
			return false
		}
	}
	return true
}

// Trailers writes trailers that are lines of HTTP/1.1.
func (w *Writer) Trailers(to Fields, lines []byte) {
	for len(lines) > 0 {
		var line []byte
		line, lines, _ = bytes.Cut(lines, []byte("\r\n"))
		name, value, _ := bytes.Cut(line, []byte(": "))
		w.field(to, &exchange.Field{Name: name, Value: value})
	}
}

// field writes a field, whose name may come from HTTP/1.1.
func (w *Writer) field(to Fields, f *exchange.Field) {
	w.name = w.name[:0]
	for _, c := range f.Name {
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		w.name = append(w.name, c)
	}
	to.Field(w.name, f.Value, f.Sensitive || isSecret(w.name))
}

func (w *Writer) number(to Fields, name []byte, n int64) {
	w.value = strconv.AppendInt(w.value[:0], n, 10)
	to.Field(name, w.value, false)
}

// isSecret finds what must enter no table, where it could be guessed by what
// others send on the same connection.
func isSecret(name []byte) bool {
	switch string(name) {
	case "authorization", "proxy-authorization", "cookie", "set-cookie":
		return true
	}
	return false
}
