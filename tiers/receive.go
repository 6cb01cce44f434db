package tiers

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/akidb/akigw"
)

// reserve reserves memory for a fill of blocks first up to end of e, unless it has some already. It
// is for the fill's own goroutine.
func (ft *fetcher) reserve(ctx context.Context, f *fill, e *entry, first, end int64) error {
	f.mu.Lock()
	has := f.release != nil
	f.mu.Unlock()
	if has {
		return nil
	}
	release, err := ft.windows.take(ctx, f.key, windowBytes(e, first, end))
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.release = release
	return nil
}

// receive reads the blocks of f from body, passes them on and stores them. The last one is withheld
// until the body has been verified, if it is whole, and publish was called: a reader that has read
// everything finds the object cached.
func (ft *fetcher) receive(ctx context.Context, f *fill, body io.Reader, whole *verifier, publish func(*entry)) error {
	defer whole.stop()
	e, settings := f.entry, ft.settings(f.key)
	for n := f.next; n < f.end; n++ {
		b, err := ft.next(ctx, f, body, n)
		if err != nil {
			return err
		}
		if n == f.end-1 {
			return ft.finish(f, b, whole, publish)
		}
		f.arrived(n, b) // first, so that no reader waits for the hash or the disk
		whole.write(b, b.data)
		ft.putBlock(e.Key, settings, e.warmRun(), n, b, f.wantedLater)
		b.release()
	}
	return nil
}

// finish is receive for the last block. For a small object the published entry includes the bytes.
func (ft *fetcher) finish(f *fill, b *sharedBlock, whole *verifier, publish func(*entry)) error {
	e, n := f.entry, f.end-1
	whole.write(b, b.data)
	if err := ft.judge(e, whole, ft.fence.generation()); err != nil {
		b.release()
		return err
	}
	if ft.small(e) {
		small := *e
		small.body = b.data // for as long as the entry lives, so b is not released
		publish(&small)
		f.arrived(n, b)
		return nil
	}
	ft.putBlock(e.Key, ft.settings(f.key), e.warmRun(), n, b, f.wantedLater)
	publish(e)
	f.arrived(n, b)
	b.release()
	return nil
}

// next reads block n of f from body, when its readers are close enough. The caller is its only user.
func (ft *fetcher) next(ctx context.Context, f *fill, body io.Reader, n int64) (*sharedBlock, error) {
	if err := f.waitForReaders(ctx, n, ft.contended); err != nil {
		if errors.Is(err, errYielded) {
			ft.counters.yields.Inc()
		}
		return nil, err
	}
	b := ft.newBlock(f.entry, n)
	if _, err := io.ReadFull(body, b.data); err != nil {
		b.release()
		if ctx.Err() != nil {
			return nil, errAbandoned
		}
		return nil, fmt.Errorf("%w: %s at block %d: %w", akigw.ErrShortBody, f.key, n, err)
	}
	return b, nil
}
