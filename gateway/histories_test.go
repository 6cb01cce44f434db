package gateway

import (
	"bytes"
	"cmp"
	"context"
	"crypto/md5"
	"encoding/xml"
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/faults"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/rules"
)

// What clients do in a history.
const (
	opRead   = "read"
	opWrite  = "write"
	opDelete = "delete"
	opCreate = "create" // If-None-Match: *
	opSwap   = "swap"   // If-Match
)

// action is what a client asked for.
type action struct {
	kind, key string
	etag      string // written
	expected  string // by a swap
}

// result is what it was told.
type result struct {
	etag    string // that was read, "" for nothing
	refused bool   // the condition did not hold
	unknown bool   // it may have been done, now or later, or not
}

// register is a key of S3: it holds an ETag, or nothing.
var register = porcupine.Model{
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		now, in, out := state.(string), input.(action), output.(result)
		switch in.kind {
		case opRead:
			return out.etag == now, now
		case opWrite:
			return true, in.etag
		case opDelete:
			return true, ""
		case opCreate:
			if now == "" {
				return !out.refused || out.unknown, in.etag
			}
		case opSwap:
			if now == in.expected {
				return !out.refused || out.unknown, in.etag
			}
		}
		return out.refused || out.unknown, now // the condition does not hold
	},
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byKey := map[string][]porcupine.Operation{}
		for _, o := range history {
			key := o.Input.(action).key
			byKey[key] = append(byKey[key], o)
		}
		all := make([][]porcupine.Operation, 0, len(byKey))
		for _, ops := range byKey {
			all = append(all, ops)
		}
		return all
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v -> %+v", input, output) },
}

// forever is when an operation returns of which nobody knows whether it was done.
const forever = math.MaxInt64

// history is what clients of a gateway saw, while its upstream and its disk failed.
type history struct {
	t      *testing.T
	up     *s3mem.Faulty
	b      *bench
	bucket string
	keys   int
	began  time.Time

	mu  sync.Mutex
	ops []porcupine.Operation // guarded by mu

	unknown, failed atomic.Int64
	faults          int // that fired
}

func (h *history) now() int64 { return time.Since(h.began).Nanoseconds() }

func (h *history) add(client int, call int64, in action, out result) {
	ret := h.now()
	if out.unknown {
		ret = forever
		h.unknown.Add(1)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, porcupine.Operation{ClientId: client, Input: in, Call: call, Output: out, Return: ret})
}

// settings are short-lived freshness for ttl, and what the model has for the others.
type historySettings struct{ byMode }

// historyTTL is how long a validation is trusted in a history with bounded staleness, and
// historyStale how much longer while the upstream fails.
const (
	historyTTL   = 30 * time.Millisecond
	historyStale = 70 * time.Millisecond
)

func (historySettings) For(bucket, key string) *rules.Settings {
	s := *byMode{}.For(bucket, key)
	s.TTL, s.MaxStale, s.Compress = historyTTL, historyStale, false
	return &s
}

