package uploadpool

import (
	"bytes"
	"encoding/xml"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/tiers/cold"
)

// TestBatchesAreReadableXML: a key that XML 1.0 cannot represent is deleted on its own. Otherwise
// an upstream with a strict XML parser would refuse its batch forever.
func TestBatchesAreReadableXML(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		names := []string{"\x01", "a\x02", "b", "c\uFFFE", "d\r\n\t", "e<&>", "f", "g\x1f", "h", "i", "j", "k"}
		for _, name := range names {
			r.up.Put(key(name), []byte("body"))
		}
		batched := 0
		r.answers(func(q *cold.Request) (*http.Response, error) {
			if q.Op != "DeleteObjects" {
				return nil, nil
			}
			document, err := io.ReadAll(q.Body)
			var request struct{ Object []struct{ Key string } }
			if err != nil || xml.Unmarshal(document, &request) != nil {
				return s3mem.Response(400, nil, []byte("<Error><Code>MalformedXML</Code></Error>")), nil
			}
			batched += len(request.Object)
			again := *q
			again.Body = bytes.NewReader(document)
			return r.up.Do(t.Context(), &again)
		})
		r.delete(names...)
		synctest.Wait()
		r.run()
		r.drained(time.Minute)
		if r.up.Len() != 0 || batched < 2 {
			t.Errorf("%d objects left, %d deleted in batches", r.up.Len(), batched)
		}
		if n := len(r.j.DeadLetters()); n > 0 {
			t.Errorf("%d dead letters", n)
		}
		r.close()
	})
}
