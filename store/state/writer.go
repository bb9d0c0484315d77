package state

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/store/command"
)

// A writer applies one command. It reads what it has written.
type writer struct {
	Txn
	index  uint64 // of the command
	result *command.Result
	places uint32 // in the catalogue
	alike  likeness
	// What the command has to do with, in the order in which it came up.
	touched []string
	// Whether a removal is to be remembered.
	remembers bool
}

// do carries out one command, and notes what has changed with it.
func (w *writer) do(msg proto.Message) error {
	w.touched, w.remembers = nil, false
	if err := w.apply(msg); err != nil {
		return err
	}
	if err := w.noteServices(); err != nil {
		return err
	}
	if w.remembers {
		w.forget()
	}
	return nil
}

func (w *writer) apply(msg proto.Message) error {
	if c, ok := msg.(*command.InitCluster); ok {
		return w.initCluster(c)
	}
	if msg != nil && w.Cluster(nil) == nil {
		return refuse(command.Refusal_REFUSAL_NOT_INITIALIZED, "there is no mesh yet: meshd init makes one")
	}
	if err := w.checkLevel(msg); err != nil {
		return err
	}
	switch c := msg.(type) {
	case *command.PutServer:
		return w.putServer(c)
	case *command.RemoveServer:
		return w.removeServer(c)
	case *command.PutNode:
		return w.putNode(c)
	case *command.TakeLease:
		return w.takeLease(c)
	case *command.EndLease:
		return w.endLease(c)
	case *command.RemoveNode:
		return w.removeNode(c)
	case *command.SetInstances:
		return w.setInstances(c)
	case *command.SetResources:
		return w.setResources(c)
	case *command.PutToken:
		return w.putToken(c)
	case *command.RemoveToken:
		return w.removeToken(c)
	case *command.PutAuthority:
		return w.putAuthority(c)
	case *command.Audited:
		return w.audited(c)
	case *command.UpdateServer:
		return w.correctServer(c)
	case *command.SetFeatureLevel:
		return w.setFeatureLevel(c)
	case *command.Recover:
		return w.recover(c)
	case *command.PutAccessToken:
		return w.putAccessToken(c)
	case *command.RemoveAccessToken:
		return w.removeAccessToken(c)
	case *command.ChangeAuthority:
		return w.changeAuthority(c)
	case *command.SetGossipKeys:
		return w.setGossipKeys(c)
	case *command.Reap:
		return w.reap(c)
	case *command.RestoreState:
		return w.restoreState(c)
	}
	return refuse(command.Refusal_REFUSAL_UNKNOWN_ENTRY, "this server does not know what the log entry asks for: a newer version of meshd wrote it, so update this server")
}

func (w *writer) commit() {
	w.setMark(appliedMark)
	w.txn.Commit()
}

// note tells the proposer of a change.
func (w *writer) note(kind, name, action string) {
	w.result.Changes = append(w.result.Changes, &apiv1.Change{Kind: kind, Name: name, Action: action})
}

func (w *writer) setMark(name string) { w.put(markTable, mark{name, w.index}) }

func (w *writer) put(table string, row any) { mustDo(w.txn.Insert(table, row)) }

func (w *writer) remove(table string, row any) { mustDo(w.txn.Delete(table, row)) }

// maxServices bounds the catalogue, which no service ever leaves: a host that may
// run anything could fill it with names otherwise.
const maxServices = 1 << 16

// touch notes that what a slice of the service shows has changed.
func (w *writer) touch(service string) { w.touched = append(w.touched, service) }

// noteServices moves the services that were touched on to this index. One that
// is new to the catalogue gets its place in it. All are read before any is
// written: a read after a write has all writes after it copy anew.
func (w *writer) noteServices() error {
	if len(w.touched) == 0 {
		return nil
	}
	var rows []*apiv1.ServiceIndex
	vip := w.nextVIP()
	seen := map[string]bool{}
	for _, name := range w.touched {
		if seen[name] {
			continue
		}
		seen[name] = true
		s := proto.CloneOf(w.Service(nil, name))
		if s == nil {
			if vip > w.places && w.FeatureLevel(nil) >= 2 {
				return invalid("there is no place for the service %q: the catalogue has %d already, and they keep their places for good", name, w.places)
			}
			s = &apiv1.ServiceIndex{Name: name, Vip: vip, CreateIndex: w.index}
			vip++
		}
		s.ModifyIndex = w.index
		rows = append(rows, s)
	}
	for _, s := range rows {
		w.put(serviceTable, s)
	}
	return nil
}

// nextVIP works because no service ever leaves the catalogue.
func (w *writer) nextVIP() uint32 {
	last, err := w.txn.Last(serviceTable, byVIP)
	mustDo(err)
	if last == nil {
		return 1
	}
	return last.(*apiv1.ServiceIndex).Vip + 1
}

// touchServicesOn touches the services that have instances on a node.
func (w *writer) touchServicesOn(nodeID string) {
	for _, i := range w.NodeInstances(nil, nodeID) {
		w.touch(i.Service)
	}
}

// A refusal is an error that says why a command was not carried out.
type refusal struct {
	kind     command.Refusal
	message  string
	problems []*apiv1.Problem
}

// add adds what is wrong with one of the resources, unless it is nil.
func (r *refusal) add(resource int, p *apiv1.Problem) {
	if p != nil {
		p.Resource = int32(resource)
		r.problems = append(r.problems, p)
	}
}

func (r *refusal) Error() string { return r.message }

func refuse(kind command.Refusal, format string, args ...any) error {
	return &refusal{kind: kind, message: fmt.Sprintf(format, args...)}
}

func invalid(format string, args ...any) error {
	return refuse(command.Refusal_REFUSAL_INVALID, format, args...)
}
