package journal

import (
	"errors"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/vfs"
	"github.com/akidb/akigw/journal/internal/spool"
)

// Errors that callers test for with errors.Is.
const (
	// ErrFailed: a write or a sync failed; nothing is acknowledged until the gateway is restarted.
	ErrFailed = akigw.Error("the journal has failed")
	// ErrDamaged: acknowledged records or bodies are damaged; nothing is acknowledged or flushed
	// until an operator accepts the damage.
	ErrDamaged = akigw.Error("the journal is damaged")
	// ErrFull: the journal's disk is full, or was read-only at startup. Nothing is acknowledged
	// until the disk accepts writes again; the journal then resumes by itself.
	ErrFull = akigw.Error("the journal's disk accepts no more data")
	// ErrMoved: the journal's directory was removed, unmounted or replaced. The next start would
	// not find what is written to the open files.
	ErrMoved = akigw.Error("the journal's directory is not the one that was opened")
	// ErrGone: the entry is no longer in the journal.
	ErrGone = akigw.Error("the entry is no longer in the journal")
	// ErrPacked: the body of an entry is in a pack.
	ErrPacked = akigw.Error("the body is in a pack at the upstream")
	// ErrNoUpload: there is no such upload; it may have ended.
	ErrNoUpload = akigw.Error("no such multipart upload in the journal")
	// ErrNoPart: a part to be completed does not exist, or has another ETag.
	ErrNoPart = akigw.Error("no such part of the multipart upload in the journal")
)

const (
	// errStuck: a sync has taken too long. A waiting write may or may not survive.
	errStuck = akigw.Error("the journal's disk does not answer")
	// errSpool: a body could not be written. The journal is unchanged.
	errSpool = akigw.Error("the body could not be written to the journal's disk")
	// errClosed: the journal was closed.
	errClosed = akigw.Error("the journal is closed")
	// errDeadLetter: the last change of a key is a dead letter.
	errDeadLetter = akigw.Error("a write of this key could not be flushed and is a dead letter")
)

// errNoReserve: there is no reserve, or it is used up.
const errNoReserve = akigw.Error("there is no reserve")

// unwritten reports whether an error means that data was certainly not written, because the disk
// accepts no data.
func unwritten(err error) bool { return vfs.Unwritable(err) && !errors.Is(err, spool.ErrUnsynced) }
