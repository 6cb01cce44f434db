package uploadpool

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/akidb/akigw/tiers/cold"
)

// TestBodyIsLeftAloneAfterItsRequest: net/http may keep reading a body after an early response, or
// after the request failed. It must no longer reach the journal's body, which is closed by then.
func TestBodyIsLeftAloneAfterItsRequest(t *testing.T) {
	for op, put := range map[string]func(r *rig){
		"PutObject":  func(r *rig) { r.put("k", strings.Repeat("x", 3<<20)) },
		"UploadPart": func(r *rig) { r.putParts("k", manyParts(2)...) },
	} {
		for name, answer := range map[string]func() (*http.Response, error){
			"early answer": responding(503, "SlowDown"),
			"no answer":    unavailable,
		} {
			t.Run(op+", "+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := newRig(t)
					var late, read atomic.Int64
					r.answers(func(q *cold.Request) (*http.Response, error) {
						if q.Op != op || late.Add(1) > 1 {
							return nil, nil
						}
						go func() {
							time.Sleep(time.Second)
							n, err := q.Body.Read(make([]byte, 100))
							_, again := q.Body.(io.Seeker).Seek(0, io.SeekStart)
							if n > 0 || err == nil || err == io.EOF || again == nil {
								read.Add(1)
							}
						}()
						return answer()
					})
					put(r)
					r.run()
					r.drained(time.Minute)
					time.Sleep(time.Second)
					if late.Load() < 2 || read.Load() != 0 {
						t.Errorf("%d requests, %d read their body after their end", late.Load(), read.Load())
					}
					r.close()
				})
			})
		}
	}
}
