package store

import (
	"context"
	"errors"
	"testing"

	"github.com/akidb/akigw/faults"
	"github.com/akidb/akigw/vectors"
	"github.com/akidb/akigw/vectors/remote"
)

// TestGivenUpCommitArrives: a commit whose outcome was not known has arrived. The next attempt finds that
// out, and loses nothing.
func TestGivenUpCommitArrives(t *testing.T) {
	for _, c := range []struct{ name, key string }{
		{"manifest", "*/manifest.json"},
		{"catalog", "*catalog.json"},
	} {
		for _, tier := range []Tier{Cold, Warm, Hot} {
			t.Run(c.name+" "+tier.String(), func(t *testing.T) {
				t.Parallel()
				m := newMachine(t, newUpstream(), "gw-1")
				m.start(true)
				m.create("bucket", "index", 2, vectors.Euclidean)
				ref := reference{}
				m.putSome("index", ref, 0, 100)
				m.must(m.Flush(t.Context()))
				m.must(m.Move(t.Context(), "bucket", "index", tier))
				m.putSome("index", ref, 90, 20)
				m.must(m.Tag(t.Context(), "bucket", "index", map[string]string{"x": "y"}, nil))

				m.fail(faults.Fault{Effect: faults.HangAfter, Op: "PutObject", Key: c.key})
				ctx, cancel := context.WithCancel(t.Context())
				flushed := make(chan error, 1)
				go func() { flushed <- m.Flush(ctx) }()
				m.eventually("the commit", func() bool { return m.upstream.Report().Hits[0] > 0 })
				cancel()
				if err := <-flushed; err == nil {
					t.Fatal("a flush that was given up succeeded")
				}
				m.fail()
				m.putSome("index", ref, 200, 5)
				m.must(m.Delete(t.Context(), "bucket", "index", []string{"key 3"}))
				delete(ref, "key 3")
				if err := m.Flush(t.Context()); err != nil && !errors.Is(err, remote.ErrStale) {
					t.Error(err)
				}
				m.must(m.Flush(t.Context()))
				m.verify("index", ref)
				if n := m.Totals().Pending; n != 0 {
					t.Errorf("%d are pending after a flush", n)
				}
				m.restart()
				m.verify("index", ref)
				i, err := m.Index("bucket", "index")
				if err != nil || i.Tags["x"] != "y" {
					t.Errorf("%v, %v", i.Tags, err)
				}
			})
		}
	}
}
