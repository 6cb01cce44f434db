package uploadpool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/pack"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/journal"
	"github.com/akidb/akigw/tiers/cold"
)

// packing configures a rig to pack objects of up to 100 bytes, waiting at most five seconds.
func (r *rig) packing() *rig {
	r.configure(func(c *Config) { c.Packs = func(_ akigw.Key, size int64) bool { return size <= 100 } })
	r.configure(func(c *Config) { c.Batch.FlushIntervalSecs, c.Batch.MaxPacked = 5, 1000 })
	return r
}

// packed reads the objects that the upstream has in packs, by name.
func (r *rig) packed() (found map[string]string, packs int) {
	r.t.Helper()
	found = map[string]string{}
	resp, err := r.up.Do(r.t.Context(), &cold.Request{Method: http.MethodGet, Key: akigw.Key{Bucket: "bucket"}})
	if err != nil {
		r.t.Fatal(err)
	}
	list, _ := io.ReadAll(resp.Body)
	for _, line := range strings.Split(string(list), "<Key>")[1:] {
		name, _, _ := strings.Cut(line, "</Key>")
		if !pack.IsName(name) {
			continue
		}
		packs++
		o, _ := r.up.Get(key(name))
		objects, err := pack.ReadIndex(bytes.NewReader(o.Body), int64(len(o.Body)))
		if err != nil {
			r.t.Error(err)
		}
		for _, p := range objects {
			body := string(o.Body[p.Offset : p.Offset+p.Size])
			if p.ETag != etag(body) || p.Header.Get("X-Amz-Meta-M") != "v" {
				r.t.Errorf("%+v", p)
			}
			found[p.Name] = body
		}
	}
	return found, packs
}

// Small objects are uploaded together: as many as fit into one pack, or fewer once they have waited
// long enough. Larger objects are uploaded on their own.
func TestSmallObjectsArePacked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t).packing()
		for i := range 23 {
			r.put(fmt.Sprint(i), fmt.Sprint("body ", i))
		}
		r.put("large", strings.Repeat("x", 101))
		started := time.Now()
		r.run()
		time.Sleep(200 * time.Millisecond) // two round trips, and the tenth of a second that the record of a flush may wait for a sync
		if st := r.j.Stats(); st.Pending != 3 || st.Packed != 20 || st.Packs != 2 {
			t.Errorf("at once: %+v", st)
		}
		r.drained(time.Minute)
		if took := time.Since(started); took < 5*time.Second || took > 6*time.Second {
			t.Errorf("the rest took %s", took)
		}
		found, packs := r.packed()
		for i := range 23 {
			if found[fmt.Sprint(i)] != fmt.Sprint("body ", i) {
				t.Errorf("%d is %q", i, found[fmt.Sprint(i)])
			}
		}
		r.upstream("large", strings.Repeat("x", 101))
		if st := r.j.Stats(); packs != 3 || st.Packed != 23 || st.Packs != 3 || st.Bytes != 0 || r.asked("PutObject") != 4 {
			t.Errorf("%d packs, %+v, %d uploads", packs, st, r.asked("PutObject"))
		}
		if _, err := r.j.Body(r.j.Last(key("1")), 0, 6); !errors.Is(err, journal.ErrPacked) {
			t.Errorf("%v", err)
		}
		r.close()
		// Everything is there after a restart, and nothing is uploaded again.
		before := len(r.history)
		r.open()
		r.packing().run()
		time.Sleep(time.Minute)
		if st := r.j.Stats(); st.Packed != 23 || st.Packs != 3 || st.Pending != 0 || len(r.history) != before {
			t.Errorf("after a restart: %+v, %q", st, r.history[before:])
		}
		if k, at, ok := r.j.Packs.Find(r.j.Last(key("22"))); !ok || !pack.IsName(k.Name) || at == 0 {
			t.Errorf("%s %d %t", k, at, ok)
		}
		r.close()
	})
}

// A caller that needs an object on its own gets it: the object is taken out of its pack, and the
// pack is deleted with the last one.
func TestUnpacked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t).packing()
		for i := range 10 {
			r.put(fmt.Sprint(i), fmt.Sprint("body ", i))
		}
		r.run()
		r.drained(time.Minute)
		for i := range 10 {
			if _, packs := r.packed(); packs != 1 {
				t.Fatalf("%d packs when %d are out", packs, i)
			}
			r.pool.Hurry(key(fmt.Sprint(i)))
			if err := r.j.Wait(t.Context(), key(fmt.Sprint(i))); err != nil {
				t.Fatal(err)
			}
			r.upstream(fmt.Sprint(i), fmt.Sprint("body ", i))
		}
		time.Sleep(2 * time.Minute)
		if _, packs := r.packed(); packs != 0 || r.j.Stats().Packs != 0 || !r.j.Idle() {
			t.Errorf("%d packs, %+v", packs, r.j.Stats())
		}
		r.close()
	})
}

