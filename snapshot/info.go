package snapshot

import (
	"encoding/hex"
	"regexp"
	"time"

	"github.com/akidb/akigw"
)

// Info is what the name and size of a snapshot's file say.
type Info struct {
	ID      string    `json:"id"`
	Created time.Time `json:"created"`
	Bytes   int64     `json:"bytes"`
	// Digest is the SHA-256 of the file, its first 16 bytes.
	Digest string `json:"digest"`
	File   string `json:"file"`
}

const (
	// ErrNone: there is no such snapshot.
	ErrNone = akigw.Error("no such snapshot: see akigw snapshot list")
	// ErrDamaged: the file is not what was written.
	ErrDamaged = akigw.Error("the snapshot is damaged")
	// ErrLast: the snapshot is the last good one, and stays.
	ErrLast = akigw.Error("it is the last good snapshot")
	// ErrUnordered: no snapshot can be made, because the catalog hides the names of objects.
	ErrUnordered = akigw.Error("a snapshot would hold the names of objects in the clear, and cache.encryption_key_file hides them: no snapshots are made")
)

// idLayout is the format of an id: the time of the snapshot.
const idLayout = "20060102T150405.000Z"

var namePattern = regexp.MustCompile(`^(\d{8}T\d{6}\.\d{3}Z)-([0-9a-f]{32})\.parquet$`)

// parseName parses the name of a file. It returns false if the file is not a snapshot.
func parseName(name string) (i Info, ok bool) {
	m := namePattern.FindStringSubmatch(name)
	if m == nil {
		return i, false
	}
	at, err := time.Parse(idLayout, m[1])
	return Info{ID: m[1], Created: at, Digest: m[2], File: name}, err == nil
}

// digestBytes is how much of the SHA-256 of a file is in its name.
const digestBytes = 16

func shortDigest(sum []byte) string { return hex.EncodeToString(sum[:digestBytes]) }
