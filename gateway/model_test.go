package gateway

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/internal/testing/storekit"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/placement"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers"
	"github.com/akidb/akigw/tiers/cold"
	"github.com/akidb/akigw/writeback"
)

// byMode gives each bucket the freshness that it is named after.
type byMode struct{}

func (byMode) For(bucket, _ string) *rules.Settings {
	if bucket == back {
		return &rules.Settings{Freshness: rules.Exclusive, Back: true, Memory: true, Disk: true, Block: 64 << 10}
	}
	return &rules.Settings{Freshness: rules.Freshness(bucket), TTL: time.Hour, MaxStale: time.Hour, Memory: true, Disk: true, Block: 64 << 10, Compress: bucket == "ttl", ReadAhead: 128 << 10}
}

func (byMode) Pinning() (uint64, bool)  { return 0, false }
func (byMode) Backs(bucket string) bool { return bucket == back }

// back is a bucket that is written back.
const back = "back"

// machine drives a gateway and the model of it, one operation after the other.
type machine struct {
	t       *testing.T
	random  *rand.Rand
	model   *testkit.Model
	up      *s3mem.Memory
	dir     string
	store   *tiers.Store
	writes  *writeback.WriteBack
	stop    func()
	b       *bench
	number  int // of the operation
	tick    atomic.Int64
	history []string         // of the last operations
	parts   map[string][]int // sizes of the parts of objects with parts, by ETag
	still   sync.RWMutex     // while it is locked nothing new is done to the journal's files
	*tally

	// Reads ahead go on behind an operation, so faults are asked for under a lock.
	mu     sync.Mutex
	before func(*cold.Request) (*http.Response, error)
	after  func(*cold.Request, *http.Response)
}

// arm sets what the upstream does with requests; nil lets it be.
func (m *machine) arm(before func(*cold.Request) (*http.Response, error), after func(*cold.Request, *http.Response)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.before, m.after = before, after
}

// hook puts the machine between the gateway and the upstream.
func (m *machine) hook() {
	m.up.Before = func(r *cold.Request) (*http.Response, error) {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.before == nil {
			return nil, nil
		}
		return m.before(r)
	}
	m.up.After = func(r *cold.Request, resp *http.Response) {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.after != nil {
			m.after(r, resp)
		}
	}
}

// operation is one kind of step. Each is for a key of a mode's bucket.
type operation struct {
	name string
	do   func(m *machine, key akigw.Key)
	slow bool // it is done less often
}

var operations = []operation{
	{name: "GET", do: (*machine).get},
	{name: "GET again", do: func(m *machine, key akigw.Key) { m.get(key); m.get(key) }},
	{name: "GET range", do: (*machine).getRange},
	{name: "GET part", do: (*machine).getPart},
	{name: "GET no-cache", do: (*machine).getFresh},
	{name: "GET no-store", do: (*machine).getPast},
	{name: "HEAD", do: (*machine).head},
	{name: "GET If-None-Match", do: (*machine).ifNoneMatch},
	{name: "GET If-Match", do: (*machine).ifMatch},
	{name: "PUT", do: (*machine).put},
	{name: "DELETE", do: (*machine).delete},
	{name: "DeleteObjects", do: (*machine).deleteMany},
	{name: "COPY", do: (*machine).copy},
	{name: "multipart", do: (*machine).multipart},
	{name: "LIST", do: (*machine).list},
	{name: "PUT behind the cache", do: (*machine).putBehind},
	{name: "DELETE behind the cache", do: (*machine).deleteBehind},
	{name: "evict", do: (*machine).evict},
	{name: "restart", do: (*machine).restart, slow: true},
	{name: "fault of a read", do: (*machine).readFault},
	{name: "fault of a write", do: (*machine).writeFault},
	{name: "fault of a flush", do: (*machine).flushFault},
	{name: "events lost", do: (*machine).loseEvents},
	{name: "crash", do: (*machine).crash, slow: true},
	{name: "promote", do: (*machine).promote},
	{name: "demote", do: (*machine).demote},
	{name: "pin", do: (*machine).pin},
	{name: "unpin", do: (*machine).unpin},
	{name: "purge", do: (*machine).purge},
	{name: "clock step", do: (*machine).stepClock},
}

