package faults

import (
	"math"
	"slices"
	"sync"

	"github.com/anishathalye/porcupine"
)

// An action is what a client asks for.
type action uint8

const (
	read   action = iota
	put           // whatever is there
	swap          // put if the version is the one that was read
	remove        // whatever is there
	take          // remove if the version is the one that was read
)

// A request is one call about one key.
type request struct {
	action  action
	key     string
	value   int64  // to be written, never the same twice
	version uint64 // that must be there, of swap and take
}

// An outcome is what a client knows about its call.
type outcome uint8

const (
	done     outcome = iota
	conflict         // another version was there
	absent           // nothing was there
	unknown          // it may have been done, or be done later
	nothing          // surely not done: such calls are left out of histories
)

// A reply is what a call came to.
type reply struct {
	outcome outcome
	value   int64  // that was read
	version uint64 // that was read or written
}

// A history is all that clients did and saw, in the order in which it happened.
// It has a clock of its own, for in a bubble many things happen at one moment.
type history struct {
	mu    sync.Mutex
	clock int64
	ops   []porcupine.Operation
	notes []porcupine.Annotation
}

// call runs a request and keeps it with its reply. What was read that failed
// tells nothing, nor does what was surely not done.
func (h *history) call(client int, r request, do func(request) reply) reply {
	began := h.tick()
	got := do(r)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clock++
	if got.outcome == nothing || r.action == read && got.outcome == unknown {
		return got
	}
	op := porcupine.Operation{ClientId: client, Input: r, Call: began, Output: got, Return: h.clock}
	if got.outcome == unknown {
		op.Return = math.MaxInt64
	}
	h.ops = append(h.ops, op)
	return got
}

func (h *history) tick() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clock++
	return h.clock
}

// note writes a fault into the history, for those who look at it.
func (h *history) note(what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clock++
	h.notes = append(h.notes, porcupine.Annotation{Tag: "faults", Start: h.clock, Description: what})
}

// operations are the history as porcupine takes it. A write of unknown outcome
// whose value somebody has read was done by then, which spares the search many
// ways in which it could have gone.
func (h *history) operations() []porcupine.Operation {
	h.mu.Lock()
	defer h.mu.Unlock()
	seen := map[int64]int64{}
	for _, op := range h.ops {
		if r, got := op.Input.(request), op.Output.(reply); r.action == read && got.outcome == done {
			if at, known := seen[got.value]; !known || op.Return < at {
				seen[got.value] = op.Return
			}
		}
	}
	ops := slices.Clone(h.ops)
	for i, op := range ops {
		if at, known := seen[op.Input.(request).value]; known && op.Return == math.MaxInt64 {
			ops[i].Return = at
		}
	}
	return ops
}

// counts says how much the history proves: what was acknowledged, and what has
// an unknown outcome.
func (h *history) counts() (acknowledged, unclear, reads int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, op := range h.ops {
		switch got := op.Output.(reply); {
		case got.outcome == unknown:
			unclear++
		case op.Input.(request).action == read:
			reads++
		case got.outcome == done:
			acknowledged++
		}
	}
	return acknowledged, unclear, reads
}
