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

// decision is one decided move.
type decision struct {
	Key    akigw.Key `json:"key"`
	Action Action    `json:"action"`
}

// checkpoint is the progress of a cycle of the worker. Its moves have been decided and perhaps
// made; everything before Place has been looked at.
type checkpoint struct {
	Version int          `json:"version"`
	Sum     uint32       `json:"crc32c,omitempty"` // of the file with 0 in this field
	Cycle   uint64       `json:"cycle"`
	Running bool         `json:"running"`
	Begun   time.Time    `json:"begun"`
	Place   string       `json:"place,omitempty"` // base64
	Moves   []decision   `json:"moves,omitempty"`
	Report  WorkerReport `json:"report"`          // report of the last complete cycle
	SoFar   WorkerReport `json:"so_far,omitzero"` // report of the current cycle
}

// checkpointVersion is the version of the file; docs/architecture.md describes it.
const checkpointVersion = 1

// next returns the beginning of the next cycle.
func (c checkpoint) next() checkpoint {
	return checkpoint{Cycle: c.Cycle + 1, Running: true, Begun: time.Now(), Report: c.Report}
}

// at returns the place in the catalog after which the cycle continues.
func (c *checkpoint) at() (place string, err error) {
	raw, err := base64.StdEncoding.DecodeString(c.Place)
	return string(raw), err
}

// decided records that the catalog has been looked at up to a place, and which moves were decided.
func (c *checkpoint) decided(soFar WorkerReport, place string, moves []decision) {
	c.SoFar, c.Place, c.Moves = soFar, base64.StdEncoding.EncodeToString([]byte(place)), moves
}

// end makes the current cycle the last complete one.
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

// save writes the checkpoint durably.
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
