package tiers

import (
	"fmt"
	"testing"

	"github.com/akidb/akigw"
)

// TestFullMapsForgetOneAtATime: the memory of readers and of transfers is bounded. Adding one to a
// full map evicts one, not all.
func TestFullMapsForgetOneAtATime(t *testing.T) {
	var q sequences
	var s suspects
	for n := range maxSequences + 10 {
		q.follow(&entry{extent: uint64(n), block: block}, akigw.Range{Start: 0, Length: 1}, 1<<20)
	}
	if got := len(q.byExtent); got != maxSequences {
		t.Errorf("%d readers are known, want %d", got, maxSequences)
	}
	for n := range maxSuspects + 10 {
		e := &entry{}
		e.Key.Name = fmt.Sprint(n)
		s.confirms(e, []byte("digest"), 1)
	}
	if got := len(s.seen); got != maxSuspects {
		t.Errorf("%d transfers are known, want %d", got, maxSuspects)
	}
}
