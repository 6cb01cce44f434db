package limits

import (
	"fmt"
	"testing"
	"time"

	"github.com/akidb/akigw/rules"
)

// oneClass assigns every object to the class slow.
type oneClass struct{}

func (oneClass) For(string, string) *rules.Settings { return &rules.Settings{Class: "slow"} }

// TestLimitsAreBounded: whoever comes, the memory for limits is bounded, and no name that a
// client invents resets the limit of another.
func TestLimitsAreBounded(t *testing.T) {
	q, err := NewQoS([]QoSConfig{{Name: "c", IdentityRequests: 1}}, oneClass{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		every time.Duration // between two inventions
	}{
		{"faster than limits recover", 10 * time.Microsecond},
		{"slower than limits recover", time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			now := time.Now()
			began, taken := now, 0
			bucket := limitKey{"c", "bucket", "real"}
			for n := range 3 * maxLimits {
				now = now.Add(c.every)
				if q.limit(bucket, 1, 0, now).requests.AllowN(now, 1) {
					taken++
				}
				q.limit(limitKey{"c", "bucket", fmt.Sprintf("%s-%d", c.name, n)}, 1, 0, now).requests.AllowN(now, 1)
			}
			if most := 1 + int(now.Sub(began)/time.Second); taken > most {
				t.Errorf("the real bucket got %d requests in %v, want at most %d", taken, now.Sub(began), most)
			}
			if n := len(q.limits) + len(q.shared); n > maxLimits+2 {
				t.Errorf("%d limits", n)
			}
			if !q.limit(limitKey{"c", "bucket", "another"}, 1, 0, now.Add(time.Minute)).requests.AllowN(now.Add(time.Minute), 1) {
				t.Error("when the flood is over a new bucket has no limit of its own")
			}
		})
	}
	if _, err := NewQoS([]QoSConfig{{Name: "c"}, {Name: "c"}}, oneClass{}, nil); err == nil {
		t.Error("two classes of one name were taken")
	}
}

// TestRefusedIdentitiesMakeNoLimits: an access key that is over its limit leaves no trace of the
// buckets that it names.
func TestRefusedIdentitiesMakeNoLimits(t *testing.T) {
	q, err := NewQoS([]QoSConfig{{Name: "slow", IdentityRequests: 5, BucketRequests: 100}}, oneClass{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	now, admitted := time.Now(), 0
	for n := range 50 {
		if _, err := q.Admit("root", fmt.Sprintf("invented-%d", n), "k", now); err == nil {
			admitted++
		}
	}
	if admitted != 5 || len(q.limits) != 6 { // the access key, and five buckets
		t.Errorf("%d admitted, %d limits, want 5 and 6", admitted, len(q.limits))
	}
}
