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

// health says whether a journal accepts records and, if not, why.
type health struct {
	dir         string
	log         *slog.Logger
	syncTimeout time.Duration

	mu      sync.Mutex
	failed  error     // guarded by mu
	damage  []string  // damaged files that an operator has not accepted; guarded by mu
	full    error     // ErrFull with its cause while the disk is full; guarded by mu
	shut    bool      // the reserve is used up as well; guarded by mu
	closed  bool      // guarded by mu
	syncing time.Time // start of the sync under way, zero for none; guarded by mu
}

// accepting returns nil if all records are accepted, otherwise the reason.
func (h *health) accepting() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.releasingLocked(); err != nil {
		return err
	}
	return h.full
}

// releasing returns nil if records that release something are accepted, otherwise the reason.
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

// leasing reports whether entries are leased for uploads.
func (h *health) leasing() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.damage) == 0 && h.failed == nil && !h.shut
}

// compacting reports whether segments may be removed. All are kept while there is unaccepted
// damage.
func (h *health) compacting() bool { return h.leasing() }

// undamaged reports whether there is no unaccepted damage.
func (h *health) undamaged() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.damage) == 0
}

// failure returns why the journal has failed, nil if it has not.
func (h *health) failure() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.failed
}

// why returns the reason for which the outcome of a write is unknown: the journal has failed or its
// disk is full.
func (h *health) why() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failed != nil {
		return h.failed
	}
	return h.full
}

// fail stops the journal for good. It returns ErrFailed with the cause.
func (h *health) fail(err error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failed == nil {
		h.failed = fmt.Errorf("%w: %w", ErrFailed, err)
		h.log.Error("the journal has failed: it no longer acknowledges or flushes writes; repair the disk and restart the gateway", "dir", h.dir, "error", err)
	}
	return h.failed
}

// spoolFailed returns the error for a body that could not be written. A disk that became read-only
// fails the journal, because it is unknown how much of the last writes reached it.
func (h *health) spoolFailed(err error) error {
	if errors.Is(err, syscall.EROFS) {
		_ = h.fail(err)
	}
	return fmt.Errorf("%w: %w", errSpool, err)
}

// noRoom stops acknowledgements; shut means that no other record can be written either. It returns
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
		h.log.Error("the journal has no reserve left: its entries can be read, but are not flushed until there is free space", "dir", h.dir, "error", cause)
	}
	return h.full
}

// room returns ErrFull with its cause if there is no space for acknowledgements, and whether no
// other record can be written either.
func (h *health) room() (full error, shut bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.full, h.shut
}

// reopen records that releasing records can be written again.
func (h *health) reopen() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.shut = false
}

// regain records that there is space again. It returns false if the journal has failed.
func (h *health) regain() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failed != nil {
		return false
	}
	h.full, h.shut = nil, false
	h.log.Info("the journal's disk has free space again", "dir", h.dir)
	return true
}

// syncBegins records the start of a sync, so that one that takes too long is noticed.
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

// setDamage sets the files with unaccepted damage.
func (h *health) setDamage(files []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.damage = files
}

// damaged returns the files that setDamage set.
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
