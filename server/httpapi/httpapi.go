// Package httpapi serves the API for operators as JSON over HTTP/1.1: the same
// methods as by gRPC, with the same rights and limits, under paths for curl.
package httpapi

import (
	"context"
	"net/http"
	"path"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

// Methods are those of Admin. The context of a call has its peer, and what the
// caller shows as incoming metadata.
type Methods interface {
	// Call calls decode only for who may make the call.
	Call(ctx context.Context, method string, decode func(proto.Message) error) (proto.Message, error)
	Stream(method string, stream grpc.ServerStream) error
}

// NewHandler serves methods.
func NewHandler(methods Methods) http.Handler {
	h := &handler{mux: http.NewServeMux()}
	for _, e := range endpoints {
		h.mux.HandleFunc(e.Verb+" "+e.Path, func(w http.ResponseWriter, r *http.Request) { e.serve(methods, w, r) })
	}
	return h
}

type handler struct{ mux *http.ServeMux }

// ServeHTTP answers one request. Who may ask shows a certificate or a token, which
// no browser adds by itself, so neither Host nor Origin says anything about the
// caller; there is no CORS, and answers are for nobody's cache.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	head := w.Header()
	head.Set("Cache-Control", "no-store")
	head.Set("X-Content-Type-Options", "nosniff")
	head.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	if _, pattern := h.mux.Handler(r); pattern == "" || path.Clean(r.URL.Path) != r.URL.Path {
		h.noEndpoint(w, r)
		return
	}
	h.mux.ServeHTTP(w, r.WithContext(withToken(r)))
}

// withToken puts what a request shows to where calls by gRPC have it.
func withToken(r *http.Request) context.Context {
	md := metadata.MD{}
	if shown := r.Header.Values("Authorization"); len(shown) > 0 {
		md["authorization"] = shown
	}
	return metadata.NewIncomingContext(r.Context(), md)
}

// noEndpoint answers what no endpoint does: 405 where there is one for another
// verb, else 404.
func (h *handler) noEndpoint(w http.ResponseWriter, r *http.Request) {
	found := &refusal{header: http.Header{}}
	if answer, pattern := h.mux.Handler(r); pattern == "" {
		answer.ServeHTTP(found, r)
	}
	if found.status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", found.header.Get("Allow"))
		writeError(w, r, badRequest(http.StatusMethodNotAllowed, "see docs/api.md for what there is", "%s takes %s, not %s", r.URL.Path, found.header.Get("Allow"), r.Method))
		return
	}
	writeError(w, r, badRequest(http.StatusNotFound, "see docs/api.md for what there is", "there is nothing at %s", r.URL.Path))
}

// A refusal takes what http.ServeMux answers by itself.
type refusal struct {
	header http.Header
	status int
}

func (f *refusal) Header() http.Header         { return f.header }
func (f *refusal) WriteHeader(status int)      { f.status = status }
func (f *refusal) Write(b []byte) (int, error) { return len(b), nil }