// TestT2_Model does random operations, in all freshness modes and written back, and compares
// every answer with the model's: machines side by side, each over a state of its own. With
// long runs every pair of operations comes again and again: at least 100 times in 20 million.
func TestT2_Model(t *testing.T) {
	p := testkit.Prove(t, "T2")
	ops := p.Amount(1500, 100_000, 2_000_000)
	each := min(ops, 5000)
	total := newTally()
	testkit.Share(t, sideBySide, ops/each, func(t *testing.T, next iter.Seq[int]) {
		for n := range next {
			if total.add(runModel(t, p, n, each)); t.Failed() {
				return
			}
		}
	})
	least := total.least()
	for name, n := range map[string]int{"operations": ops, "machines": ops / each, "each pair at least": least, "faults": total.faults, "answers refused or cut off for faults": total.cut, "crashes": total.crashes, "moves": total.moves} {
		p.Figure(name, n)
	}
	p.Figure("outcomes", total.outcomes)
	if p.Long() && least < ops/200_000 {
		t.Errorf("a pair of operations came %d times", least)
	}
}

// sideBySide is how many machines run at a time: they wait for disks, too.
const sideBySide = 4

// tally is what machines have done.
type tally struct {
	mu                                  sync.Mutex
	pairs                               [][]int
	outcomes                            map[string]int
	faults, cut, copied, crashes, moves int
}

func newTally() *tally {
	c := &tally{outcomes: map[string]int{}, pairs: make([][]int, len(operations))}
	for i := range c.pairs {
		c.pairs[i] = make([]int, len(operations))
	}
	return c
}

func (c *tally) add(other *tally) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, row := range other.pairs {
		for j, n := range row {
			c.pairs[i][j] += n
		}
	}
	for o, n := range other.outcomes {
		c.outcomes[o] += n
	}
	c.faults, c.cut, c.copied, c.crashes, c.moves = c.faults+other.faults, c.cut+other.cut, c.copied+other.copied, c.crashes+other.crashes, c.moves+other.moves
}

// least is how often the rarest pair of operations came.
func (c *tally) least() int {
	least := c.pairs[0][0]
	for _, row := range c.pairs {
		least = min(least, slices.Min(row))
	}
	return least
}

// rarely is one in how many of the operations that take long is done when its turn comes.
const rarely = 10

// note keeps what was done lately, for a failure to tell.
func (m *machine) note(key akigw.Key, what string) {
	m.history = append(m.history, fmt.Sprintf("%d %s of %s", m.number, what, key))
	if len(m.history) > 20_000 {
		m.history = append([]string{}, m.history[10_000:]...)
	}
}

// past is what was done lately with a key, and with all of them.
func (m *machine) past(key akigw.Key) []string {
	lines := slices.DeleteFunc(m.history, func(line string) bool {
		return !strings.HasSuffix(line, " "+key.String()) && !strings.Contains(line, " restart ") && !strings.Contains(line, " crash ")
	})
	return lines[max(0, len(lines)-50):]
}

// next picks an operation.
func (m *machine) next() int {
	for {
		n := m.random.IntN(len(operations))
		if !operations[n].slow || m.random.IntN(rarely) == 0 {
			return n
		}
	}
}

// missing returns a rare operation of which a run has had no effect so far, -1 for none: a short run
// would be without it once in fifty times.
func (m *machine) missing() int {
	named := func(name string) int {
		return slices.IndexFunc(operations, func(o operation) bool { return o.name == name })
	}
	switch {
	case m.crashes == 0:
		return named("crash")
	case m.copied == 0:
		return named("COPY")
	default:
		return -1
	}
}

