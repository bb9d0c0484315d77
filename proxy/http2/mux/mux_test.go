package mux

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/meshd/meshd/proxy/http2/frame"
	"github.com/meshd/meshd/proxy/http2/hpack"
)

// A peer writes frames to a connection under test, and notes what comes of it.
type peer struct {
	t   *testing.T
	c   *Conn
	e   *hpack.Encoder
	now time.Time

	events []Event
	err    error
}

func newPeer(t *testing.T, c Config) *peer {
	p := &peer{t: t, c: New(c), e: hpack.NewEncoder(4096), now: time.Unix(1000, 0)}
	if !c.Client {
		p.raw([]byte(frame.Preface))
	}
	p.raw(frame.AppendSettings(nil))
	p.raw(frame.AppendSettingsAck(nil))
	p.c.Swap(nil)
	return p
}

// raw gives the connection bytes, short frames one by one, as the network might.
func (p *peer) raw(b []byte) *peer {
	p.t.Helper()
	for end := max(1, len(b)-200); end <= len(b); end++ {
		e, n, err := p.c.Next(b[:min(end, len(b))], p.now)
		if err != nil {
			p.err = err
			return p
		}
		if e.Kind != Nothing {
			e.Data = bytes.Clone(e.Data)
			p.events = append(p.events, e)
		}
		if n > 0 {
			b = b[n:]
			end = max(0, len(b)-201)
		}
	}
	return p
}

func (p *peer) block(fields ...string) []byte {
	b := p.e.Begin(nil)
	for i := 0; i < len(fields); i += 2 {
		b = p.e.Append(b, []byte(fields[i]), []byte(fields[i+1]), false)
	}
	return b
}

func (p *peer) headers(stream uint32, end bool, fields ...string) *peer {
	p.t.Helper()
	b := append(frame.BeginHeaders(nil), p.block(fields...)...)
	return p.raw(frame.EndBlock(b, 0, stream, end, 16<<10))
}

func (p *peer) get(stream uint32, end bool) *peer {
	p.t.Helper()
	return p.headers(stream, end, ":method", "GET", ":path", "/", ":scheme", "http")
}

func (p *peer) data(stream uint32, n int, end bool) *peer {
	p.t.Helper()
	return p.raw(frame.AppendData(nil, stream, make([]byte, n), end))
}

// last is the last event.
func (p *peer) last() Event {
	p.t.Helper()
	if len(p.events) == 0 {
		p.t.Fatal("nothing has happened")
	}
	return p.events[len(p.events)-1]
}

// sent gives the frames that the connection has sent since.
func (p *peer) sent() (all []frame.Header) {
	out := p.c.Swap(nil)
	for len(out) > 0 {
		h := frame.ParseHeader(out)
		all = append(all, h)
		out = out[frame.HeaderSize+h.Length:]
	}
	return all
}

// fails checks that the connection has ended with a code, and that the peer is
// told so.
func (p *peer) fails(what string, code frame.Code) {
	p.t.Helper()
	var e *frame.Error
	if !errors.As(p.err, &e) || e.Code != code || e.Stream != 0 {
		p.t.Errorf("%s: got %v, want %v", what, p.err, code)
		return
	}
	sent := p.sent()
	if len(sent) == 0 || sent[len(sent)-1].Type != frame.GoAwayType {
		p.t.Errorf("%s: the peer was sent %v", what, sent)
	}
	if _, n, err := p.c.Next(frame.AppendPing(nil, [8]byte{}, false), p.now); n != 0 || err == nil {
		p.t.Errorf("%s: the connection goes on", what)
	}
}

// Flow control, RFC 9113, 5.2 and 6.9.

func TestDataWaitsToBeConsumed(t *testing.T) {
	p := newPeer(t, DefaultConfig)
	p.get(1, false)
	s := p.last().Stream
	for range 4 {
		p.data(1, 16<<10, false)
	}
	if sent := p.sent(); len(sent) != 0 {
		t.Errorf("a window grows before anything was consumed: %v", sent)
	}
	p.c.Consumed(s, 10)
	if sent := p.sent(); len(sent) != 0 {
		t.Errorf("a window grows for a few bytes: %v", sent)
	}
	p.c.Consumed(s, 40<<10)
	if sent := p.sent(); len(sent) != 1 || sent[0].Stream != 1 || sent[0].Type != frame.WindowUpdateType {
		t.Errorf("what was consumed leads to %v", sent)
	}
	p.data(1, 16<<10, false).data(1, 16<<10, false)
	if p.last().Kind != Data {
		t.Errorf("data within the window: %v", p.last())
	}
	p.data(1, 16<<10, false)
	if e := p.last(); e.Kind != Reset || e.Code != frame.FlowControlError || p.err != nil {
		t.Errorf("data beyond the window: %v, %v", e, p.err)
	}
}

