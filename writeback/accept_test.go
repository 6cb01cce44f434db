package writeback

import (
	"crypto/md5"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/internal/testing/tiertest"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers"
)

// cacheThatSignals calls begins before each change.
type cacheThatSignals struct {
	*tiers.Store
	begins func()
}

func (c cacheThatSignals) Begin(key akigw.Key) *tiers.Write {
	c.begins()
	return c.Store.Begin(key)
}

// TestAcknowledgementLeavesTheCacheAlone: the goroutine that acknowledges a change runs again only after the
// change was uploaded, as happens on a busy machine. The cache takes what was uploaded, and still has it when
// that goroutine runs.
func TestAcknowledgementLeavesTheCacheAlone(t *testing.T) {
	body := testkit.Bytes(1, 200_000)
	etag := fmt.Sprintf("\"%x\"", md5.Sum(body))
	for name, acknowledge := range map[string]func(w *WriteBack) error{
		"an object": func(w *WriteBack) error { return w.write(t.Context(), key("k"), body, 0) },
		"an upload": func(w *WriteBack) error { return w.write(t.Context(), key("k"), body, 1) },
		"a deletion": func(w *WriteBack) error {
			_, err := w.Remove(t.Context(), []akigw.Key{key("k")})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, up := testConfig, s3mem.New()
			var hold atomic.Bool
			held, resume := make(chan bool), make(chan bool)
			release := sync.OnceFunc(func() { close(resume) })
			defer release()
			c.Fault = func(op akigw.DiskOp, _ string, size int) (int, error) {
				if op == akigw.DiskSync && hold.CompareAndSwap(true, false) {
					held <- true
					<-resume
				}
				return size, nil
			}
			w, store := openOver(t, c, rules.Exclusive, up)
			w.cache = cacheThatSignals{store, func() { hold.Store(true) }}
			w.Uploads.cache = w.cache
			acknowledged := make(chan error, 1)
			go func() { acknowledged <- acknowledge(w) }()
			<-held
			upload := store.Begin(key("k"))
			upload.Body(body)
			up.Put(key("k"), body)
			upload.Written(nil, http.Header{"Etag": {etag}}, nil)
			tiertest.WantRead(t, store, key("k"), body, akigw.Hot)
			kept := store.Usage().HotValues
			release()
			if err := <-acknowledged; err != nil {
				t.Fatal(err)
			}
			if got := store.Usage().HotValues; got != kept {
				t.Errorf("%d values in memory after the acknowledgement, %d before", got, kept)
			}
			if n := up.Count("GetObject"); n > 0 {
				t.Errorf("%d GETs", n)
			}
		})
	}
}
