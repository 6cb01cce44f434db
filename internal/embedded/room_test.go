package embedded

import (
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/akidb/akigw/internal/testing/testkit"
)

// TestFullDisk: a start on a full disk returns an error and does not crash the process.
//
// Scenarios: C3.
func TestFullDisk(t *testing.T) {
	disk := testkit.NewSmallDisk(t, 64<<20, 0)
	dir := filepath.Join(disk.Dir, "embedded")
	disk.Fill(64 << 10)
	if b, err := openBackend(dir, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), dir) {
		t.Fatalf("%v, %v", b, err)
	}
}
