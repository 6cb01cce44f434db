package warm

import (
	"log/slog"
	"os"
	"sync/atomic"
)

// health says whether the tier can be used: its directory exists, its disk accepts writes, and the
// values it returns are intact. Once off, the tier stays off until the next start, which treats it
// as after a crash.
type health struct {
	dir     string
	opened  os.FileInfo // of the directory, when it was opened
	ballast *ballast
	log     *slog.Logger

	off       atomic.Bool
	why       atomic.Pointer[string] // why the tier is off
	missing   atomic.Bool            // the directory no longer exists
	corrupted atomic.Int64           // damaged values
}

// maxCorrupt is the number of damaged values after which the tier no longer trusts the disk and
// switches itself off.
const maxCorrupt = 64

// switchOff ends all use of the tier until the next start.
func (h *health) switchOff(why string, args ...any) {
	if h.off.Load() {
		return
	}
	h.why.CompareAndSwap(nil, &why)
	if !h.off.Swap(true) {
		h.log.Error("the warm tier is switched off until restart: "+why, append([]any{"dir", h.dir}, args...)...)
	}
}

// intact reports whether the directory is the one that was opened. If not, it switches the tier
// off, because Badger waits for ever for a file that it cannot create.
func (h *health) intact() bool {
	if h.missing.Load() {
		return false
	}
	info, err := os.Stat(h.dir)
	if err == nil && os.SameFile(info, h.opened) {
		return true
	}
	h.missing.Store(true)
	h.switchOff("its directory was removed, unmounted or replaced", "error", err)
	return false
}

// removable reports whether values can be removed. If not, it switches the whole tier off.
func (h *health) removable() bool {
	if h.off.Load() {
		return false
	}
	if !h.intact() {
		return false
	}
	if err := roomFor(h.dir, removeRoom); err != nil {
		h.ballast.release()
		if err = roomFor(h.dir, removeRoom); err != nil {
			h.switchOff("removing a value takes some disk space, and there is none", "error", err)
			return false
		}
	}
	return true
}

// closable returns errNoRoom if there is no space to close Badger.
func (h *health) closable() error {
	err := roomFor(h.dir, removeRoom)
	if err != nil {
		h.ballast.release()
		err = roomFor(h.dir, removeRoom)
	}
	return err
}

// damage counts a damaged value, and switches the tier off if there are too many of them or if one
// could not be removed, with err.
func (h *health) damage(n int64, err error) {
	if err != nil || n >= maxCorrupt {
		h.switchOff("its disk returns damaged data; check the disk", "damaged", n, "error", err)
	}
}

// problem says why the tier is off, "" if it is not.
func (h *health) problem() string {
	if why := h.why.Load(); why != nil {
		return "switched off until restart: " + *why
	}
	return ""
}
