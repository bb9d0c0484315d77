//go:build race

package mux

// raceEnabled says that pools throw things away at random.
const raceEnabled = true
