package journal

import (
	"errors"

	"github.com/akidb/akigw/internal/vfs"
	"github.com/akidb/akigw/journal/internal/spool"
)

// Errors that callers decide on.
var (
	// ErrFailed: a write or a sync failed; nothing is acknowledged until the
	// gateway is restarted.
	ErrFailed = errors.New("the journal has failed")
	// ErrDamaged: records or bodies that were acknowledged are damaged; nothing is
	// acknowledged or flushed until an operator accepts it.
	ErrDamaged = errors.New("the journal is damaged")
	// ErrFull: the disk of the journal is full, or it was read-only at the start. Nothing is
	// acknowledged until it takes writes again; then the journal goes on by itself.
	ErrFull = errors.New("the journal's disk accepts no more data")
	// ErrMoved: the directory of the journal was removed, unmounted, or replaced by another one.
	// What is written to files that are open is not found by the next start.
	ErrMoved = errors.New("the journal's directory is not the one that was opened")
	// ErrGone: the entry is not in the journal any more.
	ErrGone = errors.New("not in the journal any more")
	// ErrPacked: the body of an entry is in a pack.
	ErrPacked = errors.New("the body is in a pack at the upstream")
	// ErrNoUpload: there is no such upload; it may be over.
	ErrNoUpload = errors.New("no such multipart upload in the journal")
	// ErrNoPart: a part that is to be completed is not there, or another one is.
	ErrNoPart = errors.New("no such part of the multipart upload in the journal")
)

var (
	// errStuck: the disk has not finished a sync for too long. A write that was
	// waiting may or may not be kept.
	errStuck = errors.New("the journal's disk does not answer")
	// errSpool: a body could not be written. The journal is as it was.
	errSpool = errors.New("the body could not be written to the journal's disk")
	// errClosed: the journal was closed.
	errClosed = errors.New("the journal is closed")
	// errDeadLetter: a key's last change is a dead letter.
	errDeadLetter = errors.New("a write of this key could not be flushed and is a dead letter")
)

// errNoReserve: there is no reserve, or it was used.
var errNoReserve = errors.New("there is no reserve")

// unwritten reports whether an error says that something could not be written, because the
// disk accepts no data, and that this leaves no outcome unknown.
func unwritten(err error) bool { return vfs.Unwritable(err) && !errors.Is(err, spool.ErrUnsynced) }
