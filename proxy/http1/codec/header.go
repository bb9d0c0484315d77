package codec

import (
	"bytes"

	"github.com/meshd/meshd/proxy/exchange"
)

// A Hop is what a message says about the connection it comes on, and how it is
// framed there.
type Hop struct {
	Chunked bool

	minor     byte   // HTTP/1.minor
	closes    bool   // Connection has close
	keeps     bool   // Connection has keep-alive
	upgrades  bool   // Connection has upgrade
	protocols []byte // value of Upgrade
	hosts     int
	options   int
}

// A reader takes the fields of a message.
type reader struct {
	*exchange.Header
	*Hop
}

// parse reads the lines of fields, up to and with the empty one.
func (h reader) parse(lines []byte, request bool) error {
	for len(lines) > 2 {
		i := bytes.IndexByte(lines, '\n')
		if len(h.Fields) == MaxFields {
			return errTooManyFields
		}
		h.Fields = append(h.Fields, exchange.Field{})
		f := &h.Fields[len(h.Fields)-1]
		if err := parseField(f, lines[:i-1]); err != nil {
			return err
		}
		if err := h.take(f, request); err != nil {
			return err
		}
		lines = lines[i+1:]
	}
	return h.check()
}

func parseField(f *exchange.Field, line []byte) error {
	n := 0
	for n < len(line) && exchange.Class[line[n]]&exchange.TokenByte != 0 {
		n++
	}
	if n == 0 || n == len(line) || line[n] != ':' {
		return badName(line, n)
	}
	f.Name, f.Value = line[:n], exchange.Trim(line[n+1:])
	if !exchange.All(f.Value, exchange.ValueByte) {
		return exchange.Badf("the value of %s has a control character", f.Name)
	}
	f.Kind = exchange.KindOf(f.Name)
	return nil
}

func badName(line []byte, n int) error {
	switch {
	case n == 0 && (line[0] == ' ' || line[0] == '\t'):
		return exchange.Bad("a field is continued on the next line")
	case n == len(line):
		return exchange.Bad("a line of the header has no colon")
	case n == 0 && line[0] == ':':
		return exchange.Bad("a field has no name")
	case line[n] == ' ' || line[n] == '\t':
		return exchange.Bad("there is white space between a field's name and its colon")
	}
	return exchange.Bad("the name of a field has a character that it cannot have")
}

// take notes what a field says about the message and this hop.
func (h reader) take(f *exchange.Field, request bool) error {
	switch f.Kind {
	case exchange.ContentLength:
		return h.TakeLength(f.Value)
	case exchange.TransferEncoding:
		if h.Chunked {
			return exchange.Bad("Transfer-Encoding is given twice")
		}
		if !exchange.Equal(f.Value, "chunked") {
			return &exchange.Error{Status: 501, Reason: "Transfer-Encoding is something else than chunked"}
		}
		h.Chunked = true
	case exchange.Connection:
		return h.takeOptions(f.Value)
	case exchange.TE:
		h.Trailers = h.Trailers || exchange.Listed(f.Value, "trailers")
	case exchange.Upgrade:
		if h.protocols != nil {
			return exchange.Bad("Upgrade is given twice")
		}
		h.protocols = f.Value
	case exchange.Host:
		h.hosts++
	case exchange.Ordinary:
		f.Kind = exchange.Classify(f.Name, request)
	}
	f.Dropped = f.Kind == exchange.Connection || f.Kind == exchange.Hop || f.Kind == exchange.Trailer || f.Kind == exchange.Reserved
	return nil
}

func (h reader) takeOptions(list []byte) error {
	for len(list) > 0 {
		var option []byte
		if option, list = exchange.CutList(list); len(option) == 0 {
			continue
		}
		if h.options++; h.options > maxOptions {
			return exchange.Bad("Connection lists too many options")
		}
		if !exchange.IsToken(option) {
			return exchange.Bad("Connection lists something that is no option")
		}
		h.closes = h.closes || exchange.Equal(option, "close")
		h.keeps = h.keeps || exchange.Equal(option, "keep-alive")
		h.upgrades = h.upgrades || exchange.Equal(option, "upgrade")
	}
	return nil
}

// check looks at what only all fields together say.
func (h reader) check() error {
	switch {
	case h.Chunked && h.Length >= 0:
		return exchange.Bad("there are both Content-Length and Transfer-Encoding")
	case h.Chunked && h.minor == 0:
		return exchange.Bad("there is Transfer-Encoding in an HTTP/1.0 message")
	}
	if h.options > 0 {
		h.dropOptions()
	}
	return nil
}

// dropOptions drops the fields that Connection names, but none that could be
// taken away to deceive the next server.
func (h reader) dropOptions() {
	for i := range h.Fields {
		if h.Fields[i].Kind != exchange.Connection {
			continue
		}
		for list := h.Fields[i].Value; len(list) > 0; {
			var option []byte
			if option, list = exchange.CutList(list); len(option) > 0 && !isOwnOption(option) {
				h.drop(option)
			}
		}
	}
}

func isOwnOption(option []byte) bool {
	return exchange.Equal(option, "close") || exchange.Equal(option, "keep-alive") || exchange.Equal(option, "upgrade")
}

func (h reader) drop(name []byte) {
	for i := range h.Fields {
		f := &h.Fields[i]
		protected := f.Kind == exchange.Host || f.Kind == exchange.ContentLength || f.Kind == exchange.Expect || f.Kind == exchange.Meshd ||
			exchange.HasPrefix(name, "x-forwarded-") || exchange.Equal(name, "authorization")
		if !protected && exchange.EqualFold(f.Name, name) {
			f.Dropped = true
		}
	}
}

// Persists reports whether the sender will keep the connection open after this
// message.
func (h *Hop) Persists() bool {
	return !h.closes && (h.minor >= 1 || h.keeps)
}

// Minor is the version's second digit: 1 for HTTP/1.1.
func (h *Hop) Minor() int { return int(h.minor) }
