package config

import (
	"strings"
	"testing"
	"time"
)

// Files of the greatest size and the worst form that the parser is known to be
// slow or deep on are refused or read in bounded time. The bound is wide: what
// it rules out took minutes.
func TestWorstFilesAreBounded(t *testing.T) {
	for _, unit := range []string{"[", "- ", "? ", "{a: ", "a: ", "'", `"`, "a\n", "a: 1\n", "#", "|\n", "\n", " ", "- a\n", "a: |\n b\n", "---\n", "[],", "a:\n ", ": ", "%", ">", `\`, "é", "- - ", "-\n ", "a: [\n", "a: 'b\n\n", "{a: 1}\n", "a: 1, ", "a,\n"} {
		data := []byte(strings.Repeat(unit, maxSize/8/len(unit)))
		began := time.Now()
		_, err := DecodeResources("worst.yaml", data)
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("%q took %s", unit, took)
		} else if testing.Verbose() {
			t.Logf("%q took %s", unit, took)
		}
		if err == nil {
			t.Errorf("%q is taken", unit)
		}
	}
}
