package frame

import (
	"bytes"
	"errors"
	"testing"

	"golang.org/x/net/http2"
)

// accept reads a frame as a connection would, and gives what ParseX gave.
func accept(raw []byte) (h Header, what []byte, err error) {
	h = ParseHeader(raw)
	if err := h.Check(DefaultMaxSize); err != nil {
		return h, nil, err
	}
	payload := raw[HeaderSize:][:h.Length]
	switch h.Type {
	case Data:
		what, err = ParseData(h, payload)
	case Headers:
		what, err = ParseHeaders(h, payload)
	case Priority:
		err = CheckPriority(h, payload)
	case WindowUpdateType:
		_, err = ParseWindowUpdate(h, payload)
	case SettingsType:
		for rest := payload; len(rest) > 0 && err == nil; {
			_, rest, err = NextSetting(rest)
		}
	default:
		what = payload
	}
	return h, what, err
}

func raw(t Type, flags Flags, stream uint32, payload ...byte) []byte {
	return append(AppendHeader(nil, Header{len(payload), t, flags, stream}), payload...)
}

func TestFrames(t *testing.T) {
	f := func(what string, frame []byte, stream uint32, code Code, want string) {
		t.Helper()
		_, got, err := accept(frame)
		var e *Error
		switch {
		case errors.As(err, &e):
			if e.Code != code || e.Stream != stream || code == NoError {
				t.Errorf("%s: got %v for stream %d", what, err, e.Stream)
			}
		case code != NoError || string(got) != want:
			t.Errorf("%s: got %q, %v", what, got, err)
		}
	}
	const ok = NoError
	f("data", raw(Data, 0, 1, 'a', 'b'), 0, ok, "ab")
	f("padded data", raw(Data, Padded, 1, 2, 'a', 0, 0), 0, ok, "a")
	f("nothing but padding", raw(Data, Padded, 1, 2, 0, 0), 0, ok, "")
	f("more padding than data", raw(Data, Padded, 1, 2, 0), 0, ProtocolError, "")
	f("padded without a length", raw(Data, Padded, 1), 0, FrameSizeError, "")
	f("data of no stream", raw(Data, 0, 0, 'a'), 0, ProtocolError, "")
	f("a field block", raw(Headers, 0, 1, 'a'), 0, ok, "a")
	f("with priority", raw(Headers, HasPriority, 1, 0, 0, 0, 0, 9, 'a'), 0, ok, "a")
	f("with priority and padding", raw(Headers, HasPriority|Padded, 1, 1, 0, 0, 0, 0, 9, 'a', 0), 0, ok, "a")
	f("half a priority", raw(Headers, HasPriority, 1, 0, 0, 0), 0, FrameSizeError, "")
	f("depends on itself", raw(Headers, HasPriority, 1, 0x80, 0, 0, 1, 9, 'a'), 1, ProtocolError, "")
	f("headers of no stream", raw(Headers, 0, 0), 0, ProtocolError, "")
	f("priority", raw(Priority, 0, 1, 0, 0, 0, 0, 9), 0, ok, "")
	f("a short priority", raw(Priority, 0, 3, 0, 0), 3, FrameSizeError, "")
	f("priority of no stream", raw(Priority, 0, 0, 0, 0, 0, 0, 9), 0, ProtocolError, "")
	f("depends on itself", raw(Priority, 0, 1, 0, 0, 0, 1, 9), 1, ProtocolError, "")
	f("reset", raw(Reset, 0, 1, 0, 0, 0, 8), 0, ok, "\x00\x00\x00\x08")
	f("a short reset", raw(Reset, 0, 1, 0, 0), 0, FrameSizeError, "")
	f("reset of no stream", raw(Reset, 0, 0, 0, 0, 0, 8), 0, ProtocolError, "")
	f("settings", raw(SettingsType, 0, 0, 0, 3, 0, 0, 0, 9), 0, ok, "")
	f("half a setting", raw(SettingsType, 0, 0, 0, 3, 0), 0, FrameSizeError, "")
	f("an answer with settings", raw(SettingsType, Ack, 0, 0, 3, 0, 0, 0, 9), 0, FrameSizeError, "")
	f("settings of a stream", raw(SettingsType, 0, 1), 0, ProtocolError, "")
	f("push", raw(SettingsType, 0, 0, 0, 2, 0, 0, 0, 2), 0, ProtocolError, "")
	f("window", raw(SettingsType, 0, 0, 0, 4, 0x80, 0, 0, 0), 0, FlowControlError, "")
	f("small frames", raw(SettingsType, 0, 0, 0, 5, 0, 0, 0x3f, 0xff), 0, ProtocolError, "")
	f("large frames", raw(SettingsType, 0, 0, 0, 5, 1, 0, 0, 0), 0, ProtocolError, "")
	f("connect", raw(SettingsType, 0, 0, 0, 8, 0, 0, 0, 2), 0, ProtocolError, "")
	f("unknown settings", raw(SettingsType, 0, 0, 0xff, 0xff, 1, 0, 0, 0), 0, ok, "")
	f("push promise", raw(PushPromise, 0, 1, 0, 0, 0, 2), 0, ProtocolError, "")
	f("ping", raw(PingType, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8), 0, ok, "\x01\x02\x03\x04\x05\x06\x07\x08")
	f("a short ping", raw(PingType, 0, 0, 1), 0, FrameSizeError, "")
	f("ping of a stream", raw(PingType, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8), 0, ProtocolError, "")
	f("go away", raw(GoAwayType, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0), 0, ok, "\x00\x00\x00\x01\x00\x00\x00\x00")
	f("a short go away", raw(GoAwayType, 0, 0, 0), 0, FrameSizeError, "")
	f("go away of a stream", raw(GoAwayType, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0), 0, ProtocolError, "")
	f("window update", raw(WindowUpdateType, 0, 1, 0, 0, 0, 1), 0, ok, "")
	f("by nothing", raw(WindowUpdateType, 0, 5, 0x80, 0, 0, 0), 5, ProtocolError, "")
	f("by nothing", raw(WindowUpdateType, 0, 0, 0, 0, 0, 0), 0, ProtocolError, "")
	f("a short window update", raw(WindowUpdateType, 0, 1, 0), 0, FrameSizeError, "")
	f("continuation of no stream", raw(Continuation, 0, 0), 0, ProtocolError, "")
	f("an unknown type", raw(99, 0xff, 7, 'a'), 0, ok, "a")
	f("a long frame", raw(99, 0, 0, make([]byte, DefaultMaxSize+1)...), 0, FrameSizeError, "")
	f("the reserved bit", raw(Data, 0, 1<<31|1, 'a'), 0, ok, "a")
}

