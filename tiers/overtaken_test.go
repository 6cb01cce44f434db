package tiers

import (
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers/cold"
)

// TestOvertakenResponse: a response about an older object arrives after a write of the key has ended. What the
// write has brought into the cache stays there.
func TestOvertakenResponse(t *testing.T) {
	for _, c := range []struct {
		name      string
		freshness rules.Freshness
		op        string
		status    int // of the response that is overtaken
	}{
		{"a range of the older object", rules.Exclusive, "GetObject", http.StatusPreconditionFailed},
		{"a range of a deleted object", rules.Exclusive, "GetObject", http.StatusNotFound},
		{"a validation of a deleted object", rules.Strict, "HeadObject", http.StatusNotFound},
	} {
		t.Run(c.name, func(t *testing.T) {
			up := s3mem.New()
			s := newStore(t, testConfig(c.freshness), up)
			older, newer := testkit.Bytes(1, 8*block), testkit.Bytes(2, 8*block)
			up.Put(key("k"), older)
			wantRead(t, s, key("k"), "bytes=0-9", older[:10], akigw.Cold)
			var overtaken, fetched atomic.Int64
			held, resume := make(chan bool), make(chan bool)
			up.Before = func(r *cold.Request) (*http.Response, error) {
				if r.Op == c.op && overtaken.CompareAndSwap(0, 1) {
					held <- true
					<-resume
					return s3mem.Response(c.status, nil, nil), nil
				}
				if r.Op == "GetObject" {
					fetched.Add(1)
				}
				return nil, nil
			}
			read := make(chan bool)
			go func() {
				defer close(read)
				_, _, _ = readAll(s, key("k"), "bytes=200000-200009") // it fails or finds the newer object
			}()
			<-held
			if err := put(s, up, key("k"), newer); err != nil {
				t.Fatal(err)
			}
			close(resume)
			<-read
			wantRead(t, s, key("k"), "", newer, "")
			if n := fetched.Load(); n > 0 {
				t.Errorf("%d GETs after the write", n)
			}
		})
	}
}
