package placement

import "fmt"

// Action is what an operator can have done with objects.
type Action string

// The actions.
const (
	PromoteToHot  Action = "promote_to_hot"  // into memory, as a whole
	PromoteToWarm Action = "promote_to_warm" // onto disk, as a whole
	DemoteToWarm  Action = "demote_to_warm"  // out of memory; they are on disk then
	DemoteToCold  Action = "demote_to_cold"  // out of memory and off the disk; the upstream has them
	PinObjects    Action = "pin"             // keep them on disk, and in memory if wanted
	UnpinObjects  Action = "unpin"
)

// Actions are all of them.
func Actions() []Action {
	return []Action{PromoteToHot, PromoteToWarm, DemoteToWarm, DemoteToCold, PinObjects, UnpinObjects}
}

// ErrAction says that there is no such action.
var ErrAction = fmt.Errorf("action must be one of %q", Actions())

// MoveResult says what an action has done.
type MoveResult struct {
	// Moved is how many objects have arrived where they were not before; for UnpinObjects, how
	// many pins have ended.
	Moved int `json:"moved"`
	// Already is how many were there.
	Already int   `json:"already"`
	Bytes   int64 `json:"bytes"` // of those that moved
}
