package spell

import (
	"strings"
	"testing"
)

func TestDistance(t *testing.T) {
	f := func(a, b string, want int) {
		t.Helper()
		if got := Distance(a, b); got != want {
			t.Errorf("from %q to %q: %d, want %d", a, b, got, want)
		}
	}
	f("", "", 0)
	f("from", "from", 0)
	f("form", "from", 1) // neighbours swapped
	f("sttus", "status", 1)
	f("statuss", "status", 1)
	f("stetus", "status", 1)
	f("", "abc", 3)
	f(strings.Repeat("a", 65), "a", 65)
}
