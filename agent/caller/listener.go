package caller

import (
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"
)

// A Listener is a TCP socket that waits for connections on this host.
type Listener struct {
	Address netip.Addr // unspecified when it takes them on every address
	UID     uint32
	Unit    string // empty when it is of no system service
}

// Exposed reports whether other hosts could reach the listener directly, past
// the mesh.
func (l Listener) Exposed() bool { return !l.Address.IsLoopback() }

// Listener finds who listens on 127.0.0.1 at that port, be it by listening on
// every address. ok is false when nobody does.
func (r *Resolver) Listener(port uint16) (l Listener, ok bool, err error) {
	for _, fam := range []uint8{unix.AF_INET, unix.AF_INET6} {
		q := query{family: fam, dump: true, states: 1 << stateListen, local: netip.AddrPortFrom(netip.Addr{}, port)}
		err = r.diag.ask(q, func(s socket) {
			// The exact address has precedence, as it has for the kernel.
			if serves(s, port) && (!ok || s.local.Addr() == loopback) {
				l, ok = r.listener(s), true
			}
		})
		if err != nil {
			return Listener{}, false, err
		}
	}
	return l, ok, nil
}

// ListenerUnit returns the system service that listens on 127.0.0.1 at that
// port, or "" when nobody listens there or it is none.
func (r *Resolver) ListenerUnit(port uint16) (string, error) {
	l, _, err := r.Listener(port)
	return l.Unit, err
}

var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// serves tells an application's listener from the mesh's own, which are on
// other loopback addresses at the same port.
func serves(s socket, port uint16) bool {
	a := s.local.Addr()
	return s.state == stateListen && s.local.Port() == port && (a == loopback || a.IsUnspecified() && !s.v6only)
}

func (r *Resolver) listener(s socket) Listener {
	l := Listener{Address: s.local.Addr(), UID: s.uid}
	if s.hasCgroup {
		l.Unit = serviceUnit(r.units.of(s.cgroup))
	}
	return l
}

// serviceUnit gives the unit when it is one that only an administrator can make
// and start. Any user could run a listener in a scope, or in a service manager
// of its own, and must not become a service of the mesh by that.
func serviceUnit(units []string) string {
	if len(units) == 0 || !strings.HasSuffix(units[0], ".service") || strings.HasPrefix(units[0], "user@") {
		return ""
	}
	return units[0]
}
