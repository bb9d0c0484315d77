package proxy

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
)

// answerAll answers every head on a connection with the same bytes, and costs
// next to nothing.
func answerAll(response []byte) func(net.Conn) {
	return func(c net.Conn) {
		buf := make([]byte, 64<<10)
		for n := 0; ; {
			k, err := c.Read(buf[n:])
			if err != nil {
				return
			}
			if n += k; !bytes.HasSuffix(buf[:n], []byte("\r\n\r\n")) {
				continue
			}
			n = 0
			if _, err := c.Write(response); err != nil {
				return
			}
		}
	}
}

const benchRequest = "GET /api/v2/orders?customer=4711&limit=50 HTTP/1.1\r\n" +
	"Host: orders.mesh\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n" +
	"Accept: application/json, text/plain, */*\r\nAccept-Language: en-GB,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br\r\n" +
	"Authorization: Bearer eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0\r\n" +
	"Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n" +
	"X-Request-Id: 7f3b8c1e-5d2a-4e6f-9b0c-1a2b3c4d5e6f\r\ntraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\r\n"

// BenchmarkHTTP is one request after the other on each of several connections:
// through one proxy in clear, and through two with mutual TLS between them.
func BenchmarkHTTP(b *testing.B) {
	for _, size := range []int{1 << 10, 64 << 10} {
		body := strings.Repeat("x", size)
		response := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nServer: bench\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s", size, body)
		for _, local := range []bool{true, false} {
			name := map[bool]string{true: "plain", false: "pair"}[local]
			b.Run(fmt.Sprintf("%s/%dKiB", name, size>>10), func(b *testing.B) {
				m := newRealMesh(b, 2)
				h := m.far()
				if local {
					m.local()
					h = m.near()
				}
				m.serve(h, answerAll(response))
				b.ReportAllocs()
				b.SetParallelism(16)
				b.RunParallel(func(pb *testing.PB) { benchClient(b, m.vip, pb) })
			})
		}
	}
}

func benchClient(b *testing.B, address string, pb *testing.PB) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		b.Error(err)
		return
	}
	defer c.Close()
	request := []byte(benchRequest)
	buf := make([]byte, 128<<10)
	var length int
	for pb.Next() {
		if _, err := c.Write(request); err != nil {
			b.Error(err)
			return
		}
		// All responses are as long as the first.
		n, err := readResponse(c, buf, length)
		if err != nil {
			b.Error(err)
			return
		}
		length = n
	}
}

// readResponse reads one response, of a length that is known from the last one.
func readResponse(c net.Conn, buf []byte, length int) (int, error) {
	if length > 0 {
		return io.ReadFull(c, buf[:length])
	}
	for n := 0; ; {
		k, err := c.Read(buf[n:])
		if err != nil {
			return 0, err
		}
		n += k
		head, body, ok := bytes.Cut(buf[:n], []byte("\r\n\r\n"))
		if !ok {
			continue
		}
		_, value, _ := bytes.Cut(head, []byte("content-length: "))
		var size int
		fmt.Sscan(string(value), &size)
		if len(body) == size {
			return n, nil
		}
	}
}
