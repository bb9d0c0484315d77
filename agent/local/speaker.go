package local

import (
	"fmt"
	"os/user"
	"strconv"

	"github.com/meshd/meshd/agent/caller"
	"github.com/meshd/meshd/internal/mesh"
)

// findUnits looks for the unit of services that were declared without saying
// who speaks as them. What was found once stays as long as the declaration
// does: whoever takes the port while the application is away must not become
// the service by that.
func (l *Local) findUnits(services []*Service) {
	keep := map[string]string{}
	for _, s := range services {
		d := s.Declaration
		s.Unit = d.GetUnit()
		if s.Unit != "" || d.GetUser() != "" {
			continue
		}
		key := fmt.Sprintf("%s %s %d", s.Source, d.GetId(), d.GetPort())
		if s.Unit = l.unitAt(key, uint16(d.GetPort())); s.Unit != "" {
			keep[key] = s.Unit
		}
	}
	l.found = keep
}

func (l *Local) unitAt(key string, port uint16) string {
	if unit := l.found[key]; unit != "" || l.cfg.ListenerUnit == nil {
		return unit
	}
	unit, err := l.cfg.ListenerUnit(port)
	if err != nil {
		l.log.Debug("it cannot be told who listens", "port", port, "error", err)
	}
	return unit
}

// A roll says who speaks as which service. A unit or user speaks as one service
// only: a call bears one identity.
type roll struct {
	caller.Table
	problems []string
}

// speakers makes the roll. What was declared goes before what was found, then
// the lower id.
func (l *Local) speakers(services []*Service) *roll {
	r := &roll{Table: caller.Table{Units: map[string]string{}, Users: map[uint32]string{}}}
	for _, s := range services {
		d, identity := s.Declaration, l.identity(s)
		if d.GetUnit() != "" && !claim(r.Units, d.GetUnit(), identity) {
			r.taken(s, d.GetUnit())
		}
		if d.GetUser() != "" {
			r.addUser(s, identity)
		}
	}
	for _, s := range services {
		if s.Declaration.GetUnit() == "" && s.Unit != "" && !claim(r.Units, s.Unit, l.identity(s)) {
			r.taken(s, s.Unit)
		}
	}
	return r
}

func (l *Local) identity(s *Service) string {
	return mesh.ServiceIdentity(l.cfg.TrustDomain, s.Declaration.GetName()).String()
}

func (r *roll) addUser(s *Service, identity string) {
	name := s.Declaration.GetUser()
	uid, err := lookupUser(name)
	if err != nil {
		r.problems = append(r.problems, fmt.Sprintf("service %s: %v, so that its callers are not recognised by that", s.Declaration.GetId(), err))
	} else if !claim(r.Users, uid, identity) {
		r.taken(s, "user "+name)
	}
}

func (r *roll) taken(s *Service, who string) {
	r.problems = append(r.problems, fmt.Sprintf("service %s: %s speaks as another service already, and calls by it count as that one's; run each in a unit of its own, or name its unit", s.Declaration.GetId(), who))
}

// claim enters the identity unless another one has the place.
func claim[K comparable](table map[K]string, key K, identity string) bool {
	if table[key] == "" {
		table[key] = identity
	}
	return table[key] == identity
}

// lookupUser takes a name or a number.
func lookupUser(name string) (uint32, error) {
	id := name
	if u, err := user.Lookup(name); err == nil {
		id = u.Uid
	}
	n, err := strconv.ParseUint(id, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("there is no user %q on this host", name)
	}
	return uint32(n), nil
}
