package push

import (
	apiv1 "github.com/meshd/meshd/api/v1"
)

// A scope is the services that an agent holds more of than their names; nil
// means all services. It is never changed once it was made.
type scope map[string]bool

func (s scope) has(service string) bool { return s == nil || s[service] }

// A view is what decides what an agent is told.
type view struct {
	nodeID string
	// parts is set for agents that take updates in parts, and so may know of
	// services by name only.
	parts  bool
	wanted []string
	// interest counts how often the agent has said what it wants.
	interest uint64
}

// settled reports whether the agent has said what it wants, as of now: one that
// holds everything has to be asked before anything is taken away from it.
func (v view) settled(at cursor) bool {
	return !at.started || at.version == 0 || at.held != nil || at.limited && v.interest > at.asked
}

// scope gives the services that an agent is to hold in an edition: what its host
// runs and what it wants, and where routes of those send calls. limited reports
// whether others are left out.
func (e *edition) scope(v view, at cursor) (s scope, limited bool) {
	if !v.parts || e.txn.Node(nil, v.nodeID).GetWholeCatalogue() || e.whole() {
		return nil, false
	}
	if !v.settled(at) {
		return nil, true
	}
	s = make(scope, 2*len(v.wanted))
	for _, i := range e.txn.NodeInstances(nil, v.nodeID) {
		e.include(s, i.Service)
	}
	for _, name := range v.wanted {
		e.include(s, name)
	}
	return s, true
}

func (e *edition) include(s scope, name string) {
	service := e.txn.Service(nil, name)
	if service == nil {
		return
	}
	s[name] = true
	for _, target := range e.builder.service(e.txn, service).targets {
		if e.txn.Service(nil, target) != nil {
			s[target] = true
		}
	}
}

// scoped gives the fields that tell of services to an agent that held some of
// them and is to hold others.
func (e *edition) scoped(c *changes, held, want scope) (fields [][]byte) {
	for _, s := range c.services {
		switch {
		case want.has(s.Name) && held.has(s.Name):
			fields = append(fields, e.builder.service(e.txn, s).from(c.from)...)
		case want.has(s.Name):
			fields = append(fields, e.builder.service(e.txn, s).all()...)
		case c.from == 0 || s.CreateIndex > c.from:
			fields = append(fields, nameField(s))
		}
	}
	if c.from == 0 {
		return fields
	}
	return append(fields, e.moved(c.from, held, want)...)
}

// moved tells of services that did not change, and that the agent is to hold
// from now on, or no longer.
func (e *edition) moved(from uint64, held, want scope) (fields [][]byte) {
	e.each(want, held, func(s *apiv1.ServiceIndex) {
		if s.ModifyIndex <= from { // the others were told of
			fields = append(fields, e.builder.service(e.txn, s).all()...)
		}
	})
	var names chunker
	e.each(held, want, func(s *apiv1.ServiceIndex) {
		if s.CreateIndex <= from {
			names.add(nameField(s))
		}
	})
	return append(fields, names.done()...)
}

// each calls f with the services that are in one scope and not in another.
func (e *edition) each(in, notIn scope, f func(*apiv1.ServiceIndex)) {
	if notIn == nil {
		return
	}
	if in == nil {
		for _, s := range e.txn.Services(nil) {
			if !notIn[s.Name] {
				f(s)
			}
		}
		return
	}
	for name := range in {
		if s := e.txn.Service(nil, name); s != nil && !notIn[name] {
			f(s)
		}
	}
}
