package codec

import "bytes"

// A Field is one header field; its slices are of the head that was parsed.
type Field struct {
	Name, Value []byte
	kind        kind
	dropped     bool // it is about this hop only
}

// A kind is what the codec knows about a field's name.
type kind uint8

const (
	ordinary kind = iota
	host
	contentLength
	transferEncoding
	connection
	te
	upgrade
	expect
	hop      // about one hop, and of no use to the next
	reserved // says something that only meshd may say
	meshd    // the same, by meshd's own name
)

func kindOf(name []byte) kind {
	switch len(name) {
	case 2:
		return is(name, "te", te)
	case 4:
		return is(name, "host", host)
	case 6:
		return is(name, "expect", expect)
	case 7:
		if equal(name, "trailer") {
			return hop
		}
		return is(name, "upgrade", upgrade)
	case 10:
		if equal(name, "keep-alive") {
			return hop
		}
		return is(name, "connection", connection)
	case 14:
		if equal(name, "http2-settings") {
			return hop
		}
		return is(name, "content-length", contentLength)
	case 16:
		return is(name, "proxy-connection", hop)
	case 17:
		return is(name, "transfer-encoding", transferEncoding)
	}
	return ordinary
}

func is(name []byte, lower string, k kind) kind {
	if equal(name, lower) {
		return k
	}
	return ordinary
}

// isReserved finds the names by which proxies speak of a caller's identity, of
// this mesh and of others.
func isReserved(name []byte) bool {
	return hasPrefix(name, "x-forwarded-client-cert") || hasPrefix(name, "x-envoy-") || hasPrefix(name, "l5d-")
}

// A Header is the fields of a message and what they say about it.
type Header struct {
	Fields []Field
	// Length is what Content-Length says, or -1.
	Length  int64
	Chunked bool

	minor     byte   // HTTP/1.minor
	closes    bool   // Connection has close
	keeps     bool   // Connection has keep-alive
	upgrades  bool   // Connection has upgrade
	trailers  bool   // TE has trailers
	protocols []byte // value of Upgrade
	hosts     int
	options   int
}

func (h *Header) reset() {
	*h = Header{Fields: h.Fields[:0], Length: -1}
}

// parse reads the lines of fields, up to and with the empty one.
func (h *Header) parse(lines []byte, request bool) error {
	for len(lines) > 2 {
		i := bytes.IndexByte(lines, '\n')
		if len(h.Fields) == MaxFields {
			return errTooManyFields
		}
		h.Fields = append(h.Fields, Field{})
		f := &h.Fields[len(h.Fields)-1]
		if err := f.parse(lines[:i-1]); err != nil {
			return err
		}
		if err := h.take(f, request); err != nil {
			return err
		}
		lines = lines[i+1:]
	}
	return h.check()
}

func (f *Field) parse(line []byte) error {
	n := 0
	for n < len(line) && class[line[n]]&tokenByte != 0 {
		n++
	}
	if n == 0 || n == len(line) || line[n] != ':' {
		return badName(line, n)
	}
	f.Name, f.Value = line[:n], trim(line[n+1:])
	if !all(f.Value, valueByte) {
		return badf("the value of %s has a control character", f.Name)
	}
	f.kind = kindOf(f.Name)
	return nil
}

func badName(line []byte, n int) error {
	switch {
	case n == 0 && (line[0] == ' ' || line[0] == '\t'):
		return bad("a field is continued on the next line")
	case n == len(line):
		return bad("a line of the header has no colon")
	case n == 0 && line[0] == ':':
		return bad("a field has no name")
	case line[n] == ' ' || line[n] == '\t':
		return bad("there is white space between a field's name and its colon")
	}
	return bad("the name of a field has a character that it cannot have")
}

