package proxy

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// A WebSocket that is asked for by HTTP/2 (RFC 8441) is one of HTTP/1.1 to the
// application.
func TestWebSocketByHTTP2(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMesh(t, 2)
		m.serve(m.far(), func(c net.Conn) {
			in := bufio.NewReader(c)
			r, err := http.ReadRequest(in)
			if err != nil || r.Method != "GET" || r.RequestURI != "/chat" || r.Header.Get("Upgrade") != "websocket" || len(r.Header.Get("Sec-Websocket-Key")) != 24 {
				t.Errorf("the application is asked %v, %v", r, err)
				return
			}
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\nX-A: b\r\n\r\nhello ")
			io.Copy(c, in)
			c.(interface{ CloseWrite() error }).CloseWrite()
		})
		c := m.dial()
		io.WriteString(c.Conn, http2.ClientPreface)
		f := http2.NewFramer(c.Conn, c.Reader)
		f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
		f.WriteSettings()
		var block bytes.Buffer
		e := hpack.NewEncoder(&block)
		for _, field := range [][2]string{{":method", "CONNECT"}, {":protocol", "websocket"}, {":scheme", "http"}, {":path", "/chat"}, {":authority", "orders"}} {
			e.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
		}
		f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true})
		var got []byte
		for ended := false; !ended; {
			frame, err := f.ReadFrame()
			if err != nil {
				t.Fatal(err)
			}
			switch frame := frame.(type) {
			case *http2.SettingsFrame:
				if v, ok := frame.Value(http2.SettingEnableConnectProtocol); !frame.IsAck() && (!ok || v != 1) {
					t.Error("CONNECT with a protocol is not offered")
				}
			case *http2.MetaHeadersFrame:
				if frame.PseudoValue("status") != "200" || len(frame.RegularFields()) != 1 {
					t.Errorf("answered by %v", frame.Fields)
				}
				f.WriteSettingsAck()
				f.WriteData(1, false, []byte("echo"))
				f.WriteData(1, true, []byte("!"))
			case *http2.DataFrame:
				got, ended = append(got, frame.Data()...), frame.StreamEnded()
			case *http2.RSTStreamFrame:
				t.Fatalf("the stream was reset: %v", frame.ErrCode)
			}
		}
		if string(got) != "hello echo!" {
			t.Errorf("got %q", got)
		}
		c.Close()
	})
}
