package warm

import (
	"encoding/binary"

	"github.com/akidb/akigw"
)

// entryKey is the key of the database for the record of an object. Names are hidden if values are.
func (c *codec) entryKey(key akigw.Key) []byte {
	b := make([]byte, 0, 3+len(key.Bucket)+len(key.Name)+len(key.Version))
	b = append(b, entryPrefix)
	b = append(b, key.Bucket...)
	b = append(b, 0) // no part contains it
	b = append(b, key.Name...)
	if key.Version != "" {
		b = append(b, 0)
		b = append(b, key.Version...)
	}
	return c.name(b)
}

// blockKey is the key of the database for a block.
func blockKey(run Run, n int64) []byte {
	b := make([]byte, 0, 25)
	b = append(b, blockPrefix)
	b = binary.BigEndian.AppendUint64(b, run.ID)
	b = binary.BigEndian.AppendUint64(b, uint64(n))
	return binary.BigEndian.AppendUint64(b, run.Object)
}

// runPrefix is what the keys of all blocks of a run begin with.
func runPrefix(id uint64) []byte { return blockKey(Run{ID: id}, 0)[:9] }

// companion is the key of the database that a summary, or accesses, have beside a record.
func companion(prefix byte, record []byte) []byte {
	return append([]byte{prefix}, record[1:]...)
}

// popularityKey is what the popularity of a key of the database is counted under:
// for a block, its number and its object, whatever run it belongs to.
func popularityKey(key []byte) []byte {
	if key[0] == blockPrefix {
		return key[9:]
	}
	return key
}