// client does operations one after the other.
func (h *history) client(n, ops int, random *rand.Rand) {
	seen := map[string]string{} // ETags that keys had
	for range ops {
		key := strconv.Itoa(random.IntN(h.keys))
		path := "/" + h.bucket + "/" + key
		body := fmt.Sprintf("%d of %d", random.Uint64(), n)
		if len(key) > 1 && random.IntN(8) == 0 { // more than one block, and no small object
			body += strings.Repeat("x", 70_000)
		}
		in := action{kind: opRead, key: key}
		method, header := http.MethodGet, http.Header{}
		switch dice := random.IntN(100); {
		case dice < 45:
		case dice < 50:
			method = http.MethodHead
		case dice < 52:
			h.list(n)
			continue
		case dice < 55 && h.others():
			h.behind(n, key, body)
			continue
		case dice < 80:
			in.kind = opWrite
		case dice < 90:
			in.kind = opDelete
		case dice < 95:
			in.kind = opCreate
			header.Set("If-None-Match", "*")
		default:
			in.kind, in.expected = opSwap, seen[key]
			if in.expected == "" {
				continue
			}
			header.Set("If-Match", in.expected)
		}
		switch in.kind {
		case opDelete:
			method = http.MethodDelete
		case opWrite, opCreate, opSwap:
			method, in.etag = http.MethodPut, fmt.Sprintf("\"%x\"", md5.Sum([]byte(body)))
		default:
			body = ""
		}
		call := h.now()
		w := h.b.ask("root", method, path, "", header, body)
		var out result
		switch {
		case in.kind == opRead:
			if w.Code == http.StatusOK && (method == http.MethodHead || complete(w)) {
				out.etag = tagOf(w)
				if sum := md5.Sum(w.Body.Bytes()); method == http.MethodGet && fmt.Sprintf("\"%x\"", sum) != out.etag {
					h.t.Errorf("%s: the body is not what its ETag %s says", path, out.etag)
				}
				seen[key] = out.etag
			} else if w.Code != http.StatusNotFound {
				h.failed.Add(1)
				continue // it saw nothing
			}
		case w.Code == http.StatusOK || w.Code == http.StatusNoContent:
			seen[key] = in.etag
		case w.Code == http.StatusPreconditionFailed || in.kind == opSwap && w.Code == http.StatusNotFound:
			out.refused = true
		default:
			out.unknown = true
		}
		h.add(n, call, in, out)
	}
}

// list reads each key by one listing.
func (h *history) list(client int) {
	call := h.now()
	w := h.b.ask("root", http.MethodGet, "/"+h.bucket, "list-type=2", nil, "")
	if w.Code != http.StatusOK {
		h.failed.Add(1)
		return
	}
	var listing struct {
		Contents []struct{ Key, ETag string }
	}
	if err := xml.Unmarshal(w.Body.Bytes(), &listing); err != nil {
		h.t.Error(err)
	}
	found := map[string]string{}
	for _, c := range listing.Contents {
		found[c.Key] = c.ETag
	}
	for k := range h.keys {
		key := strconv.Itoa(k)
		h.add(client, call, action{kind: opRead, key: key}, result{etag: found[key]})
	}
}

// others reports whether the freshness lets others write behind the gateway.
func (h *history) others() bool {
	return h.bucket == string(rules.Strict) || h.bucket == string(rules.TTL)
}

// behind writes as another client of the upstream does.
func (h *history) behind(client int, key, body string) {
	call := h.now()
	etag := h.up.Put(akigw.Key{Bucket: h.bucket, Name: key}, []byte(body))
	h.add(client, call, action{kind: opWrite, key: key, etag: etag}, result{})
}

// historyModes are the buckets of histories: those whose reads are to be linearizable, and the
// one whose staleness is bounded.
var historyModes = []string{string(rules.Strict), back, string(rules.Exclusive), back, string(rules.TTL)}

// record runs clients over one gateway.
func record(t *testing.T, b *bench, up *s3mem.Faulty, n int, bucket string, ops int, random *rand.Rand) *history {
	h := &history{t: t, up: up, b: b, bucket: bucket, keys: 16, began: time.Now()}
	for k := range h.keys {
		up.Delete(akigw.Key{Bucket: bucket, Name: strconv.Itoa(k)})
	}
	if _, err := b.store.Purge(t.Context(), akigw.Pattern{Bucket: bucket}); err != nil {
		t.Fatal(err)
	}
	plan := s3mem.RandomPlan(random, random.IntN(5))
	for n%4 == 0 && !losesAnswers(plan) { // so that few histories have faults, too
		plan = s3mem.RandomPlan(random, 4)
	}
	if err := up.Set(plan); err != nil {
		t.Fatal(err)
	}
	const clients = 8
	var wait sync.WaitGroup
	for c := range clients {
		own := rand.New(rand.NewPCG(random.Uint64(), uint64(n)))
		wait.Go(func() { h.client(c, ops/clients, own) })
	}
	wait.Wait()
	for _, hits := range up.Report().Hits {
		h.faults += hits
	}
	up.Clear()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	b.writes.DrainAll(ctx)
	if st := b.writes.Status(); st.Pending+st.Dead > 0 {
		t.Errorf("not everything came to the upstream: %+v", st)
	}
	time.Sleep(map[bool]time.Duration{true: historyTTL + historyStale}[bucket == string(rules.TTL)])
	h.list(clients)
	for k := range h.keys { // what the upstream holds in the end, and what the gateway says
		key := akigw.Key{Bucket: bucket, Name: strconv.Itoa(k)}
		call := h.now()
		o, _ := up.Get(key)
		h.add(clients, call, action{kind: opRead, key: key.Name}, result{etag: o.ETag})
		call = h.now()
		w := b.ask("root", http.MethodGet, "/"+bucket+"/"+key.Name, "", nil, "")
		if w.Code == http.StatusOK && !bytes.Equal(w.Body.Bytes(), o.Body) || w.Code == http.StatusNotFound && o.ETag != "" {
			t.Errorf("%s in the end: %d, %d bytes, the upstream has %d", key, w.Code, w.Body.Len(), len(o.Body))
		}
		h.add(clients, call, action{kind: opRead, key: key.Name}, result{etag: tagOf(w)})
	}
	return h
}

