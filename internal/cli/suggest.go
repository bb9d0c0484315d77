package cli

import "github.com/meshd/meshd/internal/spell"

// closest gives the candidate that a person who typed word most likely meant,
// or nothing when none comes near.
func closest(word string, candidates []string) string {
	best, bestDistance := "", max(2, len(word)/3)+1
	for _, c := range candidates {
		if len(c) < 2 {
			continue
		}
		if d := spell.Distance(word, c); d < bestDistance && d < len(c) {
			best, bestDistance = c, d
		}
	}
	return best
}
