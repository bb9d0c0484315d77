package store

import (
	"strconv"
	"time"
)

// Stats tell how far a server has come.
type Stats struct {
	ID     string
	Leader bool
	// Term of the newest election that this server knows of.
	Term uint64
	// LastIndex and LastTerm are of the newest entry in its log, or of its newest
	// snapshot when that reaches further.
	LastIndex, LastTerm uint64
	// Committed is up to where it knows the log to be on a majority of disks,
	// Applied up to where its state shows it.
	Committed, Applied uint64
	// Snapshot is the index of its newest snapshot, 0 when there is none.
	Snapshot uint64
	// LastContact is the time since it heard from the leader: 0 on the leader,
	// -1 when it never has.
	LastContact time.Duration
	// Voters is how many servers count for majorities.
	Voters int
}

// Stats are those of this moment. After Shutdown they are those of its end.
func (s *Store) Stats() Stats {
	raw := s.raft.Stats()
	number := func(name string) uint64 {
		n, _ := strconv.ParseUint(raw[name], 10, 64) // Raft writes what it read from a number
		return n
	}
	stats := Stats{
		ID: s.config.ID, Leader: s.IsLeader(), Term: number("term"),
		LastIndex: number("last_log_index"), LastTerm: number("last_log_term"),
		Committed: number("commit_index"), Applied: number("applied_index"),
		Snapshot: number("last_snapshot_index"), LastContact: -1,
	}
	if term := number("last_snapshot_term"); stats.Snapshot > stats.LastIndex {
		stats.LastIndex, stats.LastTerm = stats.Snapshot, term
	}
	if seconds, ok := lastContact(s); ok {
		stats.LastContact = time.Duration(seconds * float64(time.Second))
	}
	members, _ := s.Servers() // an error only when Raft has stopped
	for _, m := range members {
		if m.Voter {
			stats.Voters++
		}
	}
	return stats
}
