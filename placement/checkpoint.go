package placement

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/codec"
	"github.com/akidb/akigw/internal/vfs"
)

// decision is one move that was decided.
type decision struct {
	Key    akigw.Key `json:"key"`
	Action Action    `json:"action"`
}

// checkpoint is where a cycle of the worker is. Moves have been decided and perhaps done; what
// lies before Place has been seen.
type checkpoint struct {
	Version int          `json:"version"`
	Sum     uint32       `json:"crc32c,omitempty"` // of the rest, with 0 here
	Cycle   uint64       `json:"cycle"`
	Running bool         `json:"running"`
	Begun   time.Time    `json:"begun"`
	Place   string       `json:"place,omitempty"` // base64
	Moves   []decision   `json:"moves,omitempty"`
	Report  WorkerReport `json:"report"`          // of the last whole cycle
	SoFar   WorkerReport `json:"so_far,omitzero"` // of this one
}

// checkpointVersion is the version of the file; docs/architecture.md describes it.
const checkpointVersion = 1

// next is the beginning of the next cycle.
func (c checkpoint) next() checkpoint {
	return checkpoint{Cycle: c.Cycle + 1, Running: true, Begun: time.Now(), Report: c.Report}
}

// at is the place in the catalog behind which the cycle goes on.
func (c *checkpoint) at() (place string, err error) {
	raw, err := base64.StdEncoding.DecodeString(c.Place)
	return string(raw), err
}

// decided takes a slice of the catalog that has been seen up to a place.
func (c *checkpoint) decided(soFar WorkerReport, place string, moves []decision) {
	c.SoFar, c.Place, c.Moves = soFar, base64.StdEncoding.EncodeToString([]byte(place)), moves
}

// end makes the cycle the last whole one.
func (c *checkpoint) end() {
	c.Report, c.Report.Ended, c.Report.Seconds = c.SoFar, time.Now(), time.Since(c.Begun).Seconds()
	c.Running, c.Place, c.Moves, c.SoFar = false, "", nil, WorkerReport{}
}

func (c checkpoint) encode() ([]byte, error) {
	c.Version, c.Sum = checkpointVersion, 0
	raw, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	c.Sum = codec.Checksum(raw)
	return json.Marshal(c)
}

func decodeCheckpoint(raw []byte) (c checkpoint, err error) {
	if err := json.Unmarshal(raw, &c); err != nil {
		return checkpoint{}, err
	}
	sum := c.Sum
	c.Sum = 0
	if again, err := json.Marshal(c); err != nil || codec.Checksum(again) != sum || c.Version != checkpointVersion {
		return checkpoint{}, akigw.ErrChecksum
	}
	return c, nil
}

// loadCheckpoint reads a checkpoint; the zero value if there is none.
func loadCheckpoint(path string) (c checkpoint, err error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return c, nil
	}
	if err == nil {
		c, err = decodeCheckpoint(raw)
	}
	return c, err
}

// save writes the checkpoint, durably.
func (c *checkpoint) save(path string) error {
	raw, err := c.encode()
	if err == nil {
		err = vfs.Replace(vfs.Disk{}, path, raw)
	}
	if err != nil {
		return fmt.Errorf("checkpoint of the tier worker: %w", err)
	}
	return nil
}
