// Package caller tells which systemd unit, and so which service of the mesh,
// opened a connection on this host: the kernel says it, not the application.
package caller

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// A Table says who speaks as which service. Nothing in it changes once it was
// handed over.
type Table struct {
	Units map[string]string // systemd unit to SPIFFE ID; a service's goes before a slice's
	Users map[uint32]string // user id to SPIFFE ID, for callers in no such unit
}

// Config of a Resolver.
type Config struct {
	// HostIdentity is the SPIFFE ID of callers that are no enrolled service.
	HostIdentity string
	Logger       *slog.Logger
}

// A Resolver identifies callers. Its methods may be called concurrently.
type Resolver struct {
	host  string
	log   *slog.Logger
	table atomic.Pointer[Table]
	diag  *diag
	units *units
}

// New opens the kernel's socket diagnostics; it needs no privilege.
func New(cfg Config) (*Resolver, error) {
	root, err := cgroupRoot()
	if err != nil {
		return nil, err
	}
	d, err := newDiag()
	if err != nil {
		return nil, err
	}
	r := &Resolver{host: cfg.HostIdentity, log: cfg.Logger, diag: d, units: newUnits(root)}
	r.SetTable(&Table{})
	return r, nil
}

// SetTable replaces the table for all calls from now on.
func (r *Resolver) SetTable(t *Table) { r.table.Store(t) }

// Close gives the kernel's resources back. Callers are the host from then on.
func (r *Resolver) Close() error { return r.diag.close() }

// Identify returns the SPIFFE ID of whoever opened the other end of c, a TCP
// connection accepted on this host: a service's, or the host's own for anybody
// else. It is empty when it cannot be told, which a caller brings about by
// closing the connection: that one must not be served, or a service could act as
// its host by not waiting for the answer. Call it right after accept, while the
// caller is sure to be there.
func (r *Resolver) Identify(c net.Conn) string {
	t := r.table.Load()
	if len(t.Units)+len(t.Users) == 0 {
		return r.host
	}
	s, err := r.lookup(c)
	if err != nil {
		r.log.Debug("a caller cannot be told", "peer", c.RemoteAddr(), "error", err)
		return ""
	}
	for _, unit := range r.units.of(s.cgroup) {
		if id, ok := t.Units[unit]; ok {
			return id
		}
	}
	if id, ok := t.Users[s.uid]; ok {
		return id
	}
	return r.host
}

// lookup asks the kernel for the socket at the other end of c and believes the
// answer only if it can be about nothing else.
func (r *Resolver) lookup(c net.Conn) (socket, error) {
	caller, here, err := endpoints(c)
	if err != nil {
		return socket{}, err
	}
	var s socket
	err = r.diag.ask(query{family: family(caller.Addr()), local: caller, peer: here}, func(found socket) { s = found })
	if err != nil {
		return socket{}, err
	}
	switch {
	case s.local != caller || s.peer != here:
		// A listener on the caller's port answers for a connection that is gone.
		return socket{}, errors.New("the answer is about another socket")
	case s.state != stateEstablished && s.state != stateFinWait1 && s.state != stateFinWait2:
		return socket{}, errors.New("the caller closed already")
	case !s.hasCgroup || s.inode == 0:
		// What is left of a closed socket has no owner; its uid reads 0, which
		// would make anybody root.
		return socket{}, errors.New("nobody holds the socket any more")
	}
	return s, stillOpen(c)
}

func endpoints(c net.Conn) (caller, here netip.AddrPort, err error) {
	remote, ok1 := c.RemoteAddr().(*net.TCPAddr)
	local, ok2 := c.LocalAddr().(*net.TCPAddr)
	if !ok1 || !ok2 {
		return caller, here, fmt.Errorf("%T is no TCP connection of this machine", c)
	}
	return unmap(remote.AddrPort()), unmap(local.AddrPort()), nil
}

// stillOpen reports an error unless c is open even now. Were it not, its
// addresses could have been taken by another process before they were looked up.
func stillOpen(c net.Conn) error {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return fmt.Errorf("%T has no socket", c)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return err
	}
	var info *unix.TCPInfo
	if e := raw.Control(func(fd uintptr) {
		info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	}); e != nil {
		return e
	}
	if err != nil {
		return fmt.Errorf("reading the connection's state: %w", err)
	}
	// A caller that has said all it has to say still waits for the answer.
	if info.State != stateEstablished && info.State != stateCloseWait {
		return errors.New("the caller closed meanwhile")
	}
	return nil
}

func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

func family(a netip.Addr) uint8 {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}