func TestBlocksAreSplit(t *testing.T) {
	f := func(size, maxSize, frames int) {
		t.Helper()
		block := bytes.Repeat([]byte("abcdefg"), size)[:size]
		out := append(BeginHeaders([]byte("before")), block...)
		out = EndBlock(out, len("before"), 5, true, maxSize)
		r := http2.NewFramer(nil, bytes.NewReader(out[len("before"):]))
		var got []byte
		n := 0
		for ended := false; !ended; n++ {
			frame, err := r.ReadFrame()
			if err != nil {
				t.Fatal(err)
			}
			switch frame := frame.(type) {
			case *http2.HeadersFrame:
				got, ended = append(got, frame.HeaderBlockFragment()...), frame.HeadersEnded()
				if !frame.StreamEnded() || frame.StreamID != 5 {
					t.Errorf("the first frame is %v", frame)
				}
			case *http2.ContinuationFrame:
				got, ended = append(got, frame.HeaderBlockFragment()...), frame.HeadersEnded()
			}
		}
		if !bytes.Equal(got, block) || n != frames {
			t.Errorf("a block of %d: got %d bytes in %d frames", size, len(got), n)
		}
	}
	f(0, 10, 1)
	f(10, 10, 1)
	f(11, 10, 2)
	f(35, 10, 4)
	f(DefaultMaxSize*2, DefaultMaxSize, 2)
}

