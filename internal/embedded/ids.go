package embedded

import (
	"fmt"
	"sync/atomic"
)

// requestIDs counts requests, for their IDs.
type requestIDs struct{ last atomic.Uint64 }

func (i *requestIDs) next() string { return fmt.Sprintf("%016X", i.last.Add(1)) }
