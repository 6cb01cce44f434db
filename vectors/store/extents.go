package store

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/tiers/warm"
	"github.com/akidb/akigw/vectors"
	"github.com/akidb/akigw/vectors/part"
	"github.com/akidb/akigw/vectors/segment"
)

// extents are the parts in the warm tier: each is an extent there, and a record of the tier's catalog
// says which. What the tier loses is written again from the upstream.
type extents struct {
	tier *warm.Tier

	mu   sync.Mutex
	last uint64 // the highest number of an extent that was used, 0: not known yet
}

// keyOf is the key of the record of a part.
func keyOf(name string) akigw.Key { return akigw.Key{Bucket: "vectors", Name: name} }

// open returns a part that the tier has.
func (x *extents) open(ctx context.Context, ref segment.Part) (part.Part, error) {
	record, ok := x.tier.Entry(keyOf(ref.Name))
	if !ok {
		return nil, part.ErrMissing
	}
	return part.Open(ctx, part.On(x.tier), numberOf(record), identityOf(ref))
}

// identityOf is the beginning of the SHA-256 of a part's file.
func identityOf(ref segment.Part) (id part.Identity) {
	sum, _ := hex.DecodeString(ref.SHA256) // a manifest with another text is not valid
	copy(id[:], sum)
	return id
}

// write stores a part in the tier.
func (x *extents) write(ctx context.Context, i vectors.Index, ref segment.Part, from ascend) (part.Part, error) {
	number := x.next()
	p, err := part.Write(ctx, part.On(x.tier), number, identityOf(ref), optionsOf(i, ref), from)
	if err == nil && !x.tier.PutEntry(keyOf(ref.Name), recordOf(number), nil, warm.Handling{Wanted: true}) {
		err = ErrNoDisk
	}
	if err != nil {
		x.tier.DropBlocks(number)
		if errors.Is(err, part.ErrRefused) {
			err = fmt.Errorf("%w: %w", ErrNoDisk, err)
		}
		return nil, err
	}
	return p, nil
}

// drop removes parts from the tier.
func (x *extents) drop(refs []segment.Part) {
	for _, ref := range refs {
		record, ok := x.tier.PeekEntry(keyOf(ref.Name))
		if !ok {
			continue
		}
		if err := x.tier.DropEntry(keyOf(ref.Name)); err == nil {
			x.tier.DropBlocks(numberOf(record))
		}
	}
}

// next returns the number of a new extent: above all that the tier ever had, also after a restart.
func (x *extents) next() uint64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.last == 0 {
		x.last = max(x.tier.NewestRun(), x.tier.Counter("extents"))
	}
	x.last++
	_ = x.tier.SetCounter("extents", x.last) // without it NewestRun has the number, unless the extent was dropped
	return x.last
}

func recordOf(number uint64) []byte { return []byte(fmt.Sprint(number)) }

func numberOf(record []byte) (number uint64) {
	_, _ = fmt.Sscan(string(record), &number) // a record is a number; 0 is no extent
	return number
}
