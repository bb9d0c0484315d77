package interest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/meshd/meshd/internal/atomicfile"
	"github.com/meshd/meshd/internal/mesh"
)

// Load reads what Save wrote; without a file there is nothing.
func Load(path string) (map[string]*record, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading which services this host uses: %w", err)
	}
	records, err := decode(b)
	if err != nil {
		return nil, fmt.Errorf("which services this host uses cannot be read from %s: %w", path, err)
	}
	return records, nil
}

// decode leaves out what is no service or was never used.
func decode(b []byte) (map[string]*record, error) {
	var records map[string]*record
	if err := json.Unmarshal(b, &records); err != nil {
		return nil, err
	}
	for name, r := range records {
		if r == nil || mesh.CheckName(name) != nil {
			delete(records, name)
		}
	}
	return records, nil
}

// Save writes the set to a file if it changed since it was written last.
func (s *Set) Save(path string) error {
	s.mu.Lock()
	dirty := s.dirty
	b, err := json.Marshal(s.records)
	s.dirty = false
	s.mu.Unlock()
	if err == nil && dirty {
		err = atomicfile.Write(path, b, 0o600)
	}
	if err != nil {
		s.mu.Lock()
		s.dirty = true
		s.mu.Unlock()
		return fmt.Errorf("keeping which services this host uses: %w", err)
	}
	return nil
}
