package uploadpool

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/tiers/cold"
)

// TestSend: what the gateway writes for itself is uploaded in parts, and no upload is left over in
// the journal or upstream, however it ends.
func TestSend(t *testing.T) {
	for _, c := range []struct {
		name  string
		size  int
		parts int
		kms   bool
		fails string // the operation that fails permanently
		ok    bool
	}{
		{"empty", 0, 1, false, "", true},
		{"small", 100, 1, false, "", true},
		{"whole parts", 2 * leastPart, 2, false, "", true},
		{"with a rest", 3*leastPart + 5, 4, false, "", true},
		{"other ETags", 2*leastPart + 5, 3, true, "", true},
		{"not begun", 100, 0, false, "CreateMultipartUpload", false},
		{"a part fails", 2 * leastPart, 0, false, "UploadPart", false},
		{"not completed", 2 * leastPart, 2, false, "CompleteMultipartUpload", false},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			r.up.KMS.Store(c.kms)
			r.answers(func(q *cold.Request) (*http.Response, error) {
				if q.Op == c.fails {
					return respond(403, "AccessDenied")
				}
				return nil, nil
			})
			r.run()
			body := testkit.Bytes(3, c.size)
			err := r.pool.Send(t.Context(), key("own"), "a/b", bytes.NewReader(body), int64(len(body)))
			time.Sleep(time.Minute) // orphans are swept
			o, there := r.up.Get(key("own"))
			if (err == nil) != c.ok || there != c.ok || c.ok && (!bytes.Equal(o.Body, body) || o.Header.Get("Content-Type") != "a/b") {
				t.Errorf("%s: %v, there %t, %d bytes", c.name, err, there, len(o.Body))
			}
			if got := r.asked("UploadPart"); c.parts > 0 && got != c.parts {
				t.Errorf("%s: %d parts sent", c.name, got)
			}
			if st := r.j.Stats(); st.Uploads+st.Orphans+r.up.Uploads() > 0 || !r.j.Idle() {
				t.Errorf("%s: %+v, %d uploads upstream", c.name, st, r.up.Uploads())
			}
			if c.ok && r.asked("AbortMultipartUpload") > 0 {
				t.Errorf("%s: a completed upload was aborted", c.name)
			}
			r.close()
		})
	}
}

// TestSendIsCutOff: a stop in the middle leaves an upload that the next start aborts.
func TestSendIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		ctx, cancel := context.WithCancel(t.Context())
		r.answers(func(q *cold.Request) (*http.Response, error) {
			if q.Op == "UploadPart" && q.Query.Get("partNumber") == "2" {
				cancel()
				r.j.Close() // the journal does not learn of the end
				return unavailable()
			}
			return nil, nil
		})
		body := testkit.Bytes(3, 3*leastPart)
		if err := r.pool.Send(ctx, key("own"), "a/b", bytes.NewReader(body), int64(len(body))); err == nil {
			t.Error("the object was sent")
		}
		r.answers(nil)
		r.open()
		if open := r.j.Uploads.List(""); len(open) != 1 || !Own(open[0]) || !strings.HasPrefix(open[0].ID, ownPrefix) || r.up.Uploads() != 1 {
			t.Fatalf("%+v, %d uploads upstream", open, r.up.Uploads())
		}
		r.run()
		time.Sleep(time.Minute)
		if st := r.j.Stats(); st.Uploads+st.Orphans+r.up.Uploads() > 0 || r.up.Len() > 0 {
			t.Errorf("%+v, %d uploads upstream", st, r.up.Uploads())
		}
		r.close()
	})
}