// runModel runs one machine.
func runModel(t *testing.T, p *testkit.Proof, n, ops int) *tally {
	m := &machine{t: t, random: p.Random(n), model: testkit.NewModel(), parts: map[string][]int{}, up: s3mem.New(), dir: filepath.Join(testkit.MemoryDir(t), "gateway"), tally: newTally()}
	m.up.Clock = func() time.Time { return time.Unix(1_600_000_000+m.tick.Add(1), 0) } // no two objects of one second
	m.hook()
	m.open()
	defer func() {
		m.stop()
		_ = os.RemoveAll(m.dir) // it is memory, and there are many of them
	}()
	last := 0
	for m.number = range ops {
		next := m.next()
		if rare := m.missing(); rare >= 0 && m.number > ops/2 && m.random.IntN(8) == 0 {
			next = rare
		}
		m.pairs[last][next]++
		last = next
		key := m.key()
		m.note(key, operations[next].name)
		operations[next].do(m, key)
		if t.Failed() {
			t.Fatalf("seed %d, machine %d, at operation %d, %s of %s; %+v, dead letters %+v\nbefore that:\n%s", p.Seed, n, m.number, operations[next].name, key, m.writes.Status(), m.writes.DeadLetters.List(), strings.Join(m.past(key), "\n"))
		}
	}
	for _, o := range []akigw.Outcome{akigw.Hot, akigw.Warm, akigw.Cold, akigw.Bypass, akigw.Overlay} {
		if m.outcomes[string(o)] < ops/1000 {
			t.Errorf("outcome %s was seen %d times: the path was not exercised", o, m.outcomes[string(o)])
		}
	}
	if m.faults < ops/100 || m.cut == 0 || m.copied == 0 || m.crashes == 0 || m.moves < ops/100 {
		t.Errorf("%d faults fired, %d answers were cut off, %d copies of what was pending, %d crashes, %d moves", m.faults, m.cut, m.copied, m.crashes, m.moves)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	m.putValue(akigw.Key{Bucket: back, Name: "a b/0"}, m.sized(100)) // so that a pack is in use, whatever came last
	m.writes.DrainAll(ctx)
	unpacked, err := m.writes.Unpack(ctx, back)
	if err != nil || unpacked == 0 {
		t.Errorf("%d objects came out of packs: %v", unpacked, err)
	}
	if st := m.writes.Status(); st.Pending+st.Dead > 0 {
		t.Errorf("not everything came to the upstream: %+v", st)
	}
	m.model.Keys(func(key akigw.Key, v testkit.Value) {
		if stored, ok := m.up.Get(key); ok != (v.ETag != "") || ok && (stored.ETag != v.ETag || !bytes.Equal(stored.Body, v.Body)) {
			t.Errorf("%s at the upstream is not what the model holds", key)
		}
	})
	return m.tally
}

// open starts a gateway over what is on disk.
func (m *machine) open() {
	m.b, m.stop = openBench(m.t, m.dir, m.up, packing{}, func(_ akigw.DiskOp, _ string, size int) (int, error) {
		m.still.RLock()
		defer m.still.RUnlock()
		return size, nil
	})
	m.b.outcome = func(o string) {
		if o != "" {
			m.outcomes[o]++
		}
	}
	m.store, m.writes = m.b.store, m.b.writes
}

// upstream is one as all rooms want it.
type upstream interface {
	storekit.Upstream
	Upstream
}

// openBench starts a gateway in a directory, with small tiers. It ends with stop.
func openBench(t *testing.T, dir string, up upstream, rules storekit.Rules, journalFault akigw.DiskFault) (b *bench, stop func()) {
	log := slog.New(slog.DiscardHandler)
	config := tiers.Config{HotBytes: 1 << 20, WarmBytes: 32 << 20, BlockBytes: 64 << 10, SmallBytes: 4 << 10, FetchBytes: 128 << 10, ParallelFetches: 4, ReadAheadBytes: 1 << 20, FillBytes: 8 << 20, MD5ETags: true}
	batch := testBatch
	batch.FlushIntervalSecs = 0 // what is there goes
	c := testBack
	c.Dir, c.Fault = filepath.Join(dir, "journal"), journalFault
	accesses, pins := placement.NewAccesses(), placement.OpenPins(filepath.Join(dir, "tiers"), log)
	kit := openKit(t, storekit.Options{Cache: config, WarmDir: filepath.Join(dir, "warm"), Back: c, Batch: batch, Rules: rules, Upstream: up, Pins: pins, Observers: []tiers.Observer{accesses}, Log: log})
	place := placement.New(placement.Options{Policy: placement.PolicyConfig{WorkerIntervalSecs: 1}, Dir: filepath.Join(dir, "tiers"), Store: kit.Store, Pins: pins, Accesses: accesses, Rules: rules, Upstream: up, Writes: kit.Writes})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 2)
	go func() { done <- kit.Run(ctx) }()
	go func() { done <- place.Run(ctx) }()
	b = kitBench(kit, nil, up, log)
	b.place = place
	b.g.handlers.uploads.minPart = 0 // parts are small here
	return b, func() {
		cancel()
		if err := errors.Join(<-done, <-done, kit.Close()); err != nil {
			t.Error(err)
		}
	}
}

