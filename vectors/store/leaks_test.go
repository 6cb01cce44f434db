package store

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/akidb/akigw/faults"
	"github.com/akidb/akigw/journal"
	"github.com/akidb/akigw/vectors"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// held returns the records in the journal whose streams begin with a kind.
func (m *machine) held(kind string) (n int) {
	m.journal.Records.All(func(r journal.Record) bool {
		if strings.HasPrefix(r.Stream, kind) {
			n++
		}
		return true
	})
	return n
}

// TestNothingIsLeft: after everything was deleted, the journal, memory, the disk and the upstream have nothing
// of it, whatever was under way.
func TestNothingIsLeft(t *testing.T) {
	m := newMachine(t, newUpstream(), "gw-1")
	m.start(true)
	for i := range 6 {
		name := fmt.Sprint("index-", i)
		m.create("bucket", name, 2, vectors.Euclidean)
		m.putSome(name, reference{}, 0, 30)
		if i%2 == 0 {
			m.must(m.Flush(t.Context()))
			m.must(m.Move(t.Context(), "bucket", name, Hot))
			m.putSome(name, reference{}, 20, 30)
		}
		c := m.find("bucket", name)
		m.must(m.DeleteIndex(t.Context(), "bucket", name))
		// A call that was under way when the index was deleted.
		late := newRow("key 1", nil, nil, true)
		if !m.memory.acquirePending(late.size()) {
			t.Fatal("no memory")
		}
		if err := m.append(t.Context(), c, call{rows: []*row{late}, bytes: late.size()}); !isCode(err, vectors.NotFound) {
			t.Errorf("a call for a deleted index: %v", err)
		}
		if i%3 == 0 {
			m.restart()
		}
		m.must(m.Flush(t.Context()))
		m.must(m.Flush(t.Context()))
	}
	if pending, hot := m.memory.used(); pending != 0 || hot != 0 {
		t.Errorf("%d bytes are pending, %d hot", pending, hot)
	}
	m.eventually("an empty journal", func() bool { return m.held("") == 0 })
	for _, key := range m.upstream.KeysOf("vectors") {
		if strings.HasSuffix(key, ".parquet") || strings.HasSuffix(key, "manifest.json") {
			t.Errorf("%s is left in the upstream", key)
		}
	}
}

// TestFailedFlushesLeaveOneRecord: however often a flush fails, the journal has one record about its upload,
// memory is freed when it succeeds, and nothing is left in the upstream.
func TestFailedFlushesLeaveOneRecord(t *testing.T) {
	m := newMachine(t, newUpstream(), "gw-1")
	m.config.MemoryBytes = 64 << 10
	m.start(true)
	m.create("bucket", "index", 2, vectors.Euclidean)
	m.must(m.Flush(t.Context()))
	ref := reference{}
	m.putSome("index", ref, 0, 10)
	for range 20 {
		m.fail(faults.Fault{Effect: faults.HangAfter, Op: "PutObject", Key: "*.parquet"})
		ctx, cancel := context.WithCancel(t.Context())
		flushed := make(chan error, 1)
		go func() { flushed <- m.Flush(ctx) }()
		m.eventually("the upload", func() bool { return m.upstream.Report().Hits[0] > 0 })
		cancel()
		if <-flushed == nil {
			t.Fatal("a flush that was given up succeeded")
		}
	}
	if n := m.held(uploadStream); n != 1 {
		t.Errorf("%d records about one upload: %v", n, m.find("bucket", "index").uploads)
	}
	full := false
	for n := 0; n < 1000 && !full; n++ {
		err := m.Put(t.Context(), "bucket", "index", []vectors.Vector{{Key: fmt.Sprint("more ", n), Data: []float32{1, 1}}})
		if full = isCode(err, vectors.TooManyRequests); !full {
			m.must(err)
			ref[fmt.Sprint("more ", n)] = vectors.Vector{Key: fmt.Sprint("more ", n), Data: []float32{1, 1}}
		}
	}
	if !full {
		t.Error("pending vectors have no limit")
	}
	m.fail()
	m.must(m.Flush(t.Context()))
	m.putSome("index", ref, 500, 10)
	m.verify("index", ref)
	m.must(m.Flush(t.Context()))
	m.restart()
	m.must(m.Sweep(t.Context()))
	m.must(m.Move(t.Context(), "bucket", "index", Cold))
	m.verify("index", ref)
	if pending, _ := m.memory.used(); pending != 0 {
		t.Errorf("%d bytes are pending", pending)
	}
	m.eventually("an empty journal", func() bool { return m.held("") == 0 })
}