// TestDamagedWayOutOfAPack: a body that arrives short or damaged from its pack is requested again.
// It does not become a dead letter.
//
// Scenarios: A8.
func TestDamagedWayOutOfAPack(t *testing.T) {
	for _, bad := range []string{"bo", "b0dy", "body that is longer"} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t).packing()
			for i := range 10 {
				r.put(fmt.Sprint(i), "body")
			}
			r.run()
			r.drained(time.Minute)
			damaged := 0
			r.answers(func(q *cold.Request) (*http.Response, error) {
				if q.Op == "GetObject" && damaged < 3 {
					damaged++
					return s3mem.Response(206, nil, []byte(bad)), nil
				}
				return nil, nil
			})
			r.pool.Hurry(key("3"))
			if err := r.j.Wait(t.Context(), key("3")); err != nil || damaged != 3 || len(r.j.DeadLetters()) > 0 {
				t.Errorf("%q: %v, damaged %d times, %d dead letters", bad, err, damaged, len(r.j.DeadLetters()))
			}
			r.upstream("3", "body")
			r.close()
		})
	}
}

// A caller that waits for an object gets it even while the object, or an earlier version of its
// key, is being packed.
func TestHurryWhilePacking(t *testing.T) {
	for _, replaced := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t).packing()
			packed := 0
			r.answers(func(q *cold.Request) (*http.Response, error) {
				if q.Op == "PutObject" && pack.IsName(q.Key.Name) {
					if packed++; packed == 1 {
						if replaced {
							r.put("3", "body")
						}
						r.pool.Hurry(key("3"))
					}
					time.Sleep(time.Second)
				}
				return nil, nil
			})
			for i := range 10 {
				r.put(fmt.Sprint(i), "body")
			}
			r.run()
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			time.Sleep(100 * time.Millisecond)
			if err := r.j.Wait(ctx, key("3")); err != nil || packed != 1 {
				t.Errorf("replaced %t: %v, %d packs", replaced, err, packed)
			}
			r.upstream("3", "body")
			r.close()
		})
	}
}

// An object that is overwritten or deleted leaves its pack.
func TestReplacedInPack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t).packing()
		for i := range 10 {
			r.put(fmt.Sprint(i), "old")
		}
		r.run()
		r.drained(time.Minute)
		for i := range 10 {
			if i%2 == 0 {
				r.put(fmt.Sprint(i), "new")
			} else {
				r.delete(fmt.Sprint(i))
			}
		}
		r.drained(time.Minute)
		time.Sleep(2 * time.Minute)
		found, packs := r.packed()
		if st := r.j.Stats(); packs != 1 || len(found) != 5 || found["4"] != "new" || st.Packed != 5 || st.Packs != 1 {
			t.Errorf("%d packs with %v, %+v", packs, found, st)
		}
		r.close()
	})
}

// TestPackWhoseAnswerIsLost: its objects go into another pack and nothing of it is left, whether
// this is noticed at once or after a crash.
//
// Scenarios: B8.
func TestPackWhoseAnswerIsLost(t *testing.T) {
	for _, crash := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t).packing()
			lost := 0
			cut := make(chan struct{})
			r.answers(func(q *cold.Request) (*http.Response, error) {
				if q.Op != "PutObject" || lost > 0 {
					if lost > 0 && crash {
						time.Sleep(time.Second)
						return unavailable()
					}
					return nil, nil
				}
				lost++
				if _, err := r.up.Do(t.Context(), q); err != nil {
					t.Error(err)
				}
				close(cut)
				return unavailable()
			})
			for i := range 10 {
				r.put(fmt.Sprint(i), "body")
			}
			r.run()
			<-cut
			if crash {
				r.stop()
				r.j.Close()
				r.answers(nil)
				r.open()
				r.packing().run()
			}
			r.drained(time.Minute)
			time.Sleep(2 * time.Minute)
			found, packs := r.packed()
			if packs == 0 || len(found) != 10 || r.j.Stats().Packs != packs || emptyPacks(r.j) != 0 || lost != 1 {
				t.Errorf("%d packs with %d objects, %+v", packs, len(found), r.j.Stats())
			}
			r.close()
		})
	}
}

// If the upstream refuses a pack, its objects become dead letters, which can be read.
func TestDeadLettersOfAPack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t).packing()
		r.answers(func(*cold.Request) (*http.Response, error) { return respond(404, "NoSuchBucket") })
		for i := range 10 {
			r.put(fmt.Sprint(i), "body")
		}
		r.run()
		r.drained(time.Minute)
		if dead := r.j.DeadLetters(); len(dead) != 10 || !strings.Contains(dead[0].Reason, "NoSuchBucket") {
			t.Errorf("%+v", dead)
		}
		if _, err := r.j.Body(r.j.Last(key("1")), 0, 4); err != nil {
			t.Error(err)
		}
		r.close()
	})
}

// emptyPacks returns the number of packs that hold no entries.
func emptyPacks(j *journal.Journal) int {
	_, packs := j.Garbage()
	return len(packs)
}