var modes = []rules.Freshness{rules.Strict, rules.TTL, rules.Immutable, rules.Exclusive, rules.Events}

func (m *machine) key() akigw.Key {
	bucket := back
	if n := m.random.IntN(len(modes) + 1); n < len(modes) {
		bucket = string(modes[n])
	}
	return akigw.Key{Bucket: bucket, Name: fmt.Sprintf("a b/%d", m.random.IntN(12))}
}

// lags reports whether what happens behind a key's cache may go unseen.
func lags(key akigw.Key) bool { return key.Bucket == string(rules.TTL) }

// alone reports whether nothing may happen behind a key's cache.
func alone(key akigw.Key) bool {
	return key.Bucket == string(rules.Immutable) || key.Bucket == string(rules.Exclusive) || key.Bucket == back
}

// value makes new contents of all sizes.
func (m *machine) value() testkit.Value {
	return m.sized(testkit.Pick(m.random, 0, 1, 100, 100, 4096, 4097, 4097, 30_000, 30_000, 64<<10, 64<<10+1, 150_000, 300_000))
}

// sized makes new contents of n bytes.
func (m *machine) sized(n int) testkit.Value {
	body := testkit.Bytes(m.random.Uint64()|1, n)
	sum := md5.Sum(body)
	return testkit.Value{Body: body, ETag: fmt.Sprintf("\"%x\"", sum), Meta: strconv.Itoa(m.random.IntN(3))}
}

func (m *machine) ask(method string, key akigw.Key, query string, header http.Header, body []byte) *httptest.ResponseRecorder {
	path := "/" + key.Bucket
	if key.Name != "" {
		path += "/" + key.Name
	}
	w := m.b.ask("root", method, path, query, header, string(body))
	m.note(key, fmt.Sprintf("  %s %v: %d %s %s", method, header, w.Code, tagOf(w), sentHeader(w, "x-akigw-cache")))
	return w
}

// complete reports whether an answer came to its end.
func complete(w *httptest.ResponseRecorder) bool {
	return w.Header().Get("Content-Length") == strconv.Itoa(w.Body.Len())
}

// check compares an answer to a read with the model.
func (m *machine) check(key akigw.Key, w *httptest.ResponseRecorder, head bool) {
	m.t.Helper()
	switch {
	case w.Code == http.StatusNotFound:
		if !m.model.Saw(key, testkit.Value{}) {
			m.t.Errorf("%s is absent; it may be %q", key, m.model.ETags(key))
		}
	case w.Code != http.StatusOK:
		m.t.Errorf("%s: %d %s", key, w.Code, w.Body)
	case !head && !complete(w):
		m.t.Errorf("%s: %d bytes of %s", key, w.Body.Len(), w.Header().Get("Content-Length"))
	default:
		v := testkit.Value{ETag: tagOf(w), Meta: sentHeader(w, "x-amz-meta-model")}
		if !head {
			v.Body = append([]byte{}, w.Body.Bytes()...)
		}
		if !m.model.Saw(key, v) {
			m.t.Errorf("%s shows %d bytes with ETag %s and %q (%s); it may be %q", key, w.Body.Len(), v.ETag, v.Meta, sentHeader(w, "x-akigw-cache"), m.model.ETags(key))
		}
	}
}

// sentHeader returns a header of an answer whatever the case of its name.
func sentHeader(w *httptest.ResponseRecorder, name string) string {
	for sent, values := range w.Header() {
		if strings.EqualFold(sent, name) {
			return values[0]
		}
	}
	return ""
}

func tagOf(w *httptest.ResponseRecorder) string { return sentHeader(w, "ETag") }

func (m *machine) get(key akigw.Key) { m.check(key, m.ask("GET", key, "", nil, nil), false) }

func (m *machine) head(key akigw.Key) { m.check(key, m.ask("HEAD", key, "", nil, nil), true) }

func (m *machine) getFresh(key akigw.Key) {
	if !alone(key) {
		m.model.Catch(key)
	}
	m.check(key, m.ask("GET", key, "", http.Header{"Cache-Control": {"no-cache"}}, nil), false)
}

