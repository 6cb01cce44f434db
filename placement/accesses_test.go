package placement

import (
	"fmt"
	"testing"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/internal/testing/tiertest"
	"github.com/akidb/akigw/rules"
)

// TestUsage counts accesses in windows.
func TestUsage(t *testing.T) {
	const hour = 3600
	at := func(seconds int64) time.Time { return time.Unix(1000*hour+seconds, 0) }
	var u usage
	read := func(seconds int64) {
		u.roll(at(seconds).Unix() / hour)
		u.now++
		u.last = at(seconds).Unix()
	}
	for range 6 {
		read(3000)
	}
	for range 4 {
		read(3700)
	}
	for _, c := range []struct {
		seconds int64
		want    uint32
	}{{3700, 10}, {3600 + 1800, 4 + 3}, {7199, 4}, {7200, 4}, {9000, 2}, {3 * hour, 0}, {100 * hour, 0}} {
		if got := u.within(time.Hour, at(c.seconds)); got != c.want {
			t.Errorf("%d accesses at %d, want %d", got, c.seconds, c.want)
		}
	}
	if u.within(0, at(0)) != 0 || u.idle(at(3800)) != 100*time.Second || u.idle(at(0)) != 0 {
		t.Error("a window is missing, or the idle time is wrong")
	}
	if got := decodeUsage(appendUsage(nil, u)); got != u {
		t.Errorf("%+v came back as %+v", u, got)
	}
	other := usage{last: 5, window: u.window - 1, now: 3, total: 9}
	u.add(other)
	if u.before != 9 || u.now != 4 || u.total != 9 {
		t.Errorf("%+v", u)
	}
}

// TestAccessesAreKept: access counts survive a restart, and a key keeps them when it is
// overwritten.
func TestAccessesAreKept(t *testing.T) {
	up, dir := s3mem.New(), t.TempDir()
	s := controlled(t, tiertest.Config(rules.Exclusive), dir, up)
	if err := tiertest.Put(s.store, up, key("k"), testkit.Bytes(1, 2*block)); err != nil {
		t.Fatal(err)
	}
	for i := range 7 {
		if _, _, err := tiertest.Read(s.store, key("k"), ""); err != nil {
			t.Fatal(err)
		}
		if i%3 == 0 {
			if err := s.usage.flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	closeStore(t, s)
	s = controlled(t, tiertest.Config(rules.Exclusive), dir, up)
	defer closeStore(t, s)
	if err := tiertest.Put(s.store, up, key("k"), testkit.Bytes(2, 100)); err != nil {
		t.Fatal(err)
	}
	c, err := s.Object(key("k"))
	if err != nil || c.Accesses != 7 || c.Recent < 6 || time.Since(c.LastAccess) > time.Minute {
		t.Errorf("%+v, %v", c, err)
	}
}

// TestUsageDuringAFlush: nobody sees an access twice or not at all, wherever a flush of the counts
// is, and though the record was read before it.
func TestUsageDuringAFlush(t *testing.T) {
	up := s3mem.New()
	s := controlled(t, tiertest.Config(rules.Exclusive), t.TempDir(), up)
	defer closeStore(t, s)
	k, accesses := key("k"), s.usage.accesses
	up.Put(k, testkit.Bytes(1, 100))
	read := func() {
		t.Helper()
		if _, _, err := tiertest.Read(s.store, k, ""); err != nil {
			t.Fatal(err)
		}
	}
	read()
	if err := s.usage.flush(); err != nil {
		t.Fatal(err)
	}
	read()
	usage, record := s.usage.reader(), s.store.Accesses(k)
	want := func(when string, n uint64) {
		t.Helper()
		if walked, asked := usage(k, record).total, s.usage.of(k).total; walked != n || asked != n {
			t.Errorf("%s: %d accesses in a walk, %d for the key, want %d", when, walked, asked, n)
		}
	}
	shard := accesses.shard(k)
	want("before", 2)
	counted := shard.beginFlush()
	want("begun", 2)
	read()
	sums, keys, values := s.usage.sums(counted)
	shard.sum(sums)
	want("summed", 3)
	if err := s.store.PutAccesses(keys, values); err != nil {
		t.Fatal(err)
	}
	want("written", 3)
	shard.endFlush()
	want("ended", 3)
	if err := s.usage.flush(); err != nil {
		t.Fatal(err)
	}
	read()
	want("the next one", 4)
}

// BenchmarkCountAccess measures what counting costs a read.
func BenchmarkCountAccess(b *testing.B) {
	a, settings := NewAccesses(), &rules.Settings{AccessWindow: time.Hour}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for n := 0; pb.Next(); n++ {
			a.count(akigw.Key{Bucket: "bucket", Name: names[n%len(names)]}, settings, 1)
		}
	})
}

var names = func() (all []string) {
	for i := range 1000 {
		all = append(all, fmt.Sprintf("some/longer/prefix/%06d", i))
	}
	return all
}()