// check judges a history. It returns what is wrong with it.
func (h *history) check() string {
	if h.bucket == string(rules.TTL) {
		return tooStale(h.ops, historyTTL+historyStale)
	}
	verdict, info := porcupine.CheckOperationsVerbose(register, h.ops, time.Minute)
	if verdict == porcupine.Ok {
		return ""
	}
	path := filepath.Join(h.t.ArtifactDir(), "history.html")
	if err := porcupine.VisualizePath(register, info, path); err != nil {
		h.t.Error(err)
	}
	return fmt.Sprintf("%s: see %s; it ends with\n%s", verdict, path, h.culprits(info))
}

// culprits are what could still be put into one order, and what comes first of the rest, of the
// key for which that is not all.
func (h *history) culprits(info porcupine.LinearizationInfo) string {
	var lines []string
	whole := register.Partition(h.ops)
	for i, orders := range info.PartialLinearizationsOperations() {
		longest := slices.MaxFunc(orders, func(a, b []porcupine.Operation) int { return cmp.Compare(len(a), len(b)) })
		if len(longest) == 0 {
			continue
		}
		key := longest[0].Input.(action).key
		for _, all := range whole {
			if all[0].Input.(action).key != key || len(all) == len(longest) {
				continue
			}
			describe := func(o porcupine.Operation) {
				lines = append(lines, fmt.Sprintf("%9d..%-9d client %d: %+v %+v", o.Call, o.Return, o.ClientId, o.Input, o.Output))
			}
			lines = append(lines, fmt.Sprintf("partition %d, key %s, in order:", i, key))
			placed := map[[2]int64]bool{}
			for n, o := range longest {
				placed[[2]int64{o.Call, int64(o.ClientId)}] = true
				if n >= len(longest)-6 {
					describe(o)
				}
			}
			lines = append(lines, "then one of:")
			slices.SortFunc(all, func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
			left := 0
			for _, o := range all {
				if !placed[[2]int64{o.Call, int64(o.ClientId)}] && left < 8 {
					left++
					describe(o)
				}
			}
		}
	}
	return strings.Join(lines, "\n")
}

// tooStale finds a read of what was certainly replaced longer than bound before the read began.
func tooStale(ops []porcupine.Operation, bound time.Duration) string {
	for _, keyed := range register.Partition(ops) {
		var writes []porcupine.Operation // as far as they may have been done; the first is that of nothing
		writes = append(writes, porcupine.Operation{Input: action{kind: opDelete}, Call: -1, Return: -1})
		for _, o := range keyed {
			if o.Input.(action).kind != opRead && !o.Output.(result).refused {
				writes = append(writes, o)
			}
		}
		for _, read := range keyed {
			if read.Input.(action).kind != opRead {
				continue
			}
			fresh, known := false, false
			for _, w := range writes {
				if w.Input.(action).etag != read.Output.(result).etag || w.Call > read.Return {
					continue
				}
				known = true
				replaced := false
				for _, later := range writes {
					replaced = replaced || later.Call > w.Return && later.Return < read.Call-bound.Nanoseconds()
				}
				fresh = fresh || !replaced
			}
			if !fresh {
				return fmt.Sprintf("a read of %+v shows %+v (known %t), which was replaced more than %s before", read.Input, read.Output, known, bound)
			}
		}
	}
	return ""
}

// losesAnswers reports whether requests are carried out under a plan whose answers are lost.
func losesAnswers(p faults.Plan) bool {
	return slices.ContainsFunc(p.Faults, func(f faults.Fault) bool { return f.Effect == faults.TimeoutAfter })
}

// TestT5_Histories: what clients see of a gateway while its upstream fails is what one register
// for each key would show: at once where freshness is strict or exclusive and where writes are
// written back, and within its bound where it is ttl.
func TestT5_Histories(t *testing.T) {
	p := testkit.Prove(t, "T5")
	histories, ops := p.Amount(4, 200, 1000), 2000
	if p.Long() {
		ops = 10_000
	}
	var total, unknown, failed, faulty atomic.Int64
	testkit.Share(t, sideBySide, histories, func(t *testing.T, next iter.Seq[int]) {
		up := &s3mem.Faulty{Memory: s3mem.New()}
		tick := atomic.Int64{}
		up.Clock = func() time.Time { return time.Unix(1_600_000_000+tick.Add(1), 0) }
		b, stop := openBench(t, testkit.MemoryDir(t), up, historySettings{}, nil)
		defer stop()
		for n := range next {
			h := record(t, b, up, n, historyModes[n%len(historyModes)], ops, p.Random(n))
			wrong := h.check()
			total.Add(int64(len(h.ops)))
			unknown.Add(h.unknown.Load())
			failed.Add(h.failed.Load())
			faulty.Add(int64(h.faults))
			if wrong != "" {
				t.Errorf("history %d of %s: %s", n, h.bucket, wrong)
			}
			if t.Failed() {
				return
			}
		}
	})
	p.Figure("histories", histories)
	for name, n := range map[string]*atomic.Int64{"operations": &total, "of unknown outcome": &unknown, "reads that failed": &failed, "faults": &faulty} {
		p.Figure(name, n.Load())
	}
	if faulty.Load() < int64(10*histories) || unknown.Load() == 0 {
		t.Errorf("%d faults, %d operations of unknown outcome: the path was not exercised", faulty.Load(), unknown.Load())
	}
}

// TestT5_TheCheckerSees: histories that are wrong are found to be.
func TestT5_TheCheckerSees(t *testing.T) {
	write := func(etag string, call, ret int64) porcupine.Operation {
		return porcupine.Operation{Input: action{kind: opWrite, etag: etag}, Output: result{}, Call: call, Return: ret}
	}
	read := func(etag string, call, ret int64) porcupine.Operation {
		return porcupine.Operation{Input: action{kind: opRead}, Output: result{etag: etag}, Call: call, Return: ret}
	}
	for name, c := range map[string]struct {
		ops           []porcupine.Operation
		atomic, fresh bool
	}{
		"in order":        {[]porcupine.Operation{write("a", 1, 2), read("a", 3, 4), write("b", 5, 6), read("b", 7, 8)}, true, true},
		"a little stale":  {[]porcupine.Operation{write("a", 1, 2), write("b", 5, 6), read("a", 10, 11)}, false, true},
		"too stale":       {[]porcupine.Operation{write("a", 1, 2), write("b", 5, 6), read("a", 100, 101)}, false, false},
		"back and forth":  {[]porcupine.Operation{write("a", 1, 2), write("b", 3, 40), read("b", 5, 6), read("a", 7, 8)}, false, true},
		"never written":   {[]porcupine.Operation{write("a", 1, 2), read("c", 3, 4)}, false, false},
		"lost":            {[]porcupine.Operation{write("a", 1, 2), read("", 100, 101)}, false, false},
		"outcome unknown": {[]porcupine.Operation{write("a", 1, 2), {Input: action{kind: opWrite, etag: "b"}, Output: result{unknown: true}, Call: 3, Return: forever}, read("a", 50, 51), read("b", 60, 61)}, true, true},
	} {
		if got := porcupine.CheckOperations(register, c.ops); got != c.atomic {
			t.Errorf("%s: linearizable %t", name, got)
		}
		if got := tooStale(c.ops, 20) == ""; got != c.fresh {
			t.Errorf("%s: fresh enough %t", name, got)
		}
	}
}