// getPast reads past the cache: what it shows says nothing of the cache.
func (m *machine) getPast(key akigw.Key) {
	w := m.ask("GET", key, "", http.Header{"Cache-Control": {"no-store"}}, nil)
	if v := m.model.Current(key); w.Code == 200 && (tagOf(w) != v.ETag || !bytes.Equal(w.Body.Bytes(), v.Body)) || w.Code != 200 && v.ETag != "" {
		m.t.Errorf("%s past the cache: %d %s, want %s", key, w.Code, tagOf(w), v.ETag)
	}
}

func (m *machine) getRange(key akigw.Key) {
	first := m.random.IntN(200_000)
	spec := testkit.Pick(m.random, fmt.Sprintf("bytes=%d-%d", first, first+m.random.IntN(150_000)), fmt.Sprintf("bytes=%d-", first), fmt.Sprintf("bytes=-%d", m.random.IntN(100_000)))
	w := m.ask("GET", key, "", http.Header{"Range": {spec}}, nil)
	switch w.Code {
	case http.StatusPartialContent, http.StatusOK:
		v, ok := m.shown(key, tagOf(w))
		if !ok {
			return
		}
		r, err := akigw.ParseRange(spec).Resolve(int64(len(v.Body)))
		if err != nil || !complete(w) || !bytes.Equal(w.Body.Bytes(), v.Body[r.Start:r.End()]) || w.Code == 206 && w.Header().Get("Content-Range") != r.ContentRange(int64(len(v.Body))) {
			m.t.Errorf("%s %s: %d, %d bytes, %s", key, spec, w.Code, w.Body.Len(), w.Header().Get("Content-Range"))
		}
	case http.StatusRequestedRangeNotSatisfiable:
		fits := func(v testkit.Value) bool {
			_, err := akigw.ParseRange(spec).Resolve(int64(len(v.Body)))
			return v.ETag != "" && err != nil
		}
		if !slices.ContainsFunc(m.model.Possible(key), fits) {
			m.t.Errorf("%s %s: %d", key, spec, w.Code)
		}
	default:
		m.check(key, w, false)
	}
}

// getPart reads one part of an object by its number.
func (m *machine) getPart(key akigw.Key) {
	number := 1 + m.random.IntN(3)
	w := m.ask("GET", key, fmt.Sprintf("partNumber=%d", number), nil, nil)
	switch w.Code {
	case http.StatusPartialContent, http.StatusOK:
		v, ok := m.shown(key, tagOf(w))
		if !ok {
			return
		}
		body, count, ok := m.part(v, number)
		if got := sentHeader(w, "x-amz-mp-parts-count"); !ok || !complete(w) || !bytes.Equal(w.Body.Bytes(), body) || got != count {
			m.t.Errorf("part %d of %s: %d, %d bytes, %s, of %q parts", number, key, w.Code, w.Body.Len(), w.Header().Get("Content-Range"), got)
		}
	case http.StatusRequestedRangeNotSatisfiable:
		lacks := func(v testkit.Value) bool {
			_, _, ok := m.part(v, number)
			return v.ETag != "" && !ok
		}
		if !slices.ContainsFunc(m.model.Possible(key), lacks) {
			m.t.Errorf("part %d of %s: %d", number, key, w.Code)
		}
	default:
		m.check(key, w, false)
	}
}

// part returns a part of a value, and how many it has; false if it has no such part.
func (m *machine) part(v testkit.Value, number int) (body []byte, count string, ok bool) {
	sizes := m.parts[v.ETag]
	if sizes != nil {
		count = strconv.Itoa(len(sizes))
	} else {
		sizes = []int{len(v.Body)}
	}
	if number > len(sizes) {
		return nil, count, false
	}
	start := 0
	for _, size := range sizes[:number-1] {
		start += size
	}
	return v.Body[start : start+sizes[number-1]], count, true
}

// shown finds the value that has an ETag among those that key may show.
func (m *machine) shown(key akigw.Key, etag string) (testkit.Value, bool) {
	for _, v := range m.model.Possible(key) {
		if v.ETag == etag && etag != "" {
			m.model.Saw(key, testkit.Value{ETag: v.ETag, Meta: v.Meta})
			return v, true
		}
	}
	m.t.Errorf("%s shows ETag %s; it may be %q", key, etag, m.model.ETags(key))
	return testkit.Value{}, false
}

