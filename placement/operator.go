package placement

import (
	"context"

	"github.com/akidb/akigw"
)

// Move carries out an operator's action on objects: on one key, whether it is known or not, or on
// all known keys with a prefix. hot is for PinObjects: the pin also keeps objects in memory.
//
// Either everything is done, or nothing that matters: a promotion that fails half-way is undone.
// Errors: ErrMoving, ErrAction, ErrPinned, ErrNotPinned, tiers.ErrNoRoom, tiers.ErrTierOff,
// tiers.ErrUncacheable, those of tiers.Store.Get, and those of the upstream, which must respond
// before anything leaves the disk.
func (p *Placement) Move(ctx context.Context, action Action, what akigw.Pattern, hot bool) (MoveResult, error) {
	end, err := p.mover.underway.begin(ctx, what)
	if err != nil {
		return MoveResult{}, err
	}
	defer end()
	switch action {
	case PinObjects:
		return p.pin(ctx, what, hot)
	case UnpinObjects:
		return p.unpin(what)
	case PromoteToHot, PromoteToWarm, DemoteToWarm, DemoteToCold:
		return p.moveAll(ctx, action, what)
	}
	return MoveResult{}, ErrAction
}
