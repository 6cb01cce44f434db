package tiers

import (
	"testing"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/rules"
)

// TestRemoveWithoutAJournal: deletions go through if there is no journal although a rule wants
// one: its disk was full or read-only at the start.
func TestRemoveWithoutAJournal(t *testing.T) {
	s := inMemory(t, rules.Settings{Freshness: rules.Strict, Back: true}, testkit.NewMemory())
	for _, keys := range [][]akigw.Key{{key("a")}, {key("a"), key("b")}} {
		if done, err := s.Remove(t.Context(), keys); done || err != nil {
			t.Errorf("%d keys: %t, %v", len(keys), done, err)
		}
	}
}
