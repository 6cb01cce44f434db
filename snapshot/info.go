package snapshot

import (
	"encoding/hex"
	"regexp"
	"time"

	"github.com/akidb/akigw"
)

// Info describes a snapshot by the name and size of its file.
type Info struct {
	ID      string    `json:"id"`
	Created time.Time `json:"created"`
	Bytes   int64     `json:"bytes"`
	// Digest is the SHA-256 of the file, its first 16 bytes.
	Digest string `json:"digest"`
	File   string `json:"file"`
}

const (
	// ErrNone means that there is no such snapshot.
	ErrNone = akigw.Error("no such snapshot: see akigw snapshot list")
	// ErrDamaged means that the content of the file is not what was written.
	ErrDamaged = akigw.Error("the snapshot is damaged")
	// ErrLast means that the snapshot is the last valid one and is not deleted.
	ErrLast = akigw.Error("it is the last valid snapshot")
	// ErrUnordered means that no snapshot can be created because the catalog hides the names of objects.
	ErrUnordered = akigw.Error("no snapshots are created: a snapshot would contain the names of objects in the clear, which cache.encryption_key_file hides")
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

// digestBytes is the number of bytes of a file's SHA-256 in its name.
const digestBytes = 16

func shortDigest(sum []byte) string { return hex.EncodeToString(sum[:digestBytes]) }
