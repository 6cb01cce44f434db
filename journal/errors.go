package journal

import (
	"errors"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/vfs"
	"github.com/akidb/akigw/journal/internal/spool"
)

// Errors that callers decide on.
const (
	// ErrFailed: a write or a sync failed; nothing is acknowledged until the
	// gateway is restarted.
	ErrFailed = akigw.Error("the journal has failed")
	// ErrDamaged: records or bodies that were acknowledged are damaged; nothing is
	// acknowledged or flushed until an operator accepts it.
	ErrDamaged = akigw.Error("the journal is damaged")
	// ErrFull: the disk of the journal is full, or it was read-only at the start. Nothing is
	// acknowledged until it takes writes again; then the journal goes on by itself.
	ErrFull = akigw.Error("the journal's disk accepts no more data")
	// ErrMoved: the directory of the journal was removed, unmounted, or replaced by another one.
	// What is written to files that are open is not found by the next start.
	ErrMoved = akigw.Error("the journal's directory is not the one that was opened")
	// ErrGone: the entry is not in the journal any more.
	ErrGone = akigw.Error("not in the journal any more")
	// ErrPacked: the body of an entry is in a pack.
	ErrPacked = akigw.Error("the body is in a pack at the upstream")
	// ErrNoUpload: there is no such upload; it may be over.
	ErrNoUpload = akigw.Error("no such multipart upload in the journal")
	// ErrNoPart: a part that is to be completed is not there, or another one is.
	ErrNoPart = akigw.Error("no such part of the multipart upload in the journal")
)

const (
	// errStuck: the disk has not finished a sync for too long. A write that was
	// waiting may or may not be kept.
	errStuck = akigw.Error("the journal's disk does not answer")
	// errSpool: a body could not be written. The journal is as it was.
	errSpool = akigw.Error("the body could not be written to the journal's disk")
	// errClosed: the journal was closed.
	errClosed = akigw.Error("the journal is closed")
	// errDeadLetter: a key's last change is a dead letter.
	errDeadLetter = akigw.Error("a write of this key could not be flushed and is a dead letter")
)

// errNoReserve: there is no reserve, or it was used.
const errNoReserve = akigw.Error("there is no reserve")

// unwritten reports whether an error says that something could not be written, because the
// disk accepts no data, and that this leaves no outcome unknown.
func unwritten(err error) bool { return vfs.Unwritable(err) && !errors.Is(err, spool.ErrUnsynced) }
