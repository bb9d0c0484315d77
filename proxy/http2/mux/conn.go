// Package mux is an HTTP/2 connection without IO, as RFC 9113 has it: bytes that
// arrive become events, and what is done with streams becomes bytes to send.
//
// It knows of fields only that they are compressed; what they say is for others.
// It allocates nothing in steady state. A Conn is used by one goroutine at a
// time.
package mux

import (
	"sync"
	"time"

	"github.com/meshd/meshd/proxy/http2/frame"
	"github.com/meshd/meshd/proxy/http2/hpack"
)

// Config of a connection. Its limits bound what a peer can make us hold or do.
type Config struct {
	// Client says that we open streams; otherwise the peer does.
	Client bool
	// Streams is how many the peer may have open at once. One counts until it is
	// released here, whether or not the peer has reset it.
	Streams int
	// StreamWindow is how many bytes of a stream may wait to be consumed, and
	// Window how many may be on their way on all streams together.
	StreamWindow, Window int64
	// Held is how many bytes may wait on all streams before slow ones take from
	// Window, and so from others.
	Held int64
	// TableSize is of the dynamic tables, in either direction.
	TableSize int
	Header    hpack.Limits
	// Floods are counted over Period: Resets is how many streams may end by
	// reset while fewer than as many end well, Idle how many frames may come one
	// after the other that carry no call forward.
	Period       time.Duration
	Resets, Idle int
	// Extended allows CONNECT with a protocol (RFC 8441).
	Extended bool
}

// DefaultConfig is for applications that call in.
var DefaultConfig = Config{
	Streams: 100, StreamWindow: 64 << 10, Window: 1 << 20, Held: 4 << 20, TableSize: hpack.DefaultTableSize, Header: hpack.DefaultLimits,
	Period: 10 * time.Second, Resets: 200, Idle: 1000,
}

// A Conn is one connection.
type Conn struct {
	Config
	decoder *hpack.Decoder
	encoder *hpack.Encoder
	out     []byte

	begun    bool // the peer's preface has come
	settled  bool // and its first settings
	acked    bool // it knows ours
	err      error
	streams  map[uint32]*Stream
	lastPeer uint32 // highest stream that the peer has opened
	nextOwn  uint32
	open     int // streams of the peer that are not released, or of ours that are open
	closed   history
	header   heading
	floods   floods

	sendWindow, recvWindow int64
	held                   int64 // bytes that wait to be consumed

	peer     settings
	draining bool
	drained  uint32 // streams of the peer above this are ignored
	goneAway bool   // the peer takes no more streams
}

// settings are what the peer has announced.
type settings struct {
	streams  uint32
	window   int64
	maxFrame int
	extended bool
}

// heading is a field block that has begun but not ended.
type heading struct {
	stream uint32 // 0 if there is none
	end    bool
	block  []byte
	frames int
	err    error // of the stream, found at the first frame
}

// New makes a connection. What it has to send first is in Out.
func New(c Config) *Conn {
	conn := &Conn{
		Config:  c,
		decoder: hpack.NewDecoder(c.TableSize, c.Header),
		encoder: hpack.NewEncoder(c.TableSize),
		streams: map[uint32]*Stream{}, nextOwn: 1,
		sendWindow: frame.DefaultWindow, recvWindow: frame.DefaultWindow,
		peer:    settings{streams: frame.MaxWindow, window: frame.DefaultWindow, maxFrame: frame.DefaultMaxSize},
		drained: frame.MaxWindow,
	}
	conn.hello()
	return conn
}

func (c *Conn) hello() {
	if c.Client {
		c.begun = true
		c.out = append(c.out, frame.Preface...)
	}
	all := [...]frame.Setting{
		{ID: frame.HeaderTableSize, Value: uint32(c.TableSize)},
		{ID: frame.InitialWindowSize, Value: uint32(c.StreamWindow)},
		{ID: frame.MaxHeaderListSize, Value: uint32(c.Header.Size)},
		{ID: frame.EnablePush, Value: 0},
	}
	if !c.Client {
		all[3] = frame.Setting{ID: frame.MaxConcurrentStreams, Value: uint32(c.Streams)}
	}
	list := all[:]
	if c.Extended && !c.Client {
		list = append(list, frame.Setting{ID: frame.EnableConnectProtocol, Value: 1})
	}
	c.out = frame.AppendSettings(c.out, list...)
	c.topUp()
}

// Out is what has to be sent. It is valid until the next call.
func (c *Conn) Out() []byte { return c.out }

// Swap takes what has to be sent, and gives a buffer to gather the next in.
func (c *Conn) Swap(buffer []byte) (out []byte) {
	out, c.out = c.out, buffer[:0]
	return out
}

// Err is why the connection cannot go on, or nil.
func (c *Conn) Err() error { return c.err }

// Acked reports whether the peer has acknowledged our settings.
func (c *Conn) Acked() bool { return c.acked }

// Settled reports whether the peer's settings have come.
func (c *Conn) Settled() bool { return c.settled }

// MidHeader reports whether a field block has begun but not ended.
func (c *Conn) MidHeader() bool { return c.header.stream != 0 }

// Used reports whether streams of ours were opened.
func (c *Conn) Used() bool { return c.nextOwn > 1 }

// Open is how many streams are open, or were opened by the peer and are not released.
func (c *Conn) Open() int { return c.open }

// Extended reports whether the peer takes CONNECT with a protocol.
func (c *Conn) TakesExtended() bool { return c.peer.extended }

// fail ends the connection: the peer is told why.
func (c *Conn) fail(e *frame.Error) error {
	if c.err == nil {
		c.err = e
		c.out = frame.AppendGoAway(c.out, c.lastPeer, e.Code, e.Reason)
	}
	return c.err
}

// Fail ends the connection for a reason of ours.
func (c *Conn) Fail(code frame.Code, reason string) {
	c.fail(&frame.Error{Code: code, Reason: reason})
}

// Ping asks for a sign of life, which comes as a Pong event.
func (c *Conn) Ping(data [8]byte) { c.out = frame.AppendPing(c.out, data, false) }

// Drain tells the peer to open no more streams. It can be called again, once the
// peer must have heard of it, to say which streams were the last.
func (c *Conn) Drain() {
	last := uint32(frame.MaxWindow)
	if c.draining {
		if c.drained != frame.MaxWindow {
			return
		}
		last, c.drained = c.lastPeer, c.lastPeer
	}
	c.draining = true
	c.out = frame.AppendGoAway(c.out, last, frame.NoError, "")
}

// Draining reports whether no more streams are taken.
func (c *Conn) Draining() bool { return c.draining }

// Blocks and streams are used again, on any connection.
var (
	blocks  = sync.Pool{New: func() any { return new(hpack.Block) }}
	streams = sync.Pool{New: func() any { return new(Stream) }}
)

// keptBlock is how large a block may be that is held for later.
const keptBlock = 8 << 10

// Recycle takes a block back that an event has brought and nobody needs any
// more.
func Recycle(b *hpack.Block) {
	if b.Size() <= keptBlock {
		b.Reset()
		blocks.Put(b)
	}
}
