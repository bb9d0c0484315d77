package gossip

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/hashicorp/memberlist"
)

// A Key encrypts and authenticates messages, by AES-256.
type Key [32]byte

// NewKey makes a key.
func NewKey() (k Key) {
	rand.Read(k[:]) // never fails
	return k
}

// Fingerprint tells a key from others without giving it away: the beginning of
// its SHA-256, in hex.
func (k Key) Fingerprint() string {
	sum := sha256.Sum256(k[:])
	return hex.EncodeToString(sum[:6])
}

// A keyring is memberlist's, changed as a whole.
type keyring struct {
	mu   sync.Mutex
	ring *memberlist.Keyring
}

func newKeyring(keys []Key) (*keyring, error) {
	k := &keyring{ring: &memberlist.Keyring{}}
	return k, k.set(keys)
}

// set adds what is new before it uses or removes anything, so that no message
// meets a ring without its key.
func (k *keyring) set(keys []Key) error {
	if len(keys) == 0 {
		return errors.New("gossip needs a key")
	}
	keys = distinct(keys)
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, key := range keys {
		if err := k.ring.AddKey(key[:]); err != nil {
			return fmt.Errorf("adding gossip key %s: %w", key.Fingerprint(), err)
		}
	}
	if err := k.ring.UseKey(keys[0][:]); err != nil {
		return fmt.Errorf("using gossip key %s: %w", keys[0].Fingerprint(), err)
	}
	return k.remove(keys)
}

// remove takes out all keys but the given ones, always the last of the ring:
// memberlist shifts those behind a removed key while messages are being opened
// with them. A key that is to stay makes way by moving to the front.
func (k *keyring) remove(except []Key) error {
	for range 2 * len(k.ring.GetKeys()) {
		all := k.ring.GetKeys()
		if len(all) == len(except) {
			break
		}
		last := Key(all[len(all)-1])
		change := k.ring.RemoveKey
		if slices.Contains(except, last) {
			change = k.ring.UseKey
		}
		if err := change(last[:]); err != nil {
			return fmt.Errorf("removing gossip key %s: %w", last.Fingerprint(), err)
		}
	}
	return k.ring.UseKey(except[0][:])
}

func distinct(keys []Key) (list []Key) {
	for _, key := range keys {
		if !slices.Contains(list, key) {
			list = append(list, key)
		}
	}
	return list
}

func (k *keyring) fingerprints() (list []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, key := range k.ring.GetKeys() {
		list = append(list, Key(key).Fingerprint())
	}
	return list
}
