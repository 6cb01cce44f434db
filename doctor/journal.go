package doctor

import (
	"time"

	"github.com/akidb/akigw/internal/vfs"
	"github.com/akidb/akigw/journal"
)

// secondJournal checks the two directories of a mirrored journal: that they are on two disks, and
// whether one of them had to be repaired from the other.
func (m *Machine) secondJournal(r *Report) {
	const check = "journal's copies"
	if m.SecondJournal == "" {
		return
	}
	if sameDisk(m.Journal, m.SecondJournal) {
		r.Add(Warning, check, "write_back.second_dir on another disk", "%s and %s are on the same disk: if it fails, both are lost", m.Journal, m.SecondJournal)
	}
	worn := false
	for _, dir := range []string{m.Journal, m.SecondJournal} {
		n, last, unfinished := journal.Repairs(vfs.Disk{}, dir)
		if unfinished {
			worn = true
			r.Add(Warning, check, "start the gateway: it completes the copy", "%s is an incomplete copy", dir)
		}
		if n > 0 {
			worn = true
			r.Add(Warning, check, "check that disk, with smartctl for example, and replace it if the number keeps growing", "%d records and bodies in %s were damaged or missing and were repaired from the other directory, the last at %s", n, dir, last.UTC().Format(time.RFC3339))
		}
	}
	if !worn {
		r.ok(check, "neither had to be repaired from the other")
	}
}
