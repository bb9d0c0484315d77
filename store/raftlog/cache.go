package raftlog

import (
	"sync"

	"github.com/hashicorp/raft"
)

const (
	cacheSize = 1024
	// Larger entries are rare, and read from the file, which the kernel caches.
	cacheMaxData = 16 << 10
)

// A cache has the newest entries, which followers and the state machine are
// about to ask for.
type cache struct {
	mu      sync.RWMutex
	entries [cacheSize]*raft.Log
}

func (c *cache) get(index uint64, e *raft.Log) bool {
	c.mu.RLock()
	cached := c.entries[index%cacheSize]
	c.mu.RUnlock()
	if cached == nil || cached.Index != index {
		return false
	}
	*e = *cached
	return true
}

// put remembers entries that are on disk.
func (c *cache) put(entries []*raft.Log) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range entries {
		if len(e.Data)+len(e.Extensions) > cacheMaxData {
			c.entries[e.Index%cacheSize] = nil
			continue
		}
		kept := *e
		if len(e.Data) == 0 {
			kept.Data = nil // as it is read from the file
		}
		if len(e.Extensions) == 0 {
			kept.Extensions = nil
		}
		c.entries[e.Index%cacheSize] = &kept
	}
}

func (c *cache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entries = [cacheSize]*raft.Log{}
}
