package caller

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"
)

// What linux/sock_diag.h and linux/inet_diag.h define and x/sys/unix does not.
const (
	sockDiagByFamily = 20
	attrV6Only       = 11 // INET_DIAG_SKV6ONLY
	attrCgroupID     = 21 // INET_DIAG_CGROUP_ID, since Linux 5.8

	stateEstablished = 1
	stateFinWait1    = 4
	stateFinWait2    = 5
	stateCloseWait   = 8
	stateListen      = 10

	requestSize = 56 // struct inet_diag_req_v2
	answerSize  = 72 // struct inet_diag_msg
	bufferSize  = 32 << 10
)

// errNoSocket is the kernel's answer when no socket has the addresses asked for.
var errNoSocket = errors.New("no such socket")

// A socket is what the kernel tells of one TCP socket.
type socket struct {
	state     uint8
	local     netip.AddrPort
	peer      netip.AddrPort
	uid       uint32
	inode     uint32 // 0 once no process holds the socket
	cgroup    uint64
	hasCgroup bool
	v6only    bool
}

// A query is one request to the kernel.
type query struct {
	family uint8
	dump   bool
	states uint32 // bit set of states; for dumps
	local  netip.AddrPort
	peer   netip.AddrPort
}

// diag asks the kernel about sockets over one netlink socket, kept open because
// opening one costs ten times as much as a question does.
type diag struct {
	mu  sync.Mutex
	fd  int // -1 when closed
	seq uint32
	buf []byte
}

func newDiag() (*diag, error) {
	d := &diag{fd: -1, buf: make([]byte, bufferSize)}
	return d, d.open()
}

// open connects to the kernel, so that nobody else's messages are taken for its
// answers.
func (d *diag) open() error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_INET_DIAG)
	if err != nil {
		return fmt.Errorf("opening a socket diagnostics socket (is AF_NETLINK missing in RestrictAddressFamilies=?): %w", err)
	}
	// The kernel answers before the question's system call returns; the limit
	// only keeps a surprise from blocking calls for ever.
	err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1})
	if err == nil {
		err = unix.Connect(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	}
	if err != nil {
		unix.Close(fd)
		return fmt.Errorf("setting up a socket diagnostics socket: %w", err)
	}
	d.fd = fd
	return nil
}

func (d *diag) close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fd < 0 {
		return nil
	}
	err := unix.Close(d.fd)
	d.fd = -1
	return err
}

// ask puts one question and hands every socket of the answer to visit.
func (d *diag) ask(q query, visit func(socket)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fd < 0 {
		return errors.New("socket diagnostics are closed")
	}
	err := d.exchange(q, visit)
	if err != nil && err != errNoSocket {
		// The rest of a broken answer would stand in the way of the next.
		unix.Close(d.fd)
		d.fd = -1
		err = errors.Join(err, d.open())
	}
	return err
}

func (d *diag) exchange(q query, visit func(socket)) error {
	d.seq++
	var req [unix.SizeofNlMsghdr + requestSize]byte
	q.encode(req[:], d.seq)
	if _, err := unix.Write(d.fd, req[:]); err != nil {
		return fmt.Errorf("asking for socket diagnostics: %w", err)
	}
	for more := true; more; {
		n, err := unix.Read(d.fd, d.buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("reading socket diagnostics: %w", err)
		}
		if more, err = parse(d.buf[:n], d.seq, visit); err != nil {
			return err
		}
	}
	return nil
}

// encode writes the question as nlmsghdr and inet_diag_req_v2.
func (q query) encode(b []byte, seq uint32) {
	ne := binary.NativeEndian
	flags := uint16(unix.NLM_F_REQUEST)
	if q.dump {
		flags |= unix.NLM_F_DUMP
	}
	ne.PutUint32(b[0:], uint32(len(b)))
	ne.PutUint16(b[4:], sockDiagByFamily)
	ne.PutUint16(b[6:], flags)
	ne.PutUint32(b[8:], seq)
	r := b[unix.SizeofNlMsghdr:]
	r[0], r[1] = q.family, unix.IPPROTO_TCP
	ne.PutUint32(r[4:], q.states)
	binary.BigEndian.PutUint16(r[8:], q.local.Port())
	binary.BigEndian.PutUint16(r[10:], q.peer.Port())
	putAddr(r[12:28], q.local.Addr())
	putAddr(r[28:44], q.peer.Addr())
	// No cookie: the one that was given to the socket is not known here.
	ne.PutUint64(r[48:], ^uint64(0))
}