func TestSlowStreamsLeaveRoomToOthers(t *testing.T) {
	p := newPeer(t, DefaultConfig)
	// As much as would fill the connection's window waits on some streams.
	for id := uint32(1); id < 40; id += 2 {
		p.get(id, false)
		for range 4 {
			p.data(id, 16<<10, false)
		}
	}
	if p.err != nil || p.c.recvWindow < DefaultConfig.Window/2 {
		t.Fatalf("%v, only %d bytes may come on others", p.err, p.c.recvWindow)
	}
	// But all there is for a connection is bounded.
	for id := uint32(41); id < 199 && p.err == nil; id += 2 {
		p.get(id, false)
		for range 4 {
			p.data(id, 16<<10, false)
		}
	}
	p.fails("data beyond all windows", frame.FlowControlError)
	if most := DefaultConfig.Held + DefaultConfig.Window; p.c.held > most {
		t.Errorf("%d bytes wait, at most %d may", p.c.held, most)
	}
}

func TestReleasedStreamsGiveTheirRoomBack(t *testing.T) {
	p := newPeer(t, DefaultConfig)
	for id := uint32(1); id < 1000; id += 2 {
		p.get(id, false)
		s := p.last().Stream
		for range 4 {
			p.data(id, 16<<10, false)
		}
		p.c.Release(s)
		p.now = p.now.Add(time.Second)
	}
	if p.err != nil || p.c.held != 0 {
		t.Errorf("%v, %d bytes wait", p.err, p.c.held)
	}
}

func TestWindowsLimitWhatIsSent(t *testing.T) {
	p := newPeer(t, DefaultConfig)
	p.get(1, true).get(3, true)
	one, three := p.events[len(p.events)-2].Stream, p.last().Stream
	send := func(s *Stream, n, want int) {
		t.Helper()
		if got := p.c.Send(s, make([]byte, n), false); got != want {
			t.Errorf("%d bytes were sent on stream %d, want %d", got, s.ID, want)
		}
	}
	send(one, 60_000, 60_000)
	send(one, 10_000, 5_535)
	send(three, 10, 0)
	p.raw(frame.AppendWindowUpdate(nil, 0, 100_000))
	send(one, 10, 0)
	send(three, 10, 10)
	p.raw(frame.AppendWindowUpdate(nil, 1, 5))
	send(one, 10, 5)
	// A smaller window makes what is left negative.
	p.raw(frame.AppendSettings(nil, frame.Setting{ID: frame.InitialWindowSize, Value: 5}))
	p.raw(frame.AppendWindowUpdate(nil, 3, 10))
	send(three, 100, 5)
	p.raw(frame.AppendWindowUpdate(nil, 1, 65_530))
	send(one, 100, 0)
	p.raw(frame.AppendWindowUpdate(nil, 1, 7))
	send(one, 100, 7)
	p.raw(frame.AppendWindowUpdate(nil, 1, frame.MaxWindow)).raw(frame.AppendWindowUpdate(nil, 1, 1))
	if e := p.last(); e.Kind != Reset || e.Stream != one || e.Code != frame.FlowControlError {
		t.Errorf("a window that overflows: %v", e)
	}
	p.raw(frame.AppendWindowUpdate(nil, 0, frame.MaxWindow))
	p.fails("the connection's window overflows", frame.FlowControlError)
}

// Streams, RFC 9113, 5.1.