func (m *machine) ifNoneMatch(key akigw.Key) {
	tag := m.model.Current(key).ETag
	if tag == "" || m.random.IntN(3) == 0 {
		tag = `"other"`
	}
	w := m.ask("GET", key, "", http.Header{"If-None-Match": {tag}}, nil)
	if w.Code != http.StatusNotModified {
		m.check(key, w, false)
	} else if !slices.Contains(m.model.ETags(key), tag) {
		m.t.Errorf("%s: not modified since %s; it may be %q", key, tag, m.model.ETags(key))
	}
}

func (m *machine) ifMatch(key akigw.Key) {
	tag := m.model.Current(key).ETag
	if tag == "" || m.random.IntN(3) == 0 {
		tag = `"other"`
	}
	w := m.ask("GET", key, "", http.Header{"If-Match": {tag}}, nil)
	other := func(t string) bool { return t != "" && t != tag }
	if w.Code != http.StatusPreconditionFailed {
		m.check(key, w, false)
	} else if !slices.ContainsFunc(m.model.ETags(key), other) {
		m.t.Errorf("%s: precondition %s failed; it may be %q", key, tag, m.model.ETags(key))
	}
}

func (m *machine) wrote(key akigw.Key, w *httptest.ResponseRecorder, v testkit.Value) {
	m.t.Helper()
	if w.Code != http.StatusOK && w.Code != http.StatusNoContent {
		m.t.Errorf("write of %s: %d %s", key, w.Code, w.Body)
	}
	m.model.Write(key, v)
}

func (m *machine) put(key akigw.Key) { m.putValue(key, m.value()) }

func (m *machine) putValue(key akigw.Key, v testkit.Value) {
	w := m.ask("PUT", key, "", http.Header{"X-Amz-Meta-Model": {v.Meta}}, v.Body)
	m.wrote(key, w, v)
	if tagOf(w) != v.ETag {
		m.t.Errorf("PUT %s: ETag %s, want %s", key, tagOf(w), v.ETag)
	}
}

func (m *machine) delete(key akigw.Key) {
	m.wrote(key, m.ask("DELETE", key, "", nil, nil), testkit.Value{})
}

func (m *machine) deleteMany(key akigw.Key) {
	document := []byte("<Delete><Object><Key>" + key.Name + "</Key></Object></Delete>")
	sum := md5.Sum(document)
	w := m.ask("POST", akigw.Key{Bucket: key.Bucket}, "delete=", http.Header{"Content-Md5": {base64.StdEncoding.EncodeToString(sum[:])}}, document)
	m.wrote(key, w, testkit.Value{})
}

func (m *machine) copy(key akigw.Key) {
	from := akigw.Key{Bucket: key.Bucket, Name: m.key().Name}
	if key.Bucket == back && m.random.IntN(2) == 0 {
		m.put(from) // so that it is pending
	}
	v := m.model.Current(from)
	h := http.Header{"X-Amz-Copy-Source": {"/" + from.Bucket + "/" + strings.ReplaceAll(from.Name, " ", "%20")}}
	if m.random.IntN(2) == 0 {
		v.Meta = "copied"
		h["X-Amz-Metadata-Directive"], h["X-Amz-Meta-Model"] = []string{"REPLACE"}, []string{v.Meta}
	} else if from == key {
		return // S3 refuses it
	}
	w := m.ask("PUT", key, "", h, nil)
	if sentHeader(w, "x-akigw-commit") == "journal" { // a copy has no parts
		m.copied++
		v.ETag = fmt.Sprintf("\"%x\"", md5.Sum(v.Body))
	}
	if v.ETag == "" {
		if w.Code != http.StatusNotFound {
			m.t.Errorf("copy of nothing: %d", w.Code)
		}
		return
	}
	m.wrote(key, w, v)
}

var uploadID = regexp.MustCompile("<UploadId>(.*)</UploadId>")

