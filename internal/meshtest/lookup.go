package meshtest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"
)

// Lookup asks the host's agent for the IPv4 addresses of a name, by DNS over
// UDP. A name without any gives none. It stands for net.Resolver, which cannot
// be used in more than one bubble of a process.
func (a *Agent) Lookup(ctx context.Context, name string) ([]netip.Addr, error) {
	c, err := a.Host.DialContext(ctx, "udp", a.Config().DNS)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	query := question(name)
	if _, err := c.Write(query); err != nil {
		return nil, err
	}
	if err := c.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
		return nil, err
	}
	answer := make([]byte, 4096)
	n, err := c.Read(answer)
	if err != nil {
		return nil, &net.DNSError{Err: err.Error(), Name: name}
	}
	return addresses(answer[:n], len(query))
}

// question is a query for the A records of a name, with id 1.
func question(name string) []byte {
	b := []byte{0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}
	for label := range strings.SplitSeq(strings.TrimSuffix(name, "."), ".") {
		b = append(append(b, byte(len(label))), label...)
	}
	return append(b, 0, 0, 1, 0, 1)
}

// addresses reads the A records of an answer whose question section ends at.
func addresses(b []byte, at int) (found []netip.Addr, err error) {
	const noError, noName = 0, 3
	if len(b) < at {
		return nil, errors.New("the DNS answer is shorter than the question")
	}
	switch code := b[3] & 15; code {
	case noError:
	case noName:
		return nil, nil
	default:
		return nil, fmt.Errorf("the DNS answer has code %d", code)
	}
	for range binary.BigEndian.Uint16(b[6:]) {
		// Every record's owner is a pointer to the question.
		if len(b) < at+12 || b[at] != 0xc0 {
			return nil, errors.New("the DNS answer has a record of another form")
		}
		size := int(binary.BigEndian.Uint16(b[at+10:]))
		data := b[at+12 : at+12+size]
		if addr, ok := netip.AddrFromSlice(data); ok && binary.BigEndian.Uint16(b[at+2:]) == 1 {
			found = append(found, addr)
		}
		at += 12 + size
	}
	return found, nil
}
