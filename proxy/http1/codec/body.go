package codec

import (
	"bytes"
	"io"

	"github.com/meshd/meshd/proxy/exchange"
)

// A Framing is how a body's end is found.
type Framing uint8

const (
	NoBody Framing = iota
	Sized
	Chunked
	// UntilClose: the body of a response ends with the connection.
	UntilClose
)

// A Body finds the payload in the bytes that follow a head.
type Body struct {
	Framing Framing

	done       bool
	state      chunkState
	left       int64 // of the body, or of the chunk
	extensions int
	fields     int
	trailers   []byte
	trailed    int
}

// Done reports whether the body is complete.
func (b *Body) Done() bool { return b.done }

// Trailers are the fields after a chunked body that may be passed on, as lines,
// once it is done.
func (b *Body) Trailers() []byte { return b.trailers }

// Next takes bytes from the front of p. It returns payload, which is part of p,
// and how many bytes it has taken. Without payload, either the body is done or
// more bytes are needed behind those that are left.
func (b *Body) Next(p []byte) (payload []byte, n int, err error) {
	switch {
	case b.done:
		return nil, 0, nil
	case b.Framing == UntilClose:
		return p, len(p), nil
	case b.Framing == Sized:
		n = b.takeData(p)
		b.done = b.left == 0
		return p[:n], n, nil
	}
	return b.nextChunk(p)
}

// Close is called when no more bytes will come. Anything but nil means that the
// body is cut short.
func (b *Body) Close() error {
	if b.done || b.Framing == UntilClose {
		b.done = true
		return nil
	}
	return io.ErrUnexpectedEOF
}

func (b *Body) takeData(p []byte) int {
	n := int(min(int64(len(p)), b.left))
	b.left -= int64(n)
	return n
}

// A chunkState is what comes next in a chunked body.
type chunkState uint8

const (
	chunkSize chunkState = iota
	chunkData
	chunkEnd
	trailer
)

func (b *Body) nextChunk(p []byte) (payload []byte, n int, err error) {
	for {
		if b.state == chunkData {
			k := b.takeData(p[n:])
			if b.left == 0 {
				b.state = chunkEnd
			}
			return p[n : n+k], n + k, nil
		}
		k, err := b.control(p[n:])
		n += k
		if err != nil || k == 0 || b.done {
			return nil, n, err
		}
	}
}

// control takes what is between payloads. It takes nothing if more bytes are
// needed.
func (b *Body) control(p []byte) (n int, err error) {
	switch b.state {
	case chunkEnd:
		return b.takeEnd(p)
	case trailer:
		return b.takeTrailer(p)
	}
	return b.takeSize(p)
}

func (b *Body) takeEnd(p []byte) (n int, err error) {
	const end = "\r\n"
	if k := min(len(p), 2); string(p[:k]) != end[:k] {
		return 0, exchange.Bad("a chunk is longer than its size")
	}
	if len(p) < 2 {
		return 0, nil
	}
	b.state = chunkSize
	return 2, nil
}

func (b *Body) takeSize(p []byte) (n int, err error) {
	if len(p) > 0 && exchange.Class[p[0]]&exchange.HexByte == 0 {
		return 0, exchange.Bad("a chunk has no size")
	}
	line, n, err := takeLine(p, maxExtensions+32)
	if n == 0 || err != nil {
		return 0, err
	}
	size, rest, err := parseSize(line)
	if err != nil {
		return 0, err
	}
	b.extensions += len(rest)
	if b.extensions > maxExtensions {
		return 0, exchange.Bad("there are too many chunk extensions")
	}
	b.left, b.state = size, chunkData
	if size == 0 {
		b.state = trailer
	}
	return n, nil
}

// parseSize reads a chunk's size and checks its extensions, which are of no
// further use.
func parseSize(line []byte) (size int64, extensions []byte, err error) {
	i := 0
	for i < len(line) && exchange.Class[line[i]]&exchange.HexByte != 0 {
		size = size<<4 | int64(unhex(line[i]))
		if i++; i > 15 {
			return 0, nil, exchange.Bad("the size of a chunk is too long")
		}
	}
	extensions = line[i:]
	if i == 0 || len(extensions) > 0 && extensions[0] != ';' {
		return 0, nil, exchange.Bad("the size of a chunk is no hexadecimal number")
	}
	if len(extensions) > 0 && (!exchange.All(extensions, exchange.ValueByte) || len(extensions) < 2 || exchange.Class[extensions[1]]&exchange.TokenByte == 0) {
		return 0, nil, exchange.Bad("the extension of a chunk has no name")
	}
	return size, extensions, nil
}

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c&^0x20 - 'A' + 10
}

func (b *Body) takeTrailer(p []byte) (n int, err error) {
	line, n, err := takeLine(p, MaxLine)
	if n == 0 || err != nil {
		return 0, err
	}
	if len(line) == 0 {
		b.done = true
		return n, nil
	}
	var f exchange.Field
	if err := parseField(&f, line); err != nil {
		return 0, err
	}
	b.fields++
	if b.trailed += n; b.trailed > maxTrailers || b.fields > MaxFields {
		return 0, exchange.Bad("there are too many trailers")
	}
	if exchange.MayTrail(f.Name) {
		b.trailers = appendField(b.trailers, f.Name, f.Value)
	}
	return n, nil
}

// takeLine takes a line of at most that length, if it is complete.
func takeLine(p []byte, most int) (line []byte, n int, err error) {
	i := bytes.IndexByte(p, '\n')
	if i < 0 {
		if k := bytes.IndexByte(p, '\r'); k >= 0 && k < len(p)-1 {
			return nil, 0, exchange.Bad("a line of a chunked body has CR inside")
		}
		if len(p) > most+1 {
			return nil, 0, exchange.Bad("a line of a chunked body is too long")
		}
		return nil, 0, nil
	}
	if i == 0 || bytes.IndexByte(p[:i], '\r') != i-1 {
		return nil, 0, exchange.Bad("a line of a chunked body does not end with CR LF")
	}
	if i-1 > most {
		return nil, 0, exchange.Bad("a line of a chunked body is too long")
	}
	return p[:i-1], i + 1, nil
}
