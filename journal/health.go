package journal

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"syscall"
	"time"
)

// health knows whether a journal takes records, and if not, why.
type health struct {
	dir         string
	log         *slog.Logger
	syncTimeout time.Duration

	mu      sync.Mutex
	failed  error     // guarded by mu
	damage  []string  // files that an operator has not accepted; guarded by mu
	full    error     // ErrFull and why, while there is no room; guarded by mu
	shut    bool      // there is no room for releasing anything either; guarded by mu
	closed  bool      // guarded by mu
	syncing time.Time // when the sync under way began, zero for none; guarded by mu
}

// accepting returns nil if all records are taken, else why not.
func (h *health) accepting() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.releasingLocked(); err != nil {
		return err
	}
	return h.full
}

// releasing returns nil if records that release something are taken, else why not.
func (h *health) releasing() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.releasingLocked()
}

func (h *health) releasingLocked() error {
	switch {
	case h.failed != nil:
		return h.failed
	case len(h.damage) > 0:
		return fmt.Errorf("%w: %s", ErrDamaged, h.damage[0])
	case h.closed:
		return errClosed
	case !h.syncing.IsZero() && time.Since(h.syncing) > h.syncTimeout:
		return fmt.Errorf("%w: a sync has been under way for %s", errStuck, time.Since(h.syncing).Round(time.Second))
	case h.shut:
		return h.full
	}
	return nil
}

// leasing reports whether entries are given out for uploads.
func (h *health) leasing() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.damage) == 0 && h.failed == nil && !h.shut
}

// compacting reports whether segments may be removed. While anything is damaged, all stay.
func (h *health) compacting() bool { return h.leasing() }

// undamaged reports whether there is no damage that has not been accepted.
func (h *health) undamaged() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.damage) == 0
}

// failure is why the journal has failed, nil if it has not.
func (h *health) failure() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.failed
}

// why is the reason for which the outcome of a write is unknown: the journal has failed, or is full.
func (h *health) why() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failed != nil {
		return h.failed
	}
	return h.full
}

// fail ends the journal's taking of records, for good. It returns ErrFailed with the cause.
func (h *health) fail(err error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failed == nil {
		h.failed = fmt.Errorf("%w: %w", ErrFailed, err)
		h.log.Error("the journal has failed: it acknowledges no write and flushes none any more; repair the disk and restart the gateway", "dir", h.dir, "error", err)
	}
	return h.failed
}

// spoolFailed makes the error of a body that could not be written. A disk that became read-only is
// a failure of the journal: how much of the last writes is on it is unknown.
func (h *health) spoolFailed(err error) error {
	if errors.Is(err, syscall.EROFS) {
		_ = h.fail(err)
	}
	return fmt.Errorf("%w: %w", errSpool, err)
}

// noRoom stops acknowledgements; shut says that nothing else can be written either. It returns
// ErrFull with the cause.
func (h *health) noRoom(cause error, shut bool) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.full == nil {
		h.full = fmt.Errorf("%w: %s: %w", ErrFull, h.dir, cause)
		h.log.Error("the journal's disk accepts no more data: no write is acknowledged; free some space, or remount the disk read-write, and the journal resumes by itself", "dir", h.dir, "error", cause)
	}
	if shut && !h.shut {
		h.shut = true
		h.log.Error("the journal has no reserve left: its entries can be read, but are not flushed until there is room", "dir", h.dir, "error", cause)
	}
	return h.full
}

// room returns ErrFull and why if there is no room for acknowledgements, and whether there is
// none for anything else either.
func (h *health) room() (full error, shut bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.full, h.shut
}

// reopen notes that records that release something can be written again.
func (h *health) reopen() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.shut = false
}

// regain notes that there is room again. It returns false if the journal has failed.
func (h *health) regain() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failed != nil {
		return false
	}
	h.full, h.shut = nil, false
	h.log.Info("the journal's disk has room again", "dir", h.dir)
	return true
}

// syncBegins notes when a sync began, so that one that takes too long is noticed.
func (h *health) syncBegins() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.syncing = time.Now()
}

func (h *health) syncEnds() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.syncing = time.Time{}
}

// setDamage sets which files hold damage that has not been accepted.
func (h *health) setDamage(files []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.damage = files
}

// damaged are the files that setDamage set.
func (h *health) damaged() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.damage)
}

func (h *health) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
}