func TestFramesOnStreamsThatAreOver(t *testing.T) {
	p := newPeer(t, DefaultConfig)
	p.get(1, false)
	p.c.Reset(p.last().Stream, frame.Cancel)
	n := len(p.events)
	p.sent()
	// What was on its way counts for the connection's window only.
	before := p.c.recvWindow
	p.data(1, 1000, false).headers(1, true, "x", "y").raw(frame.AppendWindowUpdate(nil, 1, 9)).raw(frame.AppendReset(nil, 1, frame.Cancel))
	if p.err != nil || len(p.events) != n || len(p.sent()) != 0 || p.c.recvWindow != before-1000 {
		t.Errorf("after our reset: %v, %v", p.err, p.events[n:])
	}
	p.get(3, true).raw(frame.AppendReset(nil, 3, frame.Cancel)).data(3, 1, false)
	if sent := p.sent(); p.err != nil || len(sent) != 1 || sent[0].Type != frame.Reset {
		t.Errorf("data after their reset: %v, %v", p.err, sent)
	}
	p.headers(3, true, "x", "y")
	p.fails("a header after their reset", frame.StreamClosed)

	f := func(what string, code frame.Code, do func(p *peer)) {
		t.Helper()
		p := newPeer(t, DefaultConfig)
		p.get(5, true)
		do(p)
		p.fails(what, code)
	}
	f("a lower stream", frame.ProtocolError, func(p *peer) { p.get(3, true) })
	f("an even stream", frame.ProtocolError, func(p *peer) { p.get(8, true) })
	f("data on an idle stream", frame.ProtocolError, func(p *peer) { p.data(7, 1, true) })
	f("a reset of an idle stream", frame.ProtocolError, func(p *peer) { p.raw(frame.AppendReset(nil, 7, 0)) })
	f("a window of an idle stream", frame.ProtocolError, func(p *peer) { p.raw(frame.AppendWindowUpdate(nil, 7, 1)) })
	f("a block that is interrupted", frame.ProtocolError, func(p *peer) {
		p.raw(frame.AppendHeader(nil, frame.Header{Type: frame.Headers, Stream: 7})).raw(frame.AppendPing(nil, [8]byte{}, false))
	})
	f("a continuation of nothing", frame.ProtocolError, func(p *peer) {
		p.raw(frame.AppendHeader(nil, frame.Header{Type: frame.Continuation, Stream: 7}))
	})
	f("a block that cannot be decoded", frame.CompressionError, func(p *peer) {
		p.raw(append(frame.AppendHeader(nil, frame.Header{Length: 1, Type: frame.Headers, Flags: frame.EndHeaders, Stream: 7}), 0x80))
	})
}

func TestNothingBeforeSettings(t *testing.T) {
	p := &peer{t: t, c: New(DefaultConfig), e: hpack.NewEncoder(4096)}
	p.raw([]byte("GET / HTTP/1.1\r\n"))
	p.fails("HTTP/1.1", frame.ProtocolError)
	p = &peer{t: t, c: New(DefaultConfig), e: hpack.NewEncoder(4096)}
	p.raw([]byte(frame.Preface)).get(1, true)
	p.fails("a request first", frame.ProtocolError)
}

func TestContentLengthAgreesWithData(t *testing.T) {
	f := func(what string, length int64, do func(p *peer), fails bool) {
		t.Helper()
		p := newPeer(t, DefaultConfig)
		p.get(1, false)
		p.last().Stream.Expect(length)
		do(p)
		if e := p.last(); (e.Kind == Reset && e.Code == frame.ProtocolError) != fails || p.err != nil {
			t.Errorf("%s: %v, %v", what, e, p.err)
		}
	}
	f("as said", 5, func(p *peer) { p.data(1, 2, false).data(1, 3, true) }, false)
	f("too much", 5, func(p *peer) { p.data(1, 2, false).data(1, 4, false) }, true)
	f("too little", 5, func(p *peer) { p.data(1, 2, true) }, true)
	f("too little, then trailers", 5, func(p *peer) { p.data(1, 2, false).headers(1, true, "x", "y") }, true)
	f("none", 0, func(p *peer) { p.data(1, 0, true) }, false)
}

func TestStreamsCountUntilReleased(t *testing.T) {
	c := DefaultConfig
	c.Streams, c.Resets = 2, 10
	p := newPeer(t, c)
	p.get(1, true).get(3, true)
	one := p.events[len(p.events)-2].Stream
	p.raw(frame.AppendReset(nil, 1, frame.Cancel))
	p.sent()
	p.get(5, true)
	if sent := p.sent(); len(sent) != 1 || sent[0].Type != frame.Reset || sent[0].Stream != 5 {
		t.Errorf("a third stream: %v", sent)
	}
	p.c.Release(one)
	p.get(7, true)
	if e := p.last(); e.Kind != Header || e.Stream.ID != 7 {
		t.Errorf("a stream after the first was released: %v", e)
	}
}

// Draining, RFC 9113, 6.8.

func TestDrain(t *testing.T) {
	p := newPeer(t, DefaultConfig)
	p.get(1, false)
	one := p.last().Stream
	p.c.Drain()
	p.get(3, true) // was on its way
	if e := p.last(); e.Kind != Header || e.Stream.ID != 3 {
		t.Errorf("a stream that was on its way: %v", e)
	}
	p.c.Drain()
	n := len(p.events)
	p.get(5, false).data(5, 100, true)
	if p.err != nil || len(p.events) != n {
		t.Errorf("a stream after that: %v, %v", p.err, p.events[n:])
	}
	p.data(1, 5, true)
	p.c.Send(one, []byte("ok"), true)
	if p.last().Kind != Data || !one.EndedWell() {
		t.Error("a stream from before does not come to its end")
	}
}

