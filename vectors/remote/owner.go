package remote

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/vectors/segment"
)

// The errors about who may write.
const (
	// ErrOwned means that another gateway has the prefix. The error is an *OwnedError.
	ErrOwned = akigw.Error("another gateway has the prefix")
	// ErrFenced means that another gateway has taken the prefix over. This one must acknowledge no more
	// writes; what it has acknowledged and not flushed is still in its journal.
	ErrFenced = akigw.Error("another gateway has taken over the prefix of the vector collections, and this one may no longer write: stop it, or take the prefix back")
	// ErrNotOwner means that a commit was tried before Acquire or Takeover succeeded.
	ErrNotOwner = akigw.Error("the gateway does not have the prefix of the vector collections yet")
)

// OwnedError says which gateway has the prefix.
type OwnedError struct{ Owner segment.Owner }

// Error implements error.
func (e *OwnedError) Error() string {
	return fmt.Sprintf("%s: %s has it since %s (epoch %d). One gateway at a time may use a prefix: choose another one, or, if that gateway is stopped for good, take the prefix over", string(ErrOwned), e.Owner.Writer, e.Owner.Since.Format(time.RFC3339), e.Owner.Epoch)
}

// Is implements errors.Is for ErrOwned.
func (e *OwnedError) Is(target error) bool { return target == ErrOwned }

const (
	ownerName = "owner.json"
	// jump is added to the last epoch that is known if the document that had the last one is gone or
	// damaged: more than a gateway is started between two commits of the catalog.
	jump = 1 << 20
)

// Acquire takes the prefix for this gateway if no other one has it, in a new epoch. The error is an
// *OwnedError if another one has it, and segment.ErrCorrupt if the owner document is damaged: then only
// Takeover helps.
func (r *Remote) Acquire(ctx context.Context) (segment.Owner, error) { return r.acquire(ctx, false) }

// Takeover takes the prefix, whoever has it. Another gateway that had it is fenced: none of its commits
// succeeds any more once this one has committed the same document. Its acknowledged writes that it had not
// flushed stay in its journal.
func (r *Remote) Takeover(ctx context.Context) (segment.Owner, error) { return r.acquire(ctx, true) }

func (r *Remote) acquire(ctx context.Context, force bool) (segment.Owner, error) {
	for n := 0; ; n++ {
		owner, err := r.tryAcquire(ctx, force)
		if err == nil {
			r.mu.Lock()
			r.owner, r.fenced = owner, false
			r.mu.Unlock()
			return owner, nil
		}
		again := errors.Is(err, akigw.ErrUpstreamUnavailable) || errors.Is(err, errCondition)
		if !again || n == attempts-1 {
			return segment.Owner{}, fmt.Errorf("ownership of the prefix of the vector collections: %w", err)
		}
		if ended := wait(ctx, n); ended != nil {
			return segment.Owner{}, errors.Join(ended, err)
		}
	}
}

// tryAcquire reads the owner document and replaces it, if nobody else does so meanwhile.
func (r *Remote) tryAcquire(ctx context.Context, force bool) (segment.Owner, error) {
	old, etag, err := r.readOwner(ctx)
	switch {
	case errors.Is(err, ErrAbsent), errors.Is(err, segment.ErrCorrupt) && force:
		var last segment.Owner
		if last, err = r.ownerOfCatalog(ctx, force); err != nil {
			return segment.Owner{}, err
		}
		if etag != "" { // there was an owner, whatever the catalog says
			last.Epoch = max(last.Epoch, jump)
		}
		old = last
	case err != nil:
		return segment.Owner{}, err
	}
	if old.Epoch > 0 && old.Writer != r.Writer && !force {
		return segment.Owner{}, &OwnedError{old}
	}
	next := segment.Owner{Commit: segment.Commit{Writer: r.Writer, Epoch: old.Epoch + 1, Nonce: rand.Text()}, Tenure: old.Tenure, Since: now()}
	if old.Writer != r.Writer || old.Tenure == 0 {
		next.Tenure = next.Epoch
	}
	document, err := next.Encode()
	if err != nil {
		return segment.Owner{}, err
	}
	if _, err = r.objects.put(ctx, ownerName, document, replacing(etag)); err != nil { // if only the response was lost, the next try finds itself
		return segment.Owner{}, err
	}
	return next, nil
}

