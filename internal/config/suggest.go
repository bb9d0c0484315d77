package config

import (
	"fmt"
	"strings"

	"github.com/meshd/meshd/internal/spell"
)

// suggest says which of the words that are known somebody may have meant, or,
// when none is near, which there are.
func suggest(word string, known []string) string {
	best, least := "", len(word)/3+2
	for _, k := range known {
		if d := spell.Distance(strings.ToLower(word), k); d < least {
			best, least = k, d
		}
	}
	if best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	return "use one of " + strings.Join(known, ", ")
}
