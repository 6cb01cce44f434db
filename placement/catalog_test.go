package placement

import (
	"fmt"
	"testing"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/internal/testing/tiertest"
	"github.com/akidb/akigw/rules"
)

// TestStateWithoutDisk: without a warm tier, every source reports that nothing is on disk.
func TestStateWithoutDisk(t *testing.T) {
	up := s3mem.New()
	config := tiertest.Config(rules.Exclusive)
	config.WarmBytes = 0
	s := controlled(t, config, t.TempDir(), up)
	defer closeStore(t, s)
	for name, n := range map[string]int{"small": 2000, "large": 3 * block} {
		up.Put(key(name), testkit.Bytes(1, n))
		tiertest.WantRead(t, s.store, key(name), testkit.Bytes(1, n), "")
		if tier := tierOfKey(t, s, name); tier != akigw.Hot {
			t.Errorf("%s is %s", name, tier)
		}
	}
	all, _, err := s.Objects(t.Context(), akigw.Pattern{Bucket: key("").Bucket}, "", 10)
	if err != nil || len(all) != 2 {
		t.Fatalf("%d objects, %v", len(all), err)
	}
	for _, c := range all {
		if c.WarmBytes != 0 || c.HotBytes != c.Size {
			t.Errorf("%s: %+v", c.Key, c)
		}
	}
}

// BenchmarkState measures summing up a hundred objects of many.
func BenchmarkState(b *testing.B) {
	manyObjects(b, func(b *testing.B, s *rig) {
		if st, err := s.State(b.Context(), akigw.Pattern{Bucket: key("").Bucket, Prefix: "0005"}); err != nil || st.Objects != 100 {
			b.Fatal(st, err)
		}
	})
}

// manyObjects benchmarks an operation on a store with the given number of objects.
func manyObjects(b *testing.B, do func(b *testing.B, s *rig)) {
	for _, objects := range []int{1000, 20_000} {
		b.Run(fmt.Sprint(objects, " objects"), func(b *testing.B) {
			up := s3mem.New()
			s := controlled(b, tiertest.Config(rules.Exclusive), b.TempDir(), up)
			defer closeStore(b, s)
			for n := range objects {
				k := key(fmt.Sprintf("%06d", n))
				up.Put(k, []byte("abc"))
				tiertest.MustRead(b, s.store, k)
			}
			for b.Loop() {
				do(b, s)
			}
		})
	}
}
