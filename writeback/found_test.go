package writeback

import (
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/internal/testing/tiertest"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers/cold"
)

// TestUploadWithoutResponseIsCached: the upstream stores an object, but the response to its upload is lost, or
// to the HEAD that verifies it; or the upload must be confirmed some seconds later. The object is in the
// cache nevertheless.
func TestUploadWithoutResponseIsCached(t *testing.T) {
	for _, c := range []struct {
		name  string
		lost  string // the operation whose first response is lost
		parts int
		doubt bool // the upstream may still apply an older request
	}{
		{name: "nothing is lost", parts: 2},
		{name: "a PUT", lost: "PutObject"},
		{name: "the completion", lost: "CompleteMultipartUpload", parts: 2},
		{name: "the HEAD after a PUT", lost: "HeadObject"},
		{name: "the HEAD after the completion", lost: "HeadObject", parts: 2},
		{name: "a PUT in doubt", doubt: true},
		{name: "an upload in doubt", doubt: true, parts: 2},
		{name: "a PUT in doubt, lost", lost: "PutObject", doubt: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				up := s3mem.New()
				var lost atomic.Bool
				up.After = func(r *cold.Request, resp *http.Response) {
					if r.Op == c.lost && resp.StatusCode == http.StatusOK && lost.CompareAndSwap(false, true) {
						*resp = *s3mem.Response(http.StatusInternalServerError, nil, nil)
						if r.Op != "HeadObject" {
							resp.StatusCode, resp.ContentLength, resp.Body = http.StatusOK, -1, io.NopCloser(iotest.ErrReader(errors.New("the connection broke")))
						}
					}
				}
				config := testConfig
				config.SyncTimeoutSecs = 3600
				w, store := openOver(t, config, rules.Exclusive, up)
				ctx, cancel := context.WithCancel(t.Context())
				stopped := make(chan error, 1)
				go func() { stopped <- w.Run(ctx) }()
				defer func() {
					cancel()
					<-stopped
				}()
				if c.doubt {
					w.Doubt(key("k"))
				}
				body := testkit.Bytes(1, 200_000)
				if err := w.write(ctx, key("k"), body, c.parts); err != nil {
					t.Fatal(err)
				}
				for began := time.Now(); w.Status().Pending > 0; time.Sleep(10 * time.Millisecond) {
					if time.Since(began) > time.Minute {
						t.Fatalf("not uploaded: %+v", w.Status())
					}
				}
				if lost.Load() != (c.lost != "") {
					t.Errorf("a response was lost: %t", lost.Load())
				}
				tiertest.WantRead(t, store, key("k"), body, akigw.Hot)
				if n := up.Count("GetObject"); n > 0 {
					t.Errorf("%d GETs", n)
				}
			})
		})
	}
}

// write acknowledges an object, uploaded in so many parts of one size; 0: by a PUT.
func (w *WriteBack) write(ctx context.Context, k akigw.Key, body []byte, parts int) error {
	sum := md5.Sum(body)
	if parts == 0 {
		write, err := w.Accept(ctx, k, int64(len(body)), nil)
		if err != nil {
			return err
		}
		defer write.Discard()
		if _, err = write.Write(body); err == nil {
			_, err = write.Commit(ctx, fmt.Sprintf("\"%x\"", sum), nil)
		}
		return err
	}
	id, err := w.Uploads.Begin(ctx, k, nil)
	if err != nil {
		return err
	}
	u, err := w.Uploads.Find(k, id)
	if err != nil {
		return err
	}
	all, size := md5.New(), len(body)/parts
	for n := range parts {
		data := body[n*size : (n+1)*size]
		sum := md5.Sum(data)
		all.Write(sum[:])
		if err := w.part(ctx, u, Part{Number: n + 1, ETag: fmt.Sprintf("\"%x\"", sum)}, data); err != nil {
			return err
		}
	}
	have, err := w.Uploads.Parts(ctx, u)
	if err != nil {
		return err
	}
	return w.Uploads.Complete(ctx, u, fmt.Sprintf("\"%x-%d\"", all.Sum(nil), parts), nil, have)
}

// part acknowledges a part.
func (w *WriteBack) part(ctx context.Context, u *Upload, p Part, data []byte) error {
	write := w.Uploads.AcceptPart(u, int64(len(data)))
	if write == nil {
		return errors.New("the part is not accepted")
	}
	defer write.Discard()
	if _, err := write.Write(data); err != nil {
		return err
	}
	_, err := write.CommitPart(ctx, u, p)
	return err
}