// take notes what a field says about the message and this hop.
func (h *Header) take(f *Field, request bool) error {
	switch f.kind {
	case contentLength:
		n, ok := number(f.Value)
		if !ok {
			return bad("Content-Length is not a number")
		}
		if h.Length >= 0 {
			return bad("Content-Length is given twice")
		}
		h.Length = n
	case transferEncoding:
		if h.Chunked {
			return bad("Transfer-Encoding is given twice")
		}
		if !equal(f.Value, "chunked") {
			return &Error{501, "Transfer-Encoding is something else than chunked"}
		}
		h.Chunked = true
	case connection:
		return h.takeOptions(f.Value)
	case te:
		h.trailers = h.trailers || listed(f.Value, "trailers")
	case upgrade:
		if h.protocols != nil {
			return bad("Upgrade is given twice")
		}
		h.protocols = f.Value
	case host:
		h.hosts++
	case ordinary:
		f.kind = h.classify(f.Name, request)
	}
	f.dropped = f.kind == connection || f.kind == hop || f.kind == reserved
	return nil
}

func (h *Header) classify(name []byte, request bool) kind {
	switch {
	case hasPrefix(name, "meshd-"):
		return meshd
	case !request:
		return ordinary
	case isReserved(name):
		return reserved
	case bytes.IndexByte(name, '_') >= 0:
		// Many servers take - and _ for the same, so that such a name could
		// stand in for any other.
		return reserved
	}
	return ordinary
}

func (h *Header) takeOptions(list []byte) error {
	for len(list) > 0 {
		var option []byte
		if option, list = cutList(list); len(option) == 0 {
			continue
		}
		if h.options++; h.options > maxOptions {
			return bad("Connection lists too many options")
		}
		if !isToken(option) {
			return bad("Connection lists something that is no option")
		}
		h.closes = h.closes || equal(option, "close")
		h.keeps = h.keeps || equal(option, "keep-alive")
		h.upgrades = h.upgrades || equal(option, "upgrade")
	}
	return nil
}

// check looks at what only all fields together say.
func (h *Header) check() error {
	switch {
	case h.Chunked && h.Length >= 0:
		return bad("there are both Content-Length and Transfer-Encoding")
	case h.Chunked && h.minor == 0:
		return bad("there is Transfer-Encoding in an HTTP/1.0 message")
	}
	if h.options > 0 {
		h.dropOptions()
	}
	return nil
}

// dropOptions drops the fields that Connection names, but none that could be
// taken away to deceive the next server.
func (h *Header) dropOptions() {
	for i := range h.Fields {
		if h.Fields[i].kind != connection {
			continue
		}
		for list := h.Fields[i].Value; len(list) > 0; {
			var option []byte
			if option, list = cutList(list); len(option) > 0 && !isOwnOption(option) {
				h.drop(option)
			}
		}
	}
}

func isOwnOption(option []byte) bool {
	return equal(option, "close") || equal(option, "keep-alive") || equal(option, "upgrade")
}

func (h *Header) drop(name []byte) {
	for i := range h.Fields {
		f := &h.Fields[i]
		protected := f.kind == host || f.kind == contentLength || f.kind == expect || f.kind == meshd ||
			hasPrefix(name, "x-forwarded-") || equal(name, "authorization")
		if !protected && equalFold(f.Name, name) {
			f.dropped = true
		}
	}
}

// Has reports whether there is a field of that name, in lower case, with
// exactly that value. What is not passed on is not found.
func (h *Header) Has(name, value string) bool {
	for i := range h.Fields {
		f := &h.Fields[i]
		if !f.dropped && f.kind != meshd && equal(f.Name, name) && string(f.Value) == value {
			return true
		}
	}
	return false
}

// Get returns the value of the first field of that name, in lower case.
func (h *Header) Get(name string) (value []byte, ok bool) {
	for i := range h.Fields {
		if equal(h.Fields[i].Name, name) {
			return h.Fields[i].Value, true
		}
	}
	return nil, false
}

// Persists reports whether the sender will keep the connection open after this
// message.
func (h *Header) Persists() bool {
	return !h.closes && (h.minor >= 1 || h.keeps)
}

// Minor is the version's second digit: 1 for HTTP/1.1.
func (h *Header) Minor() int { return int(h.minor) }
