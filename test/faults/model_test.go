package faults

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// A register is what one key holds. A value of 0 means nothing.
type register struct {
	value   int64
	version uint64 // 0 while nobody has seen it
}

// model is a set of registers that can be read, written and swapped, each by
// itself.
var model = porcupine.Model{
	Partition: byKey,
	Init:      func() any { return register{} },
	Step: func(state, input, output any) (bool, any) {
		return step(state.(register), input.(request), output.(reply))
	},
	Equal:             func(a, b any) bool { return a == b },
	DescribeOperation: func(input, output any) string { return describe(input.(request), output.(reply)) },
	DescribeState:     func(state any) string { return fmt.Sprintf("%+v", state) },
}

// step says whether a register can answer a request so, and what it holds then.
func step(s register, r request, got reply) (bool, register) {
	switch r.action {
	case read:
		return answer(s, got)
	case put:
		return write(s, r, got)
	case swap:
		if s.value == 0 || s.version != r.version {
			return got.outcome == conflict || got.outcome == unknown, s
		}
		return write(s, r, got)
	case take:
		if s.value != 0 && s.version != r.version {
			return got.outcome == conflict || got.outcome == unknown, s
		}
	}
	if s.value == 0 {
		return got.outcome == absent || got.outcome == unknown, s
	}
	return got.outcome == done || got.outcome == unknown, register{}
}

// answer is a read. It also tells the version of a value that was written with
// an unknown outcome. A swap needs no such care: whoever asks for it by the
// version of such a value has read it before.
func answer(s register, got reply) (bool, register) {
	if got.outcome == absent {
		return s.value == 0, s
	}
	if s.value != got.value || s.version != 0 && s.version != got.version {
		return false, s
	}
	return true, register{got.value, got.version}
}

// write puts a value. Versions grow.
func write(s register, r request, got reply) (bool, register) {
	if got.outcome == unknown {
		return true, register{value: r.value}
	}
	return got.outcome == done && got.version > s.version, register{r.value, got.version}
}

func byKey(ops []porcupine.Operation) (parts [][]porcupine.Operation) {
	place := map[string]int{}
	for _, op := range ops {
		key := op.Input.(request).key
		i, known := place[key]
		if !known {
			i = len(parts)
			place[key] = i
			parts = append(parts, nil)
		}
		parts[i] = append(parts[i], op)
	}
	return parts
}

func describe(r request, got reply) string {
	what := [...]string{"read %s", "put %s=%d", "swap %s=%d if at %d", "remove %s", "take %s if at %d"}[r.action]
	args := map[action][]any{read: {r.key}, put: {r.key, r.value}, swap: {r.key, r.value, r.version}, remove: {r.key}, take: {r.key, r.version}}
	result := [...]string{fmt.Sprintf("%d at %d", got.value, got.version), "conflict", "absent", "unknown", "nothing"}[got.outcome]
	return fmt.Sprintf(what, args[r.action]...) + " -> " + result
}

// patience is how long a verdict may take. Without one the test has failed.
const patience = 2 * time.Minute

// judge fails the test unless the history is linearizable, and leaves it behind
// as a page to look at.
func judge(t *testing.T, h *history) {
	t.Helper()
	acknowledged, unclear, reads := h.counts()
	t.Logf("%d writes acknowledged, %d of unknown outcome, %d reads", acknowledged, unclear, reads)
	if acknowledged < 20 || reads < 2*keys {
		t.Errorf("a history with %d writes and %d reads proves little", acknowledged, reads)
	}
	verdict, info := porcupine.CheckOperationsVerbose(model, h.operations(), patience)
	if verdict == porcupine.Ok {
		return
	}
	info.AddAnnotations(h.notes)
	t.Errorf("the history is not linearizable: %s; look at it in %s", verdict, draw(t, info))
}

// draw leaves a history behind as a page for a browser.
func draw(t *testing.T, info porcupine.LinearizationInfo) string {
	t.Helper()
	dir, err := os.MkdirTemp(os.Getenv("FAULTS_DIR"), "meshd-faults-")
	if err == nil {
		err = porcupine.VisualizePath(model, info, filepath.Join(dir, "history.html"))
	}
	if err != nil {
		t.Errorf("writing the history down: %v", err)
	}
	return filepath.Join(dir, "history.html")
}
