package slice

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/atomicfile"
)

// A cached slice begins with a line that names the format, then comes the
// SHA-256 of the rest, then a SliceUpdate with all of it.
const (
	header = "meshd slice 1\n"
	offset = len(header) + sha256.Size
)

// Load reads a slice that a Cache wrote. It is nil when there is none. One that
// is damaged is refused as a whole: half a policy could allow what all of it
// forbids.
func Load(path string) (*Slice, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the cached slice: %w", err)
	}
	s, err := decode(b)
	if err != nil {
		return nil, fmt.Errorf("cached slice %s is damaged: %w", path, err)
	}
	return s, nil
}

func decode(b []byte) (*Slice, error) {
	if len(b) < offset || !bytes.HasPrefix(b, []byte(header)) {
		return nil, errors.New("it does not begin as a cached slice of this version does")
	}
	if sum := sha256.Sum256(b[offset:]); !bytes.Equal(sum[:], b[len(header):offset]) {
		return nil, errors.New("its checksum does not match")
	}
	var u apiv1.SliceUpdate
	if err := proto.Unmarshal(b[offset:], &u); err != nil {
		return nil, err
	}
	u.Snapshot = true
	return Empty().Merge(&u)
}

func encode(s *Slice) ([]byte, error) {
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(s.Snapshot())
	if err != nil {
		return nil, fmt.Errorf("encoding the slice: %w", err)
	}
	sum := sha256.Sum256(body)
	return bytes.Join([][]byte{[]byte(header), sum[:], body}, nil), nil
}

// saveDelay gathers the changes of a busy mesh into one write.
const saveDelay = time.Second

// A Cache keeps the newest slice on disk, so that its agent can start while no
// server answers.
type Cache struct {
	path string
	log  *slog.Logger

	writing sync.Mutex // held while a file is written

	mu     sync.Mutex
	latest *Slice // to be written, nil when nothing is
	wake   chan struct{}
	stop   chan struct{}
	done   chan struct{}
}

// NewCache starts keeping slices at path. Close stops it.
func NewCache(path string, log *slog.Logger) *Cache {
	c := &Cache{
		path: path, log: log,
		wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
	}
	go c.run()
	return c
}

// Save has s written soon, unless a newer one replaces it before.
func (c *Cache) Save(s *Slice) {
	c.mu.Lock()
	c.latest = s
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// SaveNow writes s before it returns, for what must not be forgotten once others
// rely on it.
func (c *Cache) SaveNow(s *Slice) {
	c.mu.Lock()
	c.latest = s
	c.mu.Unlock()
	c.write()
}

// Close writes what is still to be written.
func (c *Cache) Close() {
	close(c.stop)
	<-c.done
}

func (c *Cache) run() {
	defer close(c.done)
	defer c.write()
	for {
		select {
		case <-c.wake:
		case <-c.stop:
			return
		}
		select {
		case <-time.After(saveDelay):
			c.write()
		case <-c.stop:
			return
		}
	}
}

func (c *Cache) write() {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.mu.Lock()
	s := c.latest
	c.latest = nil
	c.mu.Unlock()
	if s == nil {
		return
	}
	b, err := encode(s)
	if err == nil {
		err = atomicfile.Write(c.path, b, 0o600)
	}
	if err != nil {
		c.log.Warn("the slice was not kept on disk; after a restart without servers an older one would be used", "version", s.Version, "error", err)
	}
}