func TestClientsKnowWhatWasNotDealtWith(t *testing.T) {
	c := DefaultConfig
	c.Client = true
	p := newPeer(t, c)
	for range 2 {
		s := p.c.OpenStream()
		at := p.c.BeginHeader()
		p.c.Field([]byte(":method"), []byte("GET"), false)
		p.c.EndHeader(at, s, true)
	}
	p.raw(frame.AppendGoAway(nil, 1, frame.NoError, ""))
	if e := p.last(); e.Kind != Away || e.Last != 1 || p.c.Takes() {
		t.Errorf("got %v", e)
	}
	p.headers(1, true, ":status", "200")
	if e := p.last(); e.Kind != Header || !e.End || e.Stream.ID != 1 {
		t.Errorf("the answer: %v", e)
	}
	p.raw(frame.AppendHeader(nil, frame.Header{Length: 4, Type: frame.PushPromise, Stream: 1}))
	p.fails("a promise", frame.ProtocolError)
}

// Floods.

func TestRapidReset(t *testing.T) {
	p := newPeer(t, DefaultConfig)
	id := uint32(1)
	for ; p.err == nil && id < 10_000; id += 2 {
		p.get(id, true).raw(frame.AppendReset(nil, id, frame.Cancel))
		p.c.Release(p.last().Stream)
	}
	p.fails("streams that are reset at once", frame.EnhanceYourCalm)
	if opened := id / 2; opened < 200 || opened > 300 {
		t.Errorf("the connection ends after %d streams", opened)
	}
	// Who makes the server reset them is no better.
	p = newPeer(t, DefaultConfig)
	for id = 1; p.err == nil && id < 10_000; id += 2 {
		p.get(id, false).raw(frame.AppendWindowUpdate(nil, id, 0))
		p.c.Release(p.last().Stream)
	}
	p.fails("streams that we have to reset", frame.EnhanceYourCalm)
	// A few, or over a long time, or beside others that come to an end, may be.
	p = newPeer(t, DefaultConfig)
	for id = 1; id < 6_000; id += 6 {
		p.get(id, true).raw(frame.AppendReset(nil, id, frame.Cancel))
		p.c.Release(p.last().Stream)
		for _, id := range []uint32{id + 2, id + 4} {
			p.get(id, true)
			s := p.last().Stream
			p.c.Send(s, nil, true)
			p.c.Release(s)
		}
	}
	if p.err != nil {
		t.Errorf("one of three is reset: %v", p.err)
	}
}

func TestFloods(t *testing.T) {
	f := func(what string, b []byte) {
		t.Helper()
		p := newPeer(t, DefaultConfig)
		p.get(1, false)
		n := 0
		for ; p.err == nil && n < 5000; n++ {
			p.c.Swap(nil)
			p.raw(b)
		}
		p.fails(what, frame.EnhanceYourCalm)
		if n < 500 {
			t.Errorf("%s: the connection ends after %d", what, n)
		}
		// Beside calls, they are in order.
		p = newPeer(t, DefaultConfig)
		p.get(1, false)
		for range 5000 {
			p.raw(b).data(1, 1, false)
			p.c.Consumed(p.last().Stream, 1)
		}
		if p.err != nil {
			t.Errorf("%s beside calls: %v", what, p.err)
		}
	}
	f("SETTINGS", frame.AppendSettings(nil))
	f("PING", frame.AppendPing(nil, [8]byte{}, false))
	f("empty DATA", frame.AppendData(nil, 1, nil, false))
	f("padding alone", append(frame.AppendHeader(nil, frame.Header{Length: 2, Type: frame.Data, Flags: frame.Padded, Stream: 1}), 1, 0))
	f("WINDOW_UPDATE", frame.AppendWindowUpdate(nil, 1, 1))
	f("PRIORITY", append(frame.AppendHeader(nil, frame.Header{Length: 5, Type: frame.Priority, Stream: 99}), 0, 0, 0, 0, 1))
	f("unknown frames", frame.AppendHeader(nil, frame.Header{Type: 99}))
}

func TestContinuationFlood(t *testing.T) {
	f := func(what string, piece []byte) {
		t.Helper()
		p := newPeer(t, DefaultConfig)
		p.raw(frame.AppendHeader(nil, frame.Header{Type: frame.Headers, Stream: 1}))
		next := append(frame.AppendHeader(nil, frame.Header{Length: len(piece), Type: frame.Continuation, Stream: 1}), piece...)
		for n := 0; p.err == nil && n < 1000; n++ {
			p.raw(next)
		}
		p.fails(what, frame.EnhanceYourCalm)
		if cap(p.c.header.block) > 256<<10 {
			t.Errorf("%s: %d bytes are held", what, cap(p.c.header.block))
		}
	}
	f("much", make([]byte, 16<<10))
	f("nothing, often", nil)
}

