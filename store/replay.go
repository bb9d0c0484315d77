package store

import (
	"github.com/hashicorp/raft"

	"github.com/meshd/meshd/store/raftlog"
)

// replayingLog brings the state, before Raft begins, to the last commit that
// the log knows of. Otherwise a server that starts without a majority would
// show what was so at its last snapshot, and agents would go back in time.
//
// Raft 1.8.0 can do the same for a log that tracks commits, but it then skips
// the members named in the entries it replays, so that a cluster without a
// snapshot never elects a leader again, and it waits for ever when there are
// more than 128 batches. So it is told that nothing is known to be committed;
// it hands out the entries again once it has a leader, and machine skips them.
type replayingLog struct {
	*raftlog.Log
	snapshots *snapshotStore
	machine   *machine
}

var _ raft.CommitTrackingLogStore = (*replayingLog)(nil)

// GetCommitIndex is called once, when Raft has restored a snapshot, if any, and
// before anything else runs.
func (l *replayingLog) GetCommitIndex() (uint64, error) {
	commit, err := l.Log.GetCommitIndex()
	if err != nil {
		return 0, err
	}
	return 0, l.replay(commit)
}

// replay also reads the entries that it does not apply. Raft would end the
// process if it met a damaged one; here it is an error.
func (l *replayingLog) replay(commit uint64) error {
	last, err := l.LastIndex()
	if err != nil {
		return err
	}
	for i := l.snapshots.restored() + 1; i <= last; i++ {
		var entry raft.Log
		err := l.GetLog(i, &entry)
		if err != nil {
			return missing(l.Log, i, err)
		}
		if i <= commit && entry.Type == raft.LogCommand {
			l.machine.Apply(&entry)
		}
	}
	return nil
}
