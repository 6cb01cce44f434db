package embedded

import (
	"fmt"
	"sync/atomic"
)

// requestIDs numbers requests.
type requestIDs struct{ last atomic.Uint64 }

func (i *requestIDs) next() string { return fmt.Sprintf("%016X", i.last.Add(1)) }
