package journal

import (
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/crashfs"
	"github.com/akidb/akigw/internal/vfs"
)

// gate is a file system whose syncs block while it is closed.
type gate struct {
	vfs.FS
	closed sync.RWMutex
	stuck  chan struct{} // receives one value for each sync that begins
}

type gateFile struct {
	vfs.File
	gate *gate
}

func (g *gate) Create(name string) (vfs.File, error) {
	f, err := g.FS.Create(name)
	return gateFile{f, g}, err
}

func (f gateFile) Sync() error {
	select {
	case f.gate.stuck <- struct{}{}:
	default:
	}
	f.gate.closed.RLock()
	defer f.gate.closed.RUnlock()
	return f.File.Sync()
}

// TestLookupsTakeNoLock: looking up an entry for a GET, with entries pending, needs no sync and
// none of the locks that a commit takes. The test keeps a commit stuck in its sync and holds the
// locks itself, so a look-up that took one of them would never return.
func TestLookupsTakeNoLock(t *testing.T) {
	g := &gate{FS: crashfs.New(), stuck: make(chan struct{}, 100)}
	j := open(t, testConfig(g, "/j"))
	defer j.Close()
	mustPut(t, j, "inline", []byte("abc"))
	mustPut(t, j, "large", random(100_000, 1))
	mustPut(t, j, "packed", []byte("p"))
	p, _, err := j.Packs.Begin(t.Context(), key("pack"))
	if err == nil {
		err = j.Packs.Add(t.Context(), p, []*Entry{j.Last(key("packed"))}, []int64{7})
	}
	mustPut(t, j, "flushed", []byte("f"))
	if err == nil {
		err = j.Translate(t.Context(), j.Last(key("flushed")), `"other"`)
	}
	if err != nil {
		t.Fatal(err)
	}
	for len(g.stuck) > 0 {
		<-g.stuck
	}
	g.closed.Lock()
	committed := make(chan error, 1)
	go func() { committed <- j.Delete(t.Context(), []akigw.Key{key("inline")}, time.Now()) }()
	<-g.stuck
	for _, mu := range []*sync.Mutex{&j.table.mu, &j.committer.mu, &j.health.mu} {
		mu.Lock()
	}
	lookUp(t, j)
	for _, mu := range []*sync.Mutex{&j.table.mu, &j.committer.mu, &j.health.mu} {
		mu.Unlock()
	}
	g.closed.Unlock()
	if err := <-committed; err != nil || !j.Last(key("inline")).Deleted {
		t.Errorf("%v, %+v", err, j.Last(key("inline")))
	}
}

// lookUp does the look-ups that the gateway does to answer GETs and listings.
func lookUp(t *testing.T, j *Journal) {
	t.Helper()
	if j.Idle() || j.Last(key("none")) != nil || !j.Translates("bucket") || j.Translates("other") {
		t.Error("the body differs from what was written")
	}
	if tr, ok := j.Translation(key("flushed")); !ok || tr.Upstream != `"other"` {
		t.Errorf("%+v", tr)
	}
	var names []string
	j.Ascend("bucket", "", func(e *Entry) bool {
		names = append(names, e.Key.Name)
		return true
	})
	if fmt.Sprint(names) != "[inline large packed]" {
		t.Errorf("%q", names)
	}
	for name, size := range map[string]int{"inline": 3, "large": 100_000} {
		b, err := j.Body(j.Last(key(name)), 0, int64(size))
		if err != nil {
			t.Error(err)
			continue
		}
		if got, err := io.ReadAll(b); err != nil || len(got) != size || b.Close() != nil {
			t.Errorf("%s: %v, %d bytes", name, err, len(got))
		}
	}
	if k, at, ok := j.Packs.Find(j.Last(key("packed"))); !ok || at != 7 || k != key("pack") {
		t.Errorf("%v %d %t", k, at, ok)
	}
}