func TestLargeHeaders(t *testing.T) {
	p := newPeer(t, DefaultConfig)
	fields := []string{":method", "GET"}
	for range 150 {
		fields = append(fields, "x", "y")
	}
	p.headers(1, true, fields...)
	if e := p.last(); e.Kind != Header || !e.Block.TooLarge || p.err != nil {
		t.Errorf("150 fields: %v, %v", e.Kind, p.err)
	}
}

func TestSteadyStateAllocatesNothing(t *testing.T) {
	p := newPeer(t, DefaultConfig)
	block := p.block(":method", "POST", ":path", "/", ":scheme", "http", "x-a", "b")
	var raw []byte
	id := uint32(1)
	once := func() {
		raw = append(frame.BeginHeaders(raw[:0]), block...)
		raw = frame.EndBlock(raw, 0, id, false, 16<<10)
		raw = frame.AppendData(raw, id, block, true)
		id += 2
		for b := raw; len(b) > 0; {
			e, n, err := p.c.Next(b, p.now)
			if err != nil {
				t.Fatal(err)
			}
			b = b[n:]
			switch e.Kind {
			case Header:
				Recycle(e.Block)
			case Data:
				p.c.Consumed(e.Stream, int64(len(e.Data)))
				at := p.c.BeginHeader()
				p.c.Field([]byte(":status"), []byte("200"), false)
				p.c.EndHeader(at, e.Stream, false)
				p.c.Send(e.Stream, e.Data, true)
				p.c.Release(e.Stream)
			}
		}
		p.c.Swap(p.c.Out())
	}
	for range 100 {
		once()
	}
	if n := testing.AllocsPerRun(1000, once); n != 0 && !raceEnabled {
		t.Errorf("%v allocations for a call", n)
	}
}

// Whatever arrives, nothing breaks and what is held is bounded.
func FuzzConn(f *testing.F) {
	hello := append([]byte(frame.Preface), frame.AppendSettings(nil)...)
	e := hpack.NewEncoder(4096)
	block := e.Append(e.Append(nil, []byte(":method"), []byte("GET"), false), []byte("x"), []byte("y"), false)
	call := frame.EndBlock(append(frame.BeginHeaders(nil), block...), 0, 1, false, 16<<10)
	f.Add(false, append(hello, call...))
	f.Add(false, append(append(hello, call...), frame.AppendData(nil, 1, []byte("hello"), true)...))
	f.Add(false, append(append(append(hello, call...), frame.AppendReset(nil, 1, 8)...), frame.AppendData(nil, 1, []byte("x"), true)...))
	f.Add(false, append(append(hello, frame.AppendSettings(nil, frame.Setting{ID: frame.InitialWindowSize, Value: 1})...), call...))
	f.Add(true, append(frame.AppendSettings(nil), frame.EndBlock(append(frame.BeginHeaders(nil), block...), 0, 1, true, 16<<10)...))
	f.Add(true, append(frame.AppendSettings(nil), frame.AppendGoAway(nil, 0, 0, "x")...))
	f.Fuzz(func(t *testing.T, client bool, b []byte) {
		config := DefaultConfig
		config.Client = client
		c := New(config)
		if client {
			at := c.BeginHeader()
			c.Field([]byte(":method"), []byte("GET"), false)
			c.EndHeader(at, c.OpenStream(), true)
		}
		open := map[*Stream]bool{}
		for {
			e, n, err := c.Next(b, time.Unix(0, 0))
			if err != nil || n == 0 {
				break
			}
			b = b[n:]
			switch e.Kind {
			case Header:
				open[e.Stream] = true
				Recycle(e.Block)
				c.Send(e.Stream, []byte("answer"), true)
			case Data:
				c.Consumed(e.Stream, int64(len(e.Data)/2))
			}
		}
		if c.held < 0 || c.recvWindow < 0 || c.recvWindow > config.Window || c.open > config.Streams {
			t.Fatalf("%d bytes wait, window %d, %d streams", c.held, c.recvWindow, c.open)
		}
		for s := range open {
			c.Release(s)
		}
		if c.held != 0 || !client && c.open != 0 {
			t.Fatalf("in the end %d bytes wait, %d streams are open", c.held, c.open)
		}
	})
}