func putAddr(b []byte, a netip.Addr) {
	if a.IsValid() {
		copy(b, a.AsSlice())
	}
}

// parse reads one datagram of an answer to the question seq, skipping what
// answers an older one. more says that the answer goes on in the next datagram.
func parse(b []byte, seq uint32, visit func(socket)) (more bool, err error) {
	ne := binary.NativeEndian
	more = true
	for len(b) > 0 {
		if len(b) < unix.SizeofNlMsghdr {
			return false, fmt.Errorf("socket diagnostics: %d bytes are no message header", len(b))
		}
		size := int(ne.Uint32(b))
		if size < unix.SizeofNlMsghdr || size > len(b) {
			return false, fmt.Errorf("socket diagnostics: message of %d bytes in a datagram of %d", size, len(b))
		}
		kind, flags, body := ne.Uint16(b[4:]), ne.Uint16(b[6:]), b[unix.SizeofNlMsghdr:size]
		current := ne.Uint32(b[8:]) == seq
		b = b[min(align(size), len(b)):]
		if !current {
			continue
		}
		switch kind {
		case unix.NLMSG_DONE:
			return false, nil
		case unix.NLMSG_ERROR:
			return false, parseError(body)
		case sockDiagByFamily:
			s, err := parseSocket(body)
			if err != nil {
				return false, err
			}
			visit(s)
			more = flags&unix.NLM_F_MULTI != 0
		}
	}
	return more, nil
}

func parseError(b []byte) error {
	if len(b) < 4 {
		return errors.New("socket diagnostics: error message without an error")
	}
	switch code := -int32(binary.NativeEndian.Uint32(b)); {
	case code == 0:
		return nil
	case code == int32(unix.ENOENT):
		return errNoSocket
	case code < 0:
		return fmt.Errorf("socket diagnostics: error number %d", code)
	default:
		return fmt.Errorf("socket diagnostics: %w", unix.Errno(code))
	}
}

// parseSocket reads an inet_diag_msg and its attributes.
func parseSocket(b []byte) (socket, error) {
	if len(b) < answerSize {
		return socket{}, fmt.Errorf("socket diagnostics: %d bytes do not describe a socket", len(b))
	}
	s := socket{
		state: b[1],
		local: parseAddr(b[0], b[8:24], b[4:6]),
		peer:  parseAddr(b[0], b[24:40], b[6:8]),
		uid:   binary.NativeEndian.Uint32(b[64:]),
		inode: binary.NativeEndian.Uint32(b[68:]),
	}
	for b = b[answerSize:]; len(b) >= unix.SizeofRtAttr; {
		size := int(binary.NativeEndian.Uint16(b))
		if size < unix.SizeofRtAttr || size > len(b) {
			return socket{}, fmt.Errorf("socket diagnostics: attribute of %d bytes in %d", size, len(b))
		}
		kind, value := binary.NativeEndian.Uint16(b[2:]), b[unix.SizeofRtAttr:size]
		switch {
		case kind == attrCgroupID && len(value) == 8:
			s.cgroup, s.hasCgroup = binary.NativeEndian.Uint64(value), true
		case kind == attrV6Only && len(value) == 1:
			s.v6only = value[0] != 0
		}
		b = b[min(align(size), len(b)):]
	}
	return s, nil
}

// parseAddr gives IPv4 addresses as such, also those of IPv6 sockets.
func parseAddr(family uint8, addr, port []byte) netip.AddrPort {
	p := binary.BigEndian.Uint16(port)
	switch family {
	case unix.AF_INET:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(addr[:4])), p)
	case unix.AF_INET6:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(addr)).Unmap(), p)
	default:
		return netip.AddrPort{}
	}
}

// align rounds up to netlink's boundary of four bytes.
func align(n int) int { return (n + 3) &^ 3 }