func (m *machine) multipart(key akigw.Key) {
	w := m.ask("POST", key, "uploads=", nil, nil)
	id := uploadID.FindStringSubmatch(w.Body.String())
	if id == nil {
		m.t.Fatalf("multipart %s: %d %s", key, w.Code, w.Body)
	}
	document, sums, v := "<CompleteMultipartUpload>", []byte{}, testkit.Value{}
	n, size := 1+m.random.IntN(3), testkit.Pick(m.random, 0, 64<<10, 128<<10) // of all parts but the last; 0: any
	step := testkit.Pick(m.random, 1, 1, 1, 2)                                // of their numbers
	var sizes []int
	for part := 1; part <= n; part++ {
		if m.random.IntN(30) == 0 {
			m.restart(key)
		}
		p := m.value()
		if size > 0 && part < n {
			p = m.sized(size)
		}
		sum := md5.Sum(p.Body)
		query := fmt.Sprintf("partNumber=%d&uploadId=%s", part*step, id[1])
		if m.random.IntN(8) == 0 { // it is replaced
			m.ask("PUT", key, query, nil, m.sized(len(p.Body)).Body)
		}
		if m.random.IntN(16) == 0 { // a part that is not listed
			m.ask("PUT", key, fmt.Sprintf("partNumber=%d&uploadId=%s", 100+part, id[1]), nil, p.Body)
		}
		w := m.ask("PUT", key, query, nil, p.Body)
		if tagOf(w) != p.ETag {
			m.t.Errorf("part of %s: %d %s", key, w.Code, w.Body)
		}
		document += fmt.Sprintf("<Part><PartNumber>%d</PartNumber><ETag>%s</ETag></Part>", part*step, p.ETag)
		sums, v.Body, sizes = append(sums, sum[:]...), append(v.Body, p.Body...), append(sizes, len(p.Body))
	}
	v.ETag = fmt.Sprintf("\"%x-%d\"", md5.Sum(sums), n)
	m.parts[v.ETag] = sizes
	m.wrote(key, m.ask("POST", key, "uploadId="+id[1], nil, []byte(document+"</CompleteMultipartUpload>")), v)
}

func (m *machine) list(key akigw.Key) {
	w := m.ask("GET", akigw.Key{Bucket: key.Bucket}, "list-type=2", nil, nil)
	var listing struct {
		Contents []struct {
			Key, ETag string
		}
	}
	if err := xml.Unmarshal(w.Body.Bytes(), &listing); err != nil || w.Code != http.StatusOK {
		m.t.Errorf("LIST: %d %v", w.Code, err)
	}
	listed := map[string]string{}
	for _, c := range listing.Contents {
		listed[c.Key] = c.ETag
	}
	m.model.Keys(func(k akigw.Key, v testkit.Value) {
		if k.Bucket == key.Bucket && listed[k.Name] != v.ETag {
			m.t.Errorf("LIST shows %s as %q, want %q", k, listed[k.Name], v.ETag)
		}
	})
}

// behind changes the upstream, where the mode lets others do that.
func (m *machine) behind(key akigw.Key, v testkit.Value, change func()) {
	if alone(key) {
		return
	}
	change()
	m.up.AwaitEvents()
	if lags(key) {
		m.model.Lag(key, v)
	} else {
		m.model.Write(key, v)
	}
}

func (m *machine) putBehind(key akigw.Key) {
	v := m.value()
	m.behind(key, v, func() {
		m.up.PutStored(key, s3mem.Stored{Body: v.Body, ETag: v.ETag, Modified: m.up.Clock(), Header: http.Header{"X-Amz-Meta-Model": {v.Meta}}})
	})
}

func (m *machine) deleteBehind(key akigw.Key) {
	m.behind(key, testkit.Value{}, func() { m.up.Delete(key) })
}

// evict drives what is in memory out of it.
func (m *machine) evict(key akigw.Key) {
	for n := range 3 {
		k := akigw.Key{Bucket: string(rules.Exclusive), Name: fmt.Sprintf("junk/%d", n)}
		if m.model.Current(k).ETag == "" {
			v := m.value()
			v.Body = testkit.Bytes(uint64(n+1), 600_000)
			sum := md5.Sum(v.Body)
			v.ETag = fmt.Sprintf("\"%x\"", sum)
			m.wrote(k, m.ask("PUT", k, "", http.Header{"X-Amz-Meta-Model": {v.Meta}}, v.Body), v)
		}
		m.get(k)
	}
}

func (m *machine) restart(akigw.Key) {
	m.stop()
	m.open()
}

func (m *machine) loseEvents(akigw.Key) { m.up.BreakStreams() }
