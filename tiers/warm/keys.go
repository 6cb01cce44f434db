package warm

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/tiers/warm/internal/blockfile"
)

// The first byte of a database key says what is stored under it.
const (
	entryPrefix   = 'c'
	blockPrefix   = 'b'
	metaPrefix    = 'm'
	summaryPrefix = 's'
	accessPrefix  = 'a'
)

// Run identifies an extent: the blocks of one version of an object.
type Run struct {
	ID uint64
	// Object is a number for the object, the same for all its versions: its popularity outlives an
	// extent.
	Object uint64
	Handling
}

// Handling says how values of an object are stored.
type Handling struct {
	// Compress asks for compression where it pays.
	Compress bool
	// Wanted admits the values however rarely they were read.
	Wanted bool
}

// entryKey returns the database key of the record of an object. Names are hidden if values are
// encrypted.
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

// blockKey returns the key of a block: what its encryption is bound to, what disk faults name it by, and
// where earlier releases have it in the database.
func blockKey(run Run, n int64) []byte {
	b := make([]byte, 0, 25)
	b = append(b, blockPrefix)
	b = binary.BigEndian.AppendUint64(b, run.ID)
	b = binary.BigEndian.AppendUint64(b, uint64(n))
	return binary.BigEndian.AppendUint64(b, run.Object)
}

// heatKey returns the key under which uses of a block are counted.
func heatKey(id blockfile.ID) []byte { return blockKey(Run{ID: id.Extent, Object: id.Object}, id.N) }

// runPrefix is the common prefix of the keys of all blocks of a run.
func runPrefix(id uint64) []byte { return blockKey(Run{ID: id}, 0)[:9] }

// companion returns the database key of the summary or accesses that belong to a record.
func companion(prefix byte, record []byte) []byte {
	return append([]byte{prefix}, record[1:]...)
}

// popularityHash returns the hash under which the popularity of a database key is counted: for a
// block, of its number and its object, whatever run it belongs to.
func popularityHash(key []byte) uint64 {
	if key[0] == blockPrefix {
		key = key[9:]
	}
	return xxhash.Sum64(key)
}
