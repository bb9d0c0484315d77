package command

import (
	"bytes"
	"errors"
	"math"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
)

func TestDecodeRefuses(t *testing.T) {
	f := func(entry []byte, want string) {
		t.Helper()
		_, err := Decode(entry)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Fatalf("Decode(%x): %v, want an error with %q", entry, err, want)
		}
	}
	f(nil, "ends inside its header")
	f([]byte{1, 0}, "ends inside its header")
	f([]byte{1, 0, 4, 0xff}, "of type 4")
	f([]byte{2, 0, 1}, "format 2")
	f([]byte{1, 0, 0}, "type 0")
	f([]byte{1, 1, 0}, "type 256")
}

func TestUnknownErrorSaysWhat(t *testing.T) {
	f := func(entry []byte, want UnknownError) {
		t.Helper()
		_, err := Decode(entry)
		var unknown *UnknownError
		if !errors.As(err, &unknown) || *unknown != want {
			t.Fatalf("Decode(%x): %v, want %+v", entry, err, want)
		}
	}
	f([]byte{9, 0, 1}, UnknownError{Format: 9})
	f([]byte{1, 0x30, 0x39}, UnknownError{Format: 1, Type: 12345})
}

func TestEncodeRefusesWhatIsNoCommand(t *testing.T) {
	if _, err := Encode(&apiv1.Node{}); err == nil {
		t.Fatal("a node was encoded as a command")
	}
	if _, err := Encode(nil); err == nil {
		t.Fatal("nil was encoded as a command")
	}
}

// Every message of the package but the parts of others is a command with a type.
func TestEveryCommandHasAType(t *testing.T) {
	parts := map[string]bool{"ResourceKey": true, "Result": true}
	messages := File_store_command_command_proto.Messages()
	types := map[string]Type{}
	for i := range math.MaxUint8 {
		if msg := Type(i).New(); msg != nil {
			types[Name(msg)] = Type(i)
			if TypeOf(msg) != Type(i) {
				t.Errorf("%s is made as type %d and counts as type %d", Name(msg), i, TypeOf(msg))
			}
		}
	}
	for i := range messages.Len() {
		name := string(messages.Get(i).Name())
		if _, ok := types[name]; ok == parts[name] {
			t.Errorf("%s: has a type: %v", name, ok)
		}
	}
}

// Every type needs a level that this version knows, and no other has one.
func TestLevelOf(t *testing.T) {
	for i := range Type(256) {
		level := LevelOf(i)
		if known := i.New() != nil; known != (level >= 1 && level <= MaxLevel) {
			t.Errorf("type %d, known: %v, needs level %d", i, known, level)
		}
	}
	f := func(t1 Type, want uint32) {
		t.Helper()
		if got := LevelOf(t1); got != want {
			t.Errorf("type %d needs level %d, want %d", t1, got, want)
		}
	}
	f(TypeInitCluster, 1)
	f(TypePutAuthority, 1)
	f(TypeAudited, 2)
	f(TypeRestoreState, 2)
	f(TypeSetFeatureLevel, 1) // or the level could never rise
}

func FuzzDecode(f *testing.F) {
	for _, msg := range samples() {
		entry, err := Encode(msg)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(entry)
	}
	f.Add([]byte{2, 0, 1})
	f.Fuzz(func(t *testing.T, entry []byte) {
		msg, err := Decode(entry)
		if err != nil {
			return
		}
		again, err := Encode(msg)
		if err != nil {
			t.Fatalf("decoded, but cannot be encoded: %v", err)
		}
		same, err := Decode(again)
		if err != nil || !proto.Equal(msg, same) {
			t.Fatalf("%v became %v (%v)", msg, same, err)
		}
		if third, _ := Encode(same); !bytes.Equal(again, third) {
			t.Fatalf("two encodings of %v differ", msg)
		}
	})
}
