package store

import "github.com/hashicorp/raft"

// vouch hands Raft what other servers send, and lets a candidate stand whose
// membership this server may not have heard of. Raft refuses its vote to whoever
// is no voter by its own list of members. So when a server has just been made a
// voter and the leader is lost before the others heard of it, nobody can be
// elected: the new one has the longer log, and the others do not know it.
//
// A candidate whose log ends beyond this server's has entries that this one has
// not, and they may be the ones that made it a voter. Whom a log makes the leader
// is safe by the logs alone; the list of members only keeps those out who were
// removed, and their logs end before the entry that did it.
func (s *Store) vouch(in <-chan raft.RPC, out chan<- raft.RPC) {
	for {
		select {
		case rpc := <-in:
			s.admitCandidate(rpc.Command)
			select {
			case out <- rpc:
			case <-s.stop:
				return
			}
		case <-s.stop:
			return
		}
	}
}

// admitCandidate puts this server's own id, which Raft knows for a voter, in the
// place of a candidate's. Raft uses it for that question only: the vote goes to
// the address.
func (s *Store) admitCandidate(command any) {
	switch r := command.(type) {
	case *raft.RequestVoteRequest:
		if s.knowsMore(r.ID, r.LastLogTerm, r.LastLogIndex) {
			r.ID = []byte(s.config.ID)
		}
	case *raft.RequestPreVoteRequest:
		if s.knowsMore(r.ID, r.LastLogTerm, r.LastLogIndex) {
			r.ID = []byte(s.config.ID)
		}
	}
}

// knowsMore tells whether a candidate is no voter as far as this server knows,
// and has a log that ends beyond this server's.
func (s *Store) knowsMore(id []byte, term, index uint64) bool {
	members, err := s.Servers()
	if err != nil || len(members) == 0 {
		return false
	}
	for _, m := range members {
		if m.ID == string(id) && m.Voter {
			return false
		}
	}
	own := s.Stats()
	return term > own.LastTerm || term == own.LastTerm && index > own.LastIndex
}
