package store

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/faults"
	"github.com/akidb/akigw/vectors"
)

// outage makes the upstream refuse everything.
func (m *machine) outage() { m.fail(faults.Fault{Effect: faults.Refused}) }

// TestRestartInOutage: a gateway that starts while the upstream does not respond has everything, whatever
// happened to the local copies before, or it serves nothing.
func TestRestartInOutage(t *testing.T) {
	for _, c := range []struct {
		name   string
		before func(m *machine, ref reference) // between two flushes
		served bool
	}{
		{"intact copies", func(*machine, reference) {}, true},
		{"the copies cannot be written", func(m *machine, _ reference) {
			m.failDisk(func(op akigw.DiskOp, name string, size int) (int, error) {
				if op == akigw.DiskCreate && filepath.Dir(name) != m.dir {
					return 0, syscall.ENOSPC
				}
				return size, nil
			})
		}, true},
		{"a new data directory", func(m *machine, _ reference) {
			m.halt()
			m.must(os.RemoveAll(m.dir))
			m.start(true)
		}, true},
		{"a new data directory without copies", func(m *machine, _ reference) {
			m.halt()
			m.must(os.RemoveAll(m.dir))
			m.failDisk(func(op akigw.DiskOp, name string, size int) (int, error) {
				if op == akigw.DiskCreate && filepath.Base(filepath.Dir(name)) == "manifests" {
					return 0, syscall.ENOSPC
				}
				return size, nil
			})
			m.start(true)
		}, false},
		{"no copy of the catalog", func(m *machine, _ reference) {
			m.must(m.Flush(m.t.Context()))
			m.must(os.Remove(m.local.catalogPath()))
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel() // it waits for repetitions
			m := newMachine(t, newUpstream(), "gw-1")
			m.start(true)
			m.create("bucket", "index", 2, vectors.Euclidean)
			m.create("bucket", "empty", 2, vectors.Euclidean)
			ref := reference{}
			m.putSome("index", ref, 0, 40)
			m.must(m.Flush(t.Context()))
			m.must(m.Move(t.Context(), "bucket", "index", Warm))
			c.before(m, ref)
			m.must(m.Move(t.Context(), "bucket", "index", Warm))
			m.putSome("index", ref, 30, 20)
			m.must(m.Flush(t.Context()))
			m.putSome("index", ref, 45, 20)
			m.halt()
			m.disk.Store(nil)
			m.outage()
			m.start(c.served)
			if !c.served {
				m.eventually("a problem", func() bool { return m.Problem() != nil })
				if err := m.Put(t.Context(), "bucket", "index", nil); !isCode(err, vectors.Unavailable) {
					t.Errorf("a write to what is not loaded: %v", err)
				}
			} else {
				m.putSome("index", ref, 100, 5)
				if tier := m.find("bucket", "index").state().tier; tier == Warm {
					m.verify("index", ref)
				}
			}
			m.fail()
			m.eventually("the upstream", func() bool { return m.session.ready() == nil && m.Problem() == nil })
			m.verify("index", ref)
			m.must(m.Sweep(t.Context()))
			if err := m.Flush(t.Context()); err != nil {
				m.must(m.Flush(t.Context()))
			}
			m.must(m.Sweep(t.Context()))
			m.must(m.Move(t.Context(), "bucket", "index", Cold))
			m.verify("index", ref)
			m.verify("empty", nil)
			if m.Problem() != nil || m.Totals().Pending != 0 {
				t.Errorf("%v, %d pending", m.Problem(), m.Totals().Pending)
			}
		})
	}
}
