package tiers

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/checksum"
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

// receive reads the blocks of f from body and passes them on. The last one is withheld until the
// digest, if there is one, has been verified and publish was called: a reader that has read
// everything finds the object cached. For a small object the published entry includes the bytes.
func (ft *fetcher) receive(ctx context.Context, f *fill, body io.Reader, digest *checksum.Digest, publish func(*entry)) error {
	e, settings := f.entry, ft.settings(f.key)
	for n := f.next; n < f.end; n++ {
		if err := f.waitForReaders(ctx, n, ft.contended); err != nil {
			if errors.Is(err, errYielded) {
				ft.counters.yields.Inc()
			}
			return err
		}
		data := make([]byte, e.blockLen(n))
		if _, err := io.ReadFull(body, data); err != nil {
			if ctx.Err() != nil {
				return errAbandoned
			}
			return fmt.Errorf("%w: %s at block %d: %w", akigw.ErrShortBody, f.key, n, err)
		}
		if digest != nil {
			digest.Write(data)
			if n == f.end-1 {
				if err := ft.judge(e, digest, ft.fence.generation()); err != nil {
					return err
				}
			}
		}
		if e.inline(int64(ft.config.SmallBytes)) {
			small := *e
			small.body = data
			e = &small
		} else {
			ft.putBlock(e.Key, settings, e.warmRun(), n, data, f.wantedLater)
		}
		if n == f.end-1 {
			publish(e)
		}
		f.arrived(n, data)
	}
	return nil
}
