package writeback

import (
	"testing"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/writeback/overlay"
)

// TestRemoveWithoutAJournal: deletions are written through if a rule wants a journal but there is
// none, because its disk was full or read-only at the start.
func TestRemoveWithoutAJournal(t *testing.T) {
	book := rules.NewSet(nil, rules.Settings{Freshness: rules.Strict, Back: true})
	w := New(Options{Overlay: overlay.Off("its disk is full"), Rules: book, Upstream: s3mem.New()})
	for _, keys := range [][]akigw.Key{{key("a")}, {key("a"), key("b")}} {
		if done, err := w.Remove(t.Context(), keys); done || err != nil {
			t.Errorf("%d keys: %t, %v", len(keys), done, err)
		}
	}
}
