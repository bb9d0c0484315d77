package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	"github.com/meshd/meshd/internal/atomicfile"
	"github.com/meshd/meshd/store/command"
)

// termKey is Raft's name for its current term.
const termKey = "CurrentTerm"

// RecoverOptions say who is left.
type RecoverOptions struct {
	// ID of the server whose directory it is.
	ID string
	// Members are to be the cluster from now on, all of them voters; this server
	// must be one. None stands for this server alone, at the address that the
	// others know it by.
	Members []Member
	// Time of the recovery, for the log.
	Time time.Time
}

// A Recovered tells what Recover did.
type Recovered struct {
	Members []Member
	// Recovery is the cluster's count of recoveries from now on.
	Recovery uint32
	// Index of the log's last entry, which makes them the members.
	Index uint64
	// Unacknowledged is how many entries were kept of which it is not known that
	// a majority had them.
	Unacknowledged uint64
	// Backup is where the files are as they were before.
	Backup string
	// Already is set when the directory had been recovered so before, and no
	// server had run on it since: nothing was done.
	Already bool
}

// Recover makes a cluster of the members that are left, when a majority has
// been lost for good: on the stopped server with the newest log, and on it
// alone. The others join anew with empty directories; none that was left behind
// may come back, for it knows another history, and the count of recoveries in
// the servers' handshakes keeps it out.
//
// The change is entries at the end of the log, written in one transaction, so
// that it has happened as a whole or not at all, and can be repeated.
func Recover(dir string, o RecoverOptions) (Recovered, error) {
	d, err := openOffline(dir)
	if err != nil {
		return Recovered{}, fmt.Errorf("recovering %s: %w", dir, err)
	}
	done, err := d.recover(o)
	if err := errors.Join(err, d.close()); err != nil {
		return Recovered{}, fmt.Errorf("recovering %s: %w", dir, err)
	}
	return done, nil
}

func (d *offline) recover(o RecoverOptions) (Recovered, error) {
	members, err := d.survivors(o)
	if err != nil {
		return Recovered{}, err
	}
	r := Recovered{Members: members, Recovery: d.contents.Recovery + 1, Unacknowledged: d.contents.LastIndex - d.contents.Committed}
	if d.wasRecovered(members) {
		r.Recovery, r.Index, r.Already = d.contents.Recovery, d.last.Index, true
		r.Backup = d.backupPath(r.Recovery)
		return r, nil
	}
	r.Backup = d.backupPath(r.Recovery)
	if err := d.backUp(r.Backup); err != nil {
		return Recovered{}, fmt.Errorf("keeping a copy of what is there: %w", err)
	}
	if r.Index, err = d.append(r, o.Time); err != nil {
		return Recovered{}, err
	}
	r.Recovery = d.machine.db.Read().Cluster(nil).Recovery
	return r, nil
}

func (d *offline) survivors(o RecoverOptions) ([]Member, error) {
	state := d.machine.db.Read()
	if state.Cluster(nil) == nil {
		return nil, errors.New("the directory holds no mesh's state: this server had not joined any")
	}
	members := slices.Clone(o.Members)
	if len(members) == 0 {
		members = []Member{{ID: o.ID}}
	}
	for i := range members {
		m := &members[i]
		server := state.Server(nil, m.ID)
		if server == nil {
			return nil, fmt.Errorf("the mesh has no server %q", m.ID)
		}
		if m.Address == "" {
			m.Address = server.Address
		}
		m.Voter = true
	}
	if !slices.ContainsFunc(members, func(m Member) bool { return m.ID == o.ID }) {
		return nil, fmt.Errorf("server %q, whose directory this is, must be one of those that are left", o.ID)
	}
	return members, nil
}

// wasRecovered tells whether these members are the cluster already, and nothing
// has happened since.
func (d *offline) wasRecovered(members []Member) bool {
	var known []string
	for _, server := range d.machine.db.Read().Servers(nil) {
		known = append(known, server.Id)
	}
	var ids []string
	for _, m := range members {
		ids = append(ids, m.ID)
	}
	slices.Sort(ids)
	return d.last.Type == raft.LogConfiguration && slices.Equal(d.contents.Members, members) && slices.Equal(known, ids)
}

func (d *offline) backupPath(recovery uint32) string {
	return filepath.Join(d.dir, fmt.Sprintf("before-recovery-%d", recovery))
}

// backUp copies log and snapshots. A copy of that name is of an attempt that
// was cut short.
func (d *offline) backUp(to string) error {
	if err := checkSpace(d.dir, d.contents.Size); err != nil {
		return err
	}
	tmp := to + ".tmp"
	if err := errors.Join(os.RemoveAll(to), os.RemoveAll(tmp), os.Mkdir(tmp, 0o700)); err != nil {
		return err
	}
	if err := copyTree(filepath.Join(d.dir, snapshotDir), filepath.Join(tmp, snapshotDir)); err != nil {
		return err
	}
	if err := copyFile(d.log.Path(), filepath.Join(tmp, logFile)); err != nil {
		return err
	}
	if err := atomicfile.Sync(tmp); err != nil {
		return err
	}
	if err := os.Rename(tmp, to); err != nil {
		return err
	}
	return atomicfile.Sync(d.dir)
}

// append tries the recovery on the state, and writes it in a term that nobody
// has seen, so that no entry of those who are left behind is taken for one of
// these. It gives the index of the last entry.
func (d *offline) append(r Recovered, now time.Time) (uint64, error) {
	term := max(d.contents.Term, d.contents.LastTerm) + 1
	entries, err := d.entries(r, term, now)
	if err != nil {
		return 0, err
	}
	last := entries[len(entries)-1].Index
	if err := d.log.SetUint64([]byte(termKey), term); err != nil {
		return 0, err
	}
	if err := d.log.StageCommitIndex(last); err != nil {
		return 0, err
	}
	return last, d.log.StoreLogs(entries)
}

func (d *offline) entries(r Recovered, term uint64, now time.Time) (entries []*raft.Log, err error) {
	add := func(kind raft.LogType, data []byte) *raft.Log {
		entry := &raft.Log{Index: d.contents.LastIndex + 1 + uint64(len(entries)), Term: term, Type: kind, Data: data, AppendedAt: now}
		entries = append(entries, entry)
		return entry
	}
	for _, msg := range d.commands(r, now) {
		data, err := command.Encode(msg)
		if err != nil {
			return nil, err
		}
		if result := d.machine.Apply(add(raft.LogCommand, data)).(*command.Result); result.Refusal != 0 {
			return nil, fmt.Errorf("the state refuses it: %s", result.Message)
		}
	}
	var servers raft.Configuration
	for _, m := range r.Members {
		servers.Servers = append(servers.Servers, raft.Server{ID: raft.ServerID(m.ID), Address: raft.ServerAddress(m.Address)})
	}
	add(raft.LogConfiguration, raft.EncodeConfiguration(servers))
	return entries, nil
}

// commands forget the servers that are lost. Versions that do not know of
// recoveries do not ask for their count either.
func (d *offline) commands(r Recovered, now time.Time) (all []proto.Message) {
	state := d.machine.db.Read()
	msg := &command.Recover{Recovery: r.Recovery, TimeUnix: now.Unix()}
	for _, m := range r.Members {
		msg.ServerIds = append(msg.ServerIds, m.ID)
	}
	if state.CheckLevel(msg) == nil {
		return []proto.Message{msg}
	}
	for _, server := range state.Servers(nil) {
		if !slices.Contains(msg.ServerIds, server.Id) {
			all = append(all, &command.RemoveServer{Id: server.Id, TimeUnix: now.Unix()})
		}
	}
	return all
}
