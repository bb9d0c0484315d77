package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/meshd/meshd/internal/netx"
	"github.com/meshd/meshd/internal/pki"
	"github.com/meshd/meshd/store"
)

// A Recovery is what is known before a recovery from a lost majority: what the
// stopped server holds, and who of the others answers.
type Recovery struct {
	Name, ClusterName string
	Contents          store.Contents
	// Reachable are the addresses of the other members whose servers run.
	Reachable []string
}

// Joined gives the name of the server whose data directory it is; ok is false when
// there is none.
func Joined(path string) (name string, ok bool, err error) {
	r, err := dataDir(path).readRecord()
	if errors.Is(err, fs.ErrNotExist) {
		return "", false, nil
	}
	return r.Name, err == nil, err
}

// reachTimeout is how long another server may take to answer.
const reachTimeout = 2 * time.Second

// InspectRecovery looks at the data directory of a stopped server, and whether
// the others run.
func InspectRecovery(ctx context.Context, path string, network netx.Network) (*Recovery, error) {
	dir, r, err := stoppedServer(path)
	if err != nil {
		return nil, err
	}
	contents, err := store.Inspect(dir.file(raftDir))
	if err != nil {
		return nil, err
	}
	found := &Recovery{Name: r.Name, ClusterName: r.ClusterName, Contents: contents}
	found.Reachable = reachable(ctx, network, contents.Members, r.ID)
	return found, nil
}

// Majority reports whether so many of the members run, or would with this server,
// that they need no recovery.
func (r *Recovery) Majority() bool {
	voters := 0
	for _, m := range r.Contents.Members {
		if m.Voter {
			voters++
		}
	}
	return len(r.Reachable)+1 > voters/2
}

func reachable(ctx context.Context, network netx.Network, members []store.Member, self string) (addresses []string) {
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	answers := make([]bool, len(members))
	var asking sync.WaitGroup
	for i, m := range members {
		if m.ID == self {
			continue
		}
		asking.Go(func() {
			if c, err := network.DialContext(ctx, "tcp", m.Address); err == nil {
				c.Close()
				answers[i] = true
			}
		})
	}
	asking.Wait()
	for i, m := range members {
		if answers[i] {
			addresses = append(addresses, m.Address)
		}
	}
	return addresses
}

// Recover has a stopped server go on alone, though a majority of the servers is
// lost for good: with it the mesh has what this server has. The others can never
// come back with what they hold; they join anew. It can be repeated.
func Recover(path string) (store.Recovered, error) {
	dir, r, err := stoppedServer(path)
	if err != nil {
		return store.Recovered{}, err
	}
	done, err := store.Recover(dir.file(raftDir), store.RecoverOptions{ID: r.ID, Time: time.Now()})
	if err != nil {
		return done, err
	}
	r.Recovery, r.GossipPeers = done.Recovery, nil
	return done, dir.writeRecord(r)
}

func stoppedServer(path string) (dir dataDir, r record, err error) {
	dir = dataDir(path)
	if err := dir.checkRetired(); err != nil {
		return dir, r, err
	}
	r, err = dir.readRecord()
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%s holds no server", dir)
	}
	return dir, r, err
}

func (d dataDir) writeRecord(r record) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding %s: %w", recordFile, err)
	}
	return pki.WriteSecret(d.file(recordFile), append(text, '\n'))
}

// checkRecovery refuses a directory whose recovery was cut short.
func (s *Server) checkRecovery() error {
	txn, err := s.store.Read(context.Background(), store.Stale)
	if err == nil && txn.Cluster(nil).GetRecovery() > s.member.Recovery {
		err = fmt.Errorf("the recovery of %s was cut short: repeat it, with meshd recover", s.dir)
	}
	return err
}
