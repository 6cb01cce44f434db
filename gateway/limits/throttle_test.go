package limits

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/akidb/akigw/internal/s3err"
)

// TestThrottle: the address that fails too often learns no more, others and
// other errors are not touched, and the next minute starts anew.
//
// Scenarios: S40.
func TestThrottle(t *testing.T) {
	th := NewThrottle(10, nil)
	now := time.Unix(6000, 0)
	slowed := func(remote string, err error, now time.Time) bool {
		return errors.Is(th.Judge(remote, err, now), s3err.SlowDown)
	}
	for i := range 12 {
		if got := slowed("192.0.2.1:1000", s3err.SignatureDoesNotMatch, now); got != (i >= 10) {
			t.Errorf("failure %d: %t", i+1, got)
		}
	}
	if slowed("192.0.2.1:1", s3err.AccessDenied, now) {
		t.Error("another error is held up")
	}
	if slowed("192.0.2.1:1", s3err.SignatureDoesNotMatch, now.Add(time.Minute)) {
		t.Error("the next minute is held up")
	}
	for range 100 {
		if slowed("127.0.0.1:1", s3err.SignatureDoesNotMatch, now) || slowed("[::1]:1", s3err.SignatureDoesNotMatch, now) {
			t.Fatal("loopback is held up")
		}
	}
	others := 0
	for i := range 100 { // a shared counter is possible, a common one is not
		if !slowed(fmt.Sprintf("192.0.2.%d:1", 100+i), s3err.SignatureDoesNotMatch, now) {
			others++
		}
	}
	if others < 95 {
		t.Errorf("only %d of 100 other addresses are not held up", others)
	}
}
