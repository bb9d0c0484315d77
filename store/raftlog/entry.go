package raftlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/hashicorp/raft"
)

// An entry on disk, all numbers big-endian:
//
//	checksum   4  CRC-32C of all that follows
//	format     1
//	index      8
//	term       8
//	type       1
//	appended   8  nanoseconds since 1970, 0 for a time that was not set
//	extensions 4  their length, then they themselves
//	data          to the end
const (
	entryFormat = 1
	checksumLen = 4
	fixedLen    = checksumLen + 1 + 8 + 8 + 1 + 8 + 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func key(index uint64) []byte {
	return binary.BigEndian.AppendUint64(nil, index)
}

func encodeEntry(e *raft.Log) []byte {
	b := make([]byte, checksumLen, fixedLen+len(e.Extensions)+len(e.Data))
	b = append(b, entryFormat)
	b = binary.BigEndian.AppendUint64(b, e.Index)
	b = binary.BigEndian.AppendUint64(b, e.Term)
	b = append(b, byte(e.Type))
	b = binary.BigEndian.AppendUint64(b, uint64(nanos(e.AppendedAt)))
	b = binary.BigEndian.AppendUint32(b, uint32(len(e.Extensions)))
	b = append(b, e.Extensions...)
	b = append(b, e.Data...)
	binary.BigEndian.PutUint32(b, crc32.Checksum(b[checksumLen:], castagnoli))
	return b
}

// decodeEntry reads into e the entry that was stored under index. What it keeps
// of b is copied.
func decodeEntry(b []byte, index uint64, e *raft.Log) error {
	if len(b) < fixedLen {
		return fmt.Errorf("it has %d bytes, fewer than any entry", len(b))
	}
	if binary.BigEndian.Uint32(b) != crc32.Checksum(b[checksumLen:], castagnoli) {
		return errors.New("its checksum does not match")
	}
	if b[4] != entryFormat {
		return fmt.Errorf("it has format %d, which this version of meshd does not know", b[4])
	}
	if got := binary.BigEndian.Uint64(b[5:]); got != index {
		return fmt.Errorf("it says it is entry %d", got)
	}
	body := b[fixedLen:]
	n := uint64(binary.BigEndian.Uint32(b[fixedLen-4:]))
	if n > uint64(len(body)) {
		return fmt.Errorf("it says it has %d bytes of extensions and has %d bytes in all", n, len(body))
	}
	*e = raft.Log{
		Index:      index,
		Term:       binary.BigEndian.Uint64(b[13:]),
		Type:       raft.LogType(b[21]),
		AppendedAt: at(int64(binary.BigEndian.Uint64(b[22:]))),
		Extensions: clone(body[:n]),
		Data:       clone(body[n:]),
	}
	return nil
}

func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func at(nanos int64) time.Time {
	if nanos == 0 {
		return time.Time{}
	}
	return time.Unix(0, nanos)
}

func clone(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return append([]byte(nil), b...)
}

// seal puts a checksum before a value; it covers the key too, so that a value
// in the wrong place is found out.
func seal(key, value []byte) []byte {
	b := binary.BigEndian.AppendUint32(make([]byte, 0, checksumLen+len(value)), checksum(key, value))
	return append(b, value...)
}

func unseal(key, b []byte) ([]byte, error) {
	if len(b) < checksumLen || binary.BigEndian.Uint32(b) != checksum(key, b[checksumLen:]) {
		return nil, errors.New("its checksum does not match")
	}
	return append([]byte{}, b[checksumLen:]...), nil
}

func checksum(key, value []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value)
}
