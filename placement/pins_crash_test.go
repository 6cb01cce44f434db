package placement

import (
	"errors"
	"fmt"
	"syscall"
	"testing"

	"github.com/akidb/akigw/internal/testing/crashfs"
)

// TestPins_Crash: a crash at any step of a change leaves the pins as they were before or after it.
// A change that returned is durable, and a failed change has no effect.
func TestPins_Crash(t *testing.T) {
	disk := crashfs.New()
	if err := errors.Join(disk.MkdirAll("/data"), disk.SyncDir("/")); err != nil {
		t.Fatal(err)
	}
	const path = "/data/pins.json"
	steps := crashfs.NewSteps(disk)
	b, err := openPinsOn(steps, path)
	if err != nil {
		t.Fatal(err)
	}
	crashes := 0
	check := func(what string, allowed ...int) {
		t.Helper()
		for left := range disk.Crashes(uint64(crashes), 20) {
			crashes++
			again, err := openPinsOn(left, path)
			if err != nil {
				t.Errorf("a crash %s: %v", what, err)
			}
			if n := len(again.state.Load().all); n != allowed[0] && n != allowed[len(allowed)-1] {
				t.Fatalf("a crash %s leaves %d pins, want %v", what, n, allowed)
			}
		}
	}
	add := func(pins []Pin) ([]Pin, error) {
		return append(pins, Pin{Bucket: "bucket", Prefix: fmt.Sprint(len(pins), "/")}), nil
	}
	for n := range 30 {
		steps.Before(func(_ int, call string) error {
			check("before "+call, n, n+1)
			return nil
		})
		if err := b.change(add); err != nil {
			t.Fatal(err)
		}
		check("after a change", n+1)
	}
	steps.Before(func(int, string) error { return syscall.EIO })
	if err := b.change(add); !errors.Is(err, syscall.EIO) {
		t.Errorf("a change on a broken disk: %v", err)
	}
	if n := len(b.state.Load().all); n != 30 {
		t.Errorf("a change that failed left %d pins", n)
	}
	check("after a change that failed", 30)
	if crashes != 20*(30*6+1) {
		t.Errorf("%d crashes", crashes)
	}
}
