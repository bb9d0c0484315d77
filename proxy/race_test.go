//go:build race

package proxy

// raceEnabled says that everything takes many times as long.
const raceEnabled = true
