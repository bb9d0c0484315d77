// Package interest keeps which services a host uses, so that in a large mesh it
// is told about those and not about all.
package interest

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// keep is how long a service counts as used after its last use. It is long:
	// what is used once a day should never have to wait.
	keep = 48 * time.Hour
	// remember is how long it is known after that where its callers reach it, for
	// those that never look a name up twice.
	remember = 60 * 24 * time.Hour
	// maxWanted is what servers take from one host; the latest used are told.
	maxWanted = 4096
)

// A Place is where a service is reached on this host.
type Place struct {
	Ports []uint16 `json:"ports,omitempty"` // in order
	HTTP  bool     `json:"http,omitempty"`
}

// A record is what is kept of one service.
type record struct {
	Used int64 `json:"used"` // Unix time
	Place
}

// A Set is the services that a host uses. Its methods may be called
// concurrently.
type Set struct {
	declared []string
	mu       sync.Mutex
	records  map[string]*record
	dirty    bool // there is something that is not on disk

	flags flags
}

// New makes a set of the services that are always used, and those that Load
// gave.
func New(declared []string, saved map[string]*record) *Set {
	if saved == nil {
		saved = map[string]*record{}
	}
	return &Set{declared: slices.Clone(declared), records: saved}
}

// Use notes that services are used now, and reports whether one of them was not
// wanted before.
func (s *Set) Use(services ...string) (news bool) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range services {
		r := s.at(name)
		news = news || !r.wanted(now)
		r.Used = now.Unix()
		s.dirty = true
	}
	return news
}

func (s *Set) at(name string) *record {
	r := s.records[name]
	if r == nil {
		r = &record{}
		s.records[name] = r
	}
	return r
}

func (r *record) age(now time.Time) time.Duration { return now.Sub(time.Unix(r.Used, 0)) }

func (r *record) wanted(now time.Time) bool { return r.Used != 0 && r.age(now) < keep }

// Wanted are the services that the host wants to know all about, in order.
func (s *Set) Wanted() []string {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for name, r := range s.records {
		if r.wanted(now) && !slices.Contains(s.declared, name) {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(s.records[b].Used, s.records[a].Used), cmp.Compare(a, b))
	})
	names = append(slices.Clone(s.declared), names...)
	names = names[:min(len(names), maxWanted)]
	slices.Sort(names)
	return slices.Compact(names)
}

// Settle notes where services that are used are reached, and forgets those that
// have not been used for very long.
func (s *Set) Settle(places map[string]Place) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, r := range s.records {
		if r.age(now) >= keep+remember {
			delete(s.records, name)
			s.dirty = true
			continue
		}
		if p, ok := places[name]; ok && (r.HTTP != p.HTTP || !slices.Equal(r.Ports, p.Ports)) {
			r.Place = p
			s.dirty = true
		}
	}
}

// Places are where services were reached that are, or were, used.
func (s *Set) Places() map[string]Place {
	s.mu.Lock()
	defer s.mu.Unlock()
	places := map[string]Place{}
	for name, r := range s.records {
		if len(r.Ports) > 0 {
			places[name] = r.Place
		}
	}
	return places
}

// flags are set by who uses services without knowing of this package.
type flags struct {
	mu  sync.Mutex
	all map[string]*atomic.Bool
}

// Flag gives what is to be set when a service is used; it is the same at every
// call.
func (s *Set) Flag(service string) *atomic.Bool {
	s.flags.mu.Lock()
	defer s.flags.mu.Unlock()
	f := s.flags.all[service]
	if f == nil {
		f = &atomic.Bool{}
		if s.flags.all == nil {
			s.flags.all = map[string]*atomic.Bool{}
		}
		s.flags.all[service] = f
	}
	return f
}

// Sweep notes the uses of all services whose flags are set, and unsets these.
// It reports what Use does.
func (s *Set) Sweep() (news bool) {
	var used []string
	s.flags.mu.Lock()
	for name, f := range maps.All(s.flags.all) {
		if f.Swap(false) {
			used = append(used, name)
		}
	}
	s.flags.mu.Unlock()
	return s.Use(used...)
}
