// Package exchange is what deciders see of a call, whatever protocol carries it.
package exchange

// A Request is what is asked. Its slices belong to the connection it came on
// and are valid until it is answered.
type Request struct {
	Method    []byte
	Authority []byte
	// Path is the target without its query, "*" for OPTIONS about a server as a
	// whole. It is as it was sent until Canonicalize has succeeded.
	Path   []byte
	Fields Fields
}

// Fields are the header fields of a request.
type Fields interface {
	// Has reports whether there is a field of that name, given in lower case,
	// with exactly that value.
	Has(name, value string) bool
}

// Canonicalize replaces the path by its canonical form, which is built in
// scratch. What is matched is what must be forwarded.
func (r *Request) Canonicalize(scratch []byte) error {
	if string(r.Path) == "*" {
		return nil
	}
	path, err := AppendCanonicalPath(scratch[:0], r.Path)
	if err != nil {
		return err
	}
	r.Path = path
	return nil
}