// What we write, x/net reads as it was meant.
func TestFramesAsOthersReadThem(t *testing.T) {
	var out []byte
	out = AppendSettings(out, Setting{MaxConcurrentStreams, 100}, Setting{InitialWindowSize, 9})
	out = AppendSettingsAck(out)
	out = AppendPing(out, [8]byte{1, 2, 3}, true)
	out = AppendWindowUpdate(out, 7, 1000)
	out = AppendData(out, 7, []byte("hello"), true)
	out = AppendReset(out, 9, Cancel)
	out = AppendGoAway(out, 11, EnhanceYourCalm, "too much")
	want := []string{
		"[FrameHeader SETTINGS len=12]", "[FrameHeader SETTINGS flags=ACK len=0]", "[FrameHeader PING flags=ACK len=8]",
		"[FrameHeader WINDOW_UPDATE stream=7 len=4]", "[FrameHeader DATA flags=END_STREAM stream=7 len=5]",
		"[FrameHeader RST_STREAM stream=9 len=4]", "[FrameHeader GOAWAY len=16]",
	}
	r := http2.NewFramer(nil, bytes.NewReader(out))
	for _, w := range want {
		frame, err := r.ReadFrame()
		if err != nil || frame.Header().String() != w {
			t.Fatalf("got %v, %v, want %s", frame, err, w)
		}
		switch frame := frame.(type) {
		case *http2.WindowUpdateFrame:
			if frame.Increment != 1000 {
				t.Error(frame)
			}
		case *http2.RSTStreamFrame:
			if frame.ErrCode != http2.ErrCodeCancel {
				t.Error(frame)
			}
		case *http2.GoAwayFrame:
			if frame.LastStreamID != 11 || frame.ErrCode != http2.ErrCodeEnhanceYourCalm || string(frame.DebugData()) != "too much" {
				t.Error(frame)
			}
		}
	}
}

// Whatever we accept x/net accepts too, as the same data; we may be stricter.
func FuzzFrame(f *testing.F) {
	for _, s := range [][]byte{
		raw(Data, Padded|EndStream, 1, 2, 'a', 0, 0), raw(Headers, HasPriority|Padded|EndHeaders, 1, 1, 0, 0, 0, 0, 9, 'a', 0), raw(Priority, 0, 1, 0, 0, 0, 0, 9),
		raw(Reset, 0, 1, 0, 0, 0, 8), raw(SettingsType, 0, 0, 0, 3, 0, 0, 0, 9), raw(PingType, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8),
		raw(GoAwayType, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 'x'), raw(WindowUpdateType, 0, 1, 0, 0, 0, 1), raw(PushPromise, 0, 1, 0, 0, 0, 2), raw(99, 0, 7, 'a'),
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < HeaderSize || len(b) < HeaderSize+ParseHeader(b).Length {
			return
		}
		h, what, err := accept(b)
		if err != nil || h.Type >= Continuation {
			return
		}
		r := http2.NewFramer(nil, bytes.NewReader(b))
		frame, err := r.ReadFrame()
		if err != nil {
			t.Fatalf("%x: we accept it, they say %v", b, err)
		}
		switch frame := frame.(type) {
		case *http2.DataFrame:
			if !bytes.Equal(frame.Data(), what) {
				t.Fatalf("%x: data %q, they have %q", b, what, frame.Data())
			}
		case *http2.HeadersFrame:
			if !bytes.Equal(frame.HeaderBlockFragment(), what) {
				t.Fatalf("%x: block %q, they have %q", b, what, frame.HeaderBlockFragment())
			}
		}
	})
}
