package gateway

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/placement"
	"github.com/akidb/akigw/tiers"
)

// refusals are what a move may be answered with.
var refusals = []error{placement.ErrMoving, placement.ErrPinned, placement.ErrNotPinned, tiers.ErrNoRoom, tiers.ErrUncacheable, akigw.ErrNoSuchKey}

// move has an operator move a key, or all of its bucket that is known.
func (m *machine) move(action placement.Action, key akigw.Key) {
	what := akigw.Pattern{Bucket: key.Bucket, Prefix: key.Name, Exactly: true}
	if m.random.IntN(4) == 0 {
		what = akigw.Pattern{Bucket: key.Bucket, Prefix: "a b/1"}
	}
	result, err := m.b.place.Move(m.t.Context(), action, what, m.random.IntN(2) == 0)
	if err == nil {
		m.moves += result.Moved
		return
	}
	for _, refusal := range refusals {
		if errors.Is(err, refusal) {
			return
		}
	}
	m.t.Errorf("%s of %s: %v", action, key, err)
}

func (m *machine) promote(key akigw.Key) {
	m.move([]placement.Action{placement.PromoteToHot, placement.PromoteToWarm}[m.random.IntN(2)], key)
}

func (m *machine) demote(key akigw.Key) {
	m.move([]placement.Action{placement.DemoteToWarm, placement.DemoteToCold}[m.random.IntN(2)], key)
}

func (m *machine) pin(key akigw.Key) { m.move(placement.PinObjects, key) }

func (m *machine) unpin(key akigw.Key) { m.move(placement.UnpinObjects, key) }

func (m *machine) purge(key akigw.Key) {
	if _, err := m.store.Purge(m.t.Context(), akigw.Pattern{Bucket: key.Bucket, Prefix: key.Name, Exactly: true}); err != nil {
		m.t.Errorf("purge of %s: %v", key, err)
	}
}

// stepClock sets the upstream's clock an hour forward, or half an hour back.
func (m *machine) stepClock(akigw.Key) {
	m.tick.Add([]int64{3600, -1800}[m.random.IntN(2)])
}

// crash ends the gateway as "kill -9" does, and starts one over what is on disk then.
func (m *machine) crash(akigw.Key) {
	crashed := m.dir + "-crashed"
	m.still.Lock()
	err := copyLive(crashed, m.dir)
	m.still.Unlock()
	m.stop()
	if err = errors.Join(err, os.RemoveAll(m.dir), os.Rename(crashed, m.dir)); err != nil {
		m.t.Error(err)
	}
	m.crashes++
	m.open()
}

// copyLive copies a directory whose warm tier is in use: files of that may vanish.
func copyLive(to, from string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		copied := filepath.Join(to, strings.TrimPrefix(path, from))
		if d.IsDir() {
			return os.MkdirAll(copied, 0o700)
		}
		if err = copySparse(copied, path); errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	})
}

// copySparse copies a file that is mostly holes.
func copySparse(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer out.Close()
	piece, zeros := make([]byte, 128<<10), make([]byte, 128<<10)
	for at := int64(0); ; {
		n, err := io.ReadFull(in, piece)
		if n > 0 && !bytes.Equal(piece[:n], zeros[:n]) {
			if _, err := out.WriteAt(piece[:n], at); err != nil {
				return err
			}
		}
		at += int64(n)
		if err != nil { // its end
			return out.Truncate(at)
		}
	}
}
