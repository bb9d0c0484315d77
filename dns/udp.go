package dns

import (
	"net"
	"net/netip"
)

// maxReaders is how many goroutines answer UDP at the most: one answer takes
// far less than the kernel's part of it.
const maxReaders = 4

// addrPortConn is a packet connection that knows peers without allocating.
type addrPortConn interface {
	ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error)
	WriteToUDPAddrPort(b []byte, addr netip.AddrPort) (int, error)
}

func (s *Server) serveUDP() {
	buffer, out := make([]byte, maxQuery+1), make([]byte, 0, maxUDP)
	if conn, ok := s.udp.(addrPortConn); ok {
		s.loopUDP(func() error {
			n, peer, err := conn.ReadFromUDPAddrPort(buffer)
			if err != nil {
				return err
			}
			var unknown string
			if out, unknown = s.answerUDP(buffer[:n], out[:0]); unknown != "" {
				peer := peer // what a waiting answer keeps must not cost the others
				out = s.patiently(buffer[:n], unknown, out, func(out []byte) { _, _ = conn.WriteToUDPAddrPort(out, peer) })
			}
			if len(out) > 0 {
				_, _ = conn.WriteToUDPAddrPort(out, peer) // a client that is gone misses nothing
			}
			return nil
		})
		return
	}
	s.loopUDP(func() error { return s.exchangeUDP(s.udp, buffer, out) })
}

func (s *Server) exchangeUDP(conn net.PacketConn, buffer, out []byte) error {
	n, peer, err := conn.ReadFrom(buffer)
	if err != nil {
		return err
	}
	out, unknown := s.answerUDP(buffer[:n], out[:0])
	if unknown != "" {
		out = s.patiently(buffer[:n], unknown, out, func(out []byte) { _, _ = conn.WriteTo(out, peer) })
	}
	if len(out) > 0 {
		_, _ = conn.WriteTo(out, peer)
	}
	return nil
}

// patiently has a query answered later if it can wait, and else gives the answer.
func (s *Server) patiently(msg []byte, service string, out []byte, send func([]byte)) []byte {
	if s.later(msg, service, send) {
		return nil
	}
	return s.Answer(msg, false, out[:0])
}

// answerUDP answers a datagram. One that fills the buffer was cut off, and is
// longer than any query that is answered.
func (s *Server) answerUDP(msg, dst []byte) (out []byte, unknown string) {
	if len(msg) > maxQuery {
		s.metrics.count(-1, 0)
		return dst, ""
	}
	return s.attempt(msg, false, dst, true)
}

func (s *Server) loopUDP(exchange func() error) {
	for {
		if err := exchange(); err != nil && !s.pause(err) {
			return
		}
	}
}
