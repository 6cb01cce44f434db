package placement

import "fmt"

// Action is what an operator can do with objects.
type Action string

// The actions.
const (
	PromoteToHot  Action = "promote_to_hot"  // copy whole objects into memory
	PromoteToWarm Action = "promote_to_warm" // copy whole objects to disk
	DemoteToWarm  Action = "demote_to_warm"  // remove objects from memory, keeping them on disk
	DemoteToCold  Action = "demote_to_cold"  // remove objects from memory and disk; the upstream has them
	PinObjects    Action = "pin"             // keep objects on disk, and in memory if wanted
	UnpinObjects  Action = "unpin"
)

// Actions lists all actions.
func Actions() []Action {
	return []Action{PromoteToHot, PromoteToWarm, DemoteToWarm, DemoteToCold, PinObjects, UnpinObjects}
}

// ErrAction: there is no such action.
var ErrAction = fmt.Errorf("action must be one of %q", Actions())

// MoveResult is the result of an action.
type MoveResult struct {
	// Moved is how many objects were moved; for UnpinObjects, how many pins were removed.
	Moved int `json:"moved"`
	// Already is how many objects needed no move.
	Already int   `json:"already"`
	Bytes   int64 `json:"bytes"` // of the moved objects
}
