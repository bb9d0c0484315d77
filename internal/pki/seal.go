package pki

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
)

// SealingKeySize is the length of a SealingKey in bytes.
const SealingKeySize = 32

// A SealingKey encrypts what servers replicate and only servers may read. It
// does not show itself in messages and logs.
type SealingKey [SealingKeySize]byte

// NewSealingKey makes a random key.
func NewSealingKey() (key SealingKey) {
	rand.Read(key[:]) // never fails
	return key
}

// ParseSealingKey takes a key from the bytes of one.
func ParseSealingKey(b []byte) (key SealingKey, err error) {
	if copy(key[:], b) != len(key) || len(b) != len(key) {
		return SealingKey{}, fmt.Errorf("a sealing key has %d bytes, not %d", len(key), len(b))
	}
	return key, nil
}

// Format keeps the key out of everything that is printed, whatever the verb.
func (SealingKey) Format(f fmt.State, _ rune) { fmt.Fprint(f, "(sealing key)") }

// MarshalText refuses, so that no encoder writes the key.
func (SealingKey) MarshalText() ([]byte, error) {
	return nil, errors.New("a sealing key is not to be written")
}

const sealVersion = 1

// Seal encrypts and authenticates data (AES-256-GCM) so that it can be opened
// only with the same key and for the same purpose: what it is and whose.
func (key SealingKey) Seal(data []byte, purpose ...string) []byte {
	return key.gcm().Seal([]byte{sealVersion}, nil, data, additional(purpose))
}

// Open gives what was sealed. Anything that was changed is refused.
func (key SealingKey) Open(sealed []byte, purpose ...string) ([]byte, error) {
	if len(sealed) == 0 || sealed[0] != sealVersion {
		return nil, errors.New("opening sealed data: it is of no known form")
	}
	data, err := key.gcm().Open(nil, nil, sealed[1:], additional(purpose))
	if err != nil {
		return nil, errors.New("opening sealed data: it was sealed with another key or for another purpose, or it was damaged")
	}
	return data, nil
}

func (key SealingKey) gcm() cipher.AEAD {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic("a key of 32 bytes is good for AES: " + err.Error())
	}
	gcm, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic("AES has blocks of 16 bytes: " + err.Error())
	}
	return gcm
}

// additional joins strings so that no two lists give the same bytes.
func additional(parts []string) (joined []byte) {
	for _, p := range parts {
		joined = binary.AppendUvarint(joined, uint64(len(p)))
		joined = append(joined, p...)
	}
	return joined
}
