package journal

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/akidb/akigw/internal/vfs"
)

// unfinishedFile marks a second directory while it is rebuilt from the first. A directory with this
// file is not a complete journal.
const unfinishedFile = "unfinished"

// mark marks a directory as being rebuilt.
func (m *mirror) mark(i int) error {
	return writeFile(m.FS, filepath.Join(m.dirs[i], unfinishedFile), nil)
}

// unmark removes the mark: the directory is complete again.
func (m *mirror) unmark(i int) error {
	if _, err := m.FS.Size(filepath.Join(m.dirs[i], unfinishedFile)); errors.Is(err, os.ErrNotExist) {
		return m.FS.SyncDir(m.dirs[i]) // an earlier start may have removed it
	}
	if err := m.FS.Remove(filepath.Join(m.dirs[i], unfinishedFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return m.FS.SyncDir(m.dirs[i])
}

// reconcileEnd makes the end files identical. The one that says more wins.
func (r *reconciler) reconcileEnd() error {
	m := r.mirror
	var raws [2][]byte
	var ends [2]hole
	best := m.lead
	for i := range raws {
		raws[i], _ = vfs.ReadFile(m.FS, filepath.Join(m.dirs[i], endFile)) // an unreadable one is replaced
		ends[i] = decodeEnd(raws[i])
	}
	if other := 1 - m.lead; m.current && (ends[other].segment > ends[best].segment || ends[other].segment == ends[best].segment && ends[other].to > ends[best].to) {
		best = other
	}
	if bytes.Equal(raws[0], raws[1]) || ends[best].segment == 0 {
		return nil
	}
	return writeFile(m.FS, filepath.Join(m.dirs[1-best], endFile), raws[best])
}

// reconcileQuarantine makes the quarantines identical. A file accepted in one directory is accepted
// in both.
func (r *reconciler) reconcileQuarantine() error {
	m := r.mirror
	dir := filepath.Join(m.dirs[0], quarantineDir)
	var names [2][]string
	for i := range names {
		var err error
		if names[i], err = m.FS.List(m.on(i, dir)); err != nil {
			return err
		}
	}
	from := []int{m.lead}
	if m.current {
		from = []int{0, 1}
	}
	want := map[string]int{} // where each file is
	for _, i := range from {
		for _, name := range names[i] {
			if !strings.HasSuffix(name, draftSuffix) {
				want[name] = i
			}
		}
	}
	for name := range want {
		if _, accepted := want[acceptedMark+name]; accepted {
			delete(want, name)
		}
	}
	for i := range names {
		if err := r.copyQuarantine(i, dir, names[i], want); err != nil {
			return err
		}
	}
	return m.SyncDir(dir)
}

func (r *reconciler) copyQuarantine(i int, dir string, have []string, want map[string]int) error {
	m := r.mirror
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if slices.Contains(have, name) {
			continue
		}
		raw, err := vfs.ReadFile(m.FS, m.on(want[name], filepath.Join(dir, name)))
		if err != nil {
			return err
		}
		if err := writeFile(m.FS, m.on(i, filepath.Join(dir, name)), raw); err != nil {
			return err
		}
	}
	for _, name := range have {
		if _, ok := want[name]; ok {
			continue
		}
		if err := m.FS.Remove(m.on(i, filepath.Join(dir, name))); err != nil && !errors.Is(err, os.ErrNotExist) { // a draft was renamed already
			return err
		}
	}
	return nil
}
