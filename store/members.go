package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// A Member is a server of the cluster.
type Member struct {
	ID      string
	Address string
	Voter   bool
}

// Bootstrap makes a cluster of this server alone. It works on an empty store
// only, and for the first server of a mesh only: the others are added by the
// leader. The error is ErrBootstrapped when the store is not empty.
func (s *Store) Bootstrap() error {
	self := raft.Server{ID: raft.ServerID(s.config.ID), Address: raft.ServerAddress(s.config.Address)}
	err := s.raft.BootstrapCluster(raft.Configuration{Servers: []raft.Server{self}}).Error()
	if errors.Is(err, raft.ErrCantBootstrap) {
		return ErrBootstrapped
	}
	if err != nil {
		return fmt.Errorf("making a new cluster: %w", err)
	}
	return nil
}

// AddVoter makes a server a member that counts for majorities, or changes a
// member's address. One that does not answer may cost the majority, for good:
// let it follow as a non-voter first. Its errors are those of Apply.
func (s *Store) AddVoter(ctx context.Context, id, address string) error {
	return s.add(ctx, id, address, s.raft.AddVoter)
}

// AddNonvoter makes a server a member that is sent everything and does not
// count for majorities, or changes the address of one. Its errors are those of
// Apply.
func (s *Store) AddNonvoter(ctx context.Context, id, address string) error {
	return s.add(ctx, id, address, s.raft.AddNonvoter)
}

type addition func(raft.ServerID, raft.ServerAddress, uint64, time.Duration) raft.IndexFuture

func (s *Store) add(ctx context.Context, id, address string, how addition) error {
	if id == "" || address == "" {
		return fmt.Errorf("adding server %q at %q to the cluster: it needs an id and an address", id, address)
	}
	if err := s.checkAddress(id, address); err != nil {
		return fmt.Errorf("adding server %s to the cluster: %w", id, err)
	}
	_, err := await(ctx, s, func() raft.IndexFuture {
		return how(raft.ServerID(id), raft.ServerAddress(address), 0, enqueueTimeout)
	})
	if err != nil {
		return fmt.Errorf("adding server %s to the cluster: %w", id, s.explainChange(err))
	}
	return nil
}

func (s *Store) checkAddress(id, address string) error {
	members, err := s.Servers()
	if err != nil {
		return err
	}
	for _, m := range members {
		if m.Address == address && m.ID != id {
			return fmt.Errorf("server %s has the address %s: remove that server if it is gone", m.ID, address)
		}
	}
	return nil
}

// RemoveServer ends the membership of a server; one that is no member is none
// afterwards either. A leader may remove itself, unless it is the last. Its
// errors are those of Apply.
func (s *Store) RemoveServer(ctx context.Context, id string) error {
	if err := s.checkNotLast(id); err != nil {
		return fmt.Errorf("removing server %s from the cluster: %w", id, err)
	}
	_, err := await(ctx, s, func() raft.IndexFuture {
		return s.raft.RemoveServer(raft.ServerID(id), 0, enqueueTimeout)
	})
	if err != nil {
		return fmt.Errorf("removing server %s from the cluster: %w", id, s.explainChange(err))
	}
	return nil
}

func (s *Store) checkNotLast(id string) error {
	members, err := s.Servers()
	if err != nil {
		return err
	}
	for _, m := range members {
		if m.ID != id && m.Voter {
			return nil
		}
	}
	return errors.New("it is the last one")
}

// Servers lists the members as this server knows them.
func (s *Store) Servers() ([]Member, error) {
	future := s.raft.GetConfiguration()
	if err := future.Error(); err != nil {
		return nil, fmt.Errorf("listing the members of the cluster: %w", err)
	}
	return membersOf(future.Configuration()), nil
}

// TransferLeadership hands over to the member with that id, or with "" to the
// one that is furthest. It is for the leader; an error means that it leads on.
func (s *Store) TransferLeadership(ctx context.Context, id string) error {
	transfer := s.raft.LeadershipTransfer
	if id != "" {
		address, err := s.addressOf(id)
		if err != nil {
			return err
		}
		transfer = func() raft.Future {
			return s.raft.LeadershipTransferToServer(raft.ServerID(id), raft.ServerAddress(address))
		}
	}
	if _, err := await(ctx, s, transfer); err != nil {
		return fmt.Errorf("handing over leadership: %w", s.explain(err))
	}
	return nil
}

func (s *Store) addressOf(id string) (string, error) {
	members, err := s.Servers()
	if err != nil {
		return "", err
	}
	for _, m := range members {
		if m.ID == id {
			return m.Address, nil
		}
	}
	return "", fmt.Errorf("handing over leadership: there is no member %q", id)
}

// Applied is the last Raft index that has been applied here. It counts what
// Raft writes for itself, such as changes of members.
func (s *Store) Applied() uint64 { return s.raft.AppliedIndex() }

// Committed is the last Raft index that this server knows to be on a majority of
// disks.
func (s *Store) Committed() uint64 { return s.raft.CommitIndex() }
