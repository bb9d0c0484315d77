package faults

import (
	"testing"

	"github.com/anishathalye/porcupine"
)

// The judge must be able to say no: each history is one that no register has.
func TestTheJudge(t *testing.T) {
	f := func(what string, want porcupine.CheckResult, script func(say func(request, reply), during func(request, reply) (end func()))) {
		t.Helper()
		h := &history{}
		client := 0
		say := func(r request, got reply) { h.call(client, r, func(request) reply { return got }) }
		during := func(r request, got reply) func() {
			client++
			begun, finish, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
			go func(client int) {
				defer close(ended)
				h.call(client, r, func(request) reply { close(begun); <-finish; return got })
			}(client)
			<-begun
			return func() { close(finish); <-ended }
		}
		script(say, during)
		if got, _ := porcupine.CheckOperationsVerbose(model, h.operations(), patience); got != want {
			t.Errorf("%s: judged %s, want %s", what, got, want)
		}
	}
	type said = func(request, reply)
	type going = func(request, reply) func()
	const ok, illegal = porcupine.Ok, porcupine.Illegal

	f("what was written is read", ok, func(say said, _ going) {
		say(request{action: put, key: "a", value: 1}, reply{version: 5})
		say(request{action: read, key: "a"}, reply{value: 1, version: 5})
		say(request{action: read, key: "b"}, reply{outcome: absent})
	})
	f("a stale read", illegal, func(say said, _ going) {
		say(request{action: put, key: "a", value: 1}, reply{version: 5})
		say(request{action: put, key: "a", value: 2}, reply{version: 6})
		say(request{action: read, key: "a"}, reply{value: 1, version: 5})
	})
	f("an acknowledged write is lost", illegal, func(say said, _ going) {
		say(request{action: put, key: "a", value: 1}, reply{version: 5})
		say(request{action: read, key: "a"}, reply{outcome: absent})
	})
	f("a read during a write", ok, func(say said, during going) {
		end := during(request{action: put, key: "a", value: 1}, reply{version: 5})
		say(request{action: read, key: "a"}, reply{outcome: absent})
		say(request{action: read, key: "a"}, reply{value: 1, version: 5})
		end()
	})
	f("a read that goes back", illegal, func(say said, during going) {
		end := during(request{action: put, key: "a", value: 1}, reply{version: 5})
		say(request{action: read, key: "a"}, reply{value: 1, version: 5})
		say(request{action: read, key: "a"}, reply{outcome: absent})
		end()
	})
	f("two swaps of one version", illegal, func(say said, _ going) {
		say(request{action: put, key: "a", value: 1}, reply{version: 5})
		say(request{action: swap, key: "a", value: 2, version: 5}, reply{version: 6})
		say(request{action: swap, key: "a", value: 3, version: 5}, reply{version: 7})
	})
	f("a conflict without reason", illegal, func(say said, _ going) {
		say(request{action: put, key: "a", value: 1}, reply{version: 5})
		say(request{action: swap, key: "a", value: 2, version: 5}, reply{outcome: conflict})
	})
	f("a version that goes back", illegal, func(say said, _ going) {
		say(request{action: put, key: "a", value: 1}, reply{version: 5})
		say(request{action: put, key: "a", value: 2}, reply{version: 4})
	})
	f("an unknown write comes into force later", ok, func(say said, _ going) {
		say(request{action: put, key: "a", value: 1}, reply{version: 5})
		say(request{action: put, key: "a", value: 2}, reply{outcome: unknown})
		say(request{action: read, key: "a"}, reply{value: 1, version: 5})
		say(request{action: read, key: "a"}, reply{value: 2, version: 9})
		say(request{action: swap, key: "a", value: 3, version: 9}, reply{version: 10})
	})
	f("an unknown write comes into force twice", illegal, func(say said, _ going) {
		say(request{action: put, key: "a", value: 1}, reply{outcome: unknown})
		say(request{action: read, key: "a"}, reply{value: 1, version: 5})
		say(request{action: read, key: "a"}, reply{value: 1, version: 6})
	})
	f("a write that was surely not done is there", illegal, func(say said, _ going) {
		say(request{action: put, key: "a", value: 1}, reply{outcome: nothing})
		say(request{action: read, key: "a"}, reply{value: 1, version: 5})
	})
	f("a delete that comes back", illegal, func(say said, _ going) {
		say(request{action: put, key: "a", value: 1}, reply{version: 5})
		say(request{action: remove, key: "a"}, reply{})
		say(request{action: read, key: "a"}, reply{value: 1, version: 5})
	})
	f("a delete of another version", illegal, func(say said, _ going) {
		say(request{action: put, key: "a", value: 1}, reply{version: 5})
		say(request{action: put, key: "a", value: 2}, reply{version: 6})
		say(request{action: take, key: "a", version: 5}, reply{})
	})
}