// Owner returns the owner document, and takes nothing. The error is ErrAbsent if there is none, and
// segment.ErrCorrupt if it is damaged.
func (r *Remote) Owner(ctx context.Context) (owner segment.Owner, err error) {
	err = repeat(ctx, func() error {
		owner, _, err = r.readOwner(ctx)
		return err
	})
	return owner, err
}

// readOwner reads the owner document, again if it is damaged.
func (r *Remote) readOwner(ctx context.Context) (owner segment.Owner, etag string, err error) {
	for range 2 {
		var got object
		if got, err = r.objects.get(ctx, ownerName); err != nil {
			return segment.Owner{}, "", err
		}
		etag = got.etag
		if owner, err = segment.ParseOwner(got.body); !errors.Is(err, segment.ErrCorrupt) {
			break
		}
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", r.objects.key(ownerName), err)
	}
	return owner, etag, err
}

// ownerOfCatalog returns a stand-in for an owner document that is gone or damaged: the last writer of the
// catalog, in a later epoch than any that it can have had. The zero value means that there is no catalog
// either. With force, a catalog that is damaged is no obstacle.
func (r *Remote) ownerOfCatalog(ctx context.Context, force bool) (segment.Owner, error) {
	got, err := r.loadCatalog(ctx, nil)
	switch {
	case errors.Is(err, ErrAbsent):
		return segment.Owner{}, nil
	case err != nil && force && !errors.Is(err, akigw.ErrUpstreamUnavailable) && ctx.Err() == nil:
		return segment.Owner{Commit: segment.Commit{Epoch: jump * jump}}, nil
	case err != nil:
		return segment.Owner{}, err
	}
	return segment.Owner{Commit: segment.Commit{Writer: got.Catalog.Writer, Epoch: got.Catalog.Epoch + jump}, Since: got.Catalog.Created}, nil
}

// CheckOwner reads the owner document. The error is ErrFenced if another gateway, or another process
// with a copy of this data directory, has taken the prefix. A document that is gone is written again.
func (r *Remote) CheckOwner(ctx context.Context) error {
	mine, err := r.mine()
	if err != nil {
		return err
	}
	return repeat(ctx, func() error {
		got, _, err := r.readOwner(ctx)
		switch {
		case errors.Is(err, ErrAbsent):
			return r.restoreOwner(ctx, mine)
		case err != nil:
			return err
		case got.Writer != mine.Writer || got.Epoch != mine.Epoch:
			return r.fence(got)
		}
		return nil
	})
}

// restoreOwner writes the owner document that somebody removed.
func (r *Remote) restoreOwner(ctx context.Context, mine segment.Owner) error {
	document, err := mine.Encode()
	if err != nil {
		return err
	}
	r.Log.Warn("the owner document of the vector collections is gone; it is written again", "key", r.objects.key(ownerName).String())
	_, err = r.objects.put(ctx, ownerName, document, create)
	if errors.Is(err, errCondition) { // another gateway was faster, or the response was lost: read it
		return fmt.Errorf("%w: %w", akigw.ErrUpstreamUnavailable, err)
	}
	return err
}

// fence remembers that another gateway has the prefix, and returns ErrFenced.
func (r *Remote) fence(by segment.Owner) error {
	r.mu.Lock()
	r.fenced = true
	r.mu.Unlock()
	return fmt.Errorf("%w: %s has it since %s (epoch %d)", ErrFenced, by.Writer, by.Since.Format(time.RFC3339), by.Epoch)
}

// mine returns the owner document of this gateway. The error is ErrNotOwner or ErrFenced.
func (r *Remote) mine() (segment.Owner, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.fenced:
		return segment.Owner{}, ErrFenced
	case r.owner.Epoch == 0:
		return segment.Owner{}, ErrNotOwner
	}
	return r.owner, nil
}
