package warm

import (
	"encoding/binary"

	"github.com/akidb/akigw"
)

// The first byte of a key of the database says what is stored under it.
const (
	entryPrefix   = 'c'
	blockPrefix   = 'b'
	metaPrefix    = 'm'
	summaryPrefix = 's'
	accessPrefix  = 'a'
)

// Run names an extent: the blocks of one version of an object.
type Run struct {
	ID uint64
	// Object is a number of the object, the same for all its versions: its
	// popularity outlives an extent.
	Object uint64
	Handling
}

// Handling says how values of an object are stored.
type Handling struct {
	// Compress asks that they are compressed where it pays.
	Compress bool
	// Wanted admits them however seldom they were read.
	Wanted bool
}

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
