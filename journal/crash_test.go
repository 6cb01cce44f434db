package journal

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/crashfs"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/internal/vfs"
)

// A crash trial runs a random workload on an in-memory file system. At every call that changes
// something it asks what the next start would find if the machine lost power now, with any part of
// the unsynced data lost. It asks the same of recovery, three levels deep.

// seen is what a key looks like to a client: "" for nothing in the journal, the
// number of a version, or "-" and a number for a deletion.
type seen string

// expectation holds the states that each key may be found in: the one acknowledged last, or one
// that an operation in progress would leave.
type expectation struct {
	mu      sync.Mutex
	acked   map[string]seen // guarded by mu
	pending map[string]seen // guarded by mu
}

func (x *expectation) begin(key string, s seen) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.pending[key] = s
}

func (x *expectation) end(key string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.acked[key] = x.pending[key]
	delete(x.pending, key)
}

// allowed returns the states that each key may have on a disk that is copied between the snapshots
// before and after.
type allowed map[string][]seen

func (x *expectation) around(copyDisk func()) allowed {
	a, before := allowed{}, map[string]bool{}
	x.mu.Lock()
	for k, s := range x.acked {
		a[k], before[k] = append(a[k], s), true
	}
	x.mu.Unlock()
	copyDisk()
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, m := range []map[string]seen{x.acked, x.pending} {
		for k, s := range m {
			a[k] = append(a[k], s)
		}
	}
	for k := range a {
		if !before[k] { // it may have been acknowledged after the disk was copied
			a[k] = append(a[k], "")
		}
	}
	return a
}

// bodyOf is the body of a version of a key.
func bodyOf(key string, version int) []byte {
	n := []int{0, 10, 300, 513, 3000, 70_000}[(version+len(key))%6]
	return append(random(n, uint64(version)), key+"/"+strconv.Itoa(version)...)
}

// crashRun is one workload with its trials.
type crashRun struct {
	seed   uint64
	rng    *rand.Rand // of the workload
	dice   *rand.Rand // of the crashes, one at a time
	mutate func(vfs.FS) vfs.FS
	trials *atomic.Int64
	every  int  // crash at every n-th call
	twice  bool // with a second directory

	version atomic.Int64 // the last one that was written

	workload func(*Journal, *expectation) error // nil: work
}

func (c *crashRun) config(fs vfs.FS, dir string) Config {
	return Config{Dir: dir, FS: fs, Log: slog.New(slog.DiscardHandler), InlineBytes: 512, SegmentBytes: 2 << 10, ReserveBytes: 4 << 10, SyncTimeout: time.Minute, MaxDates: 1000}
}

// run runs the workload; the error says what a crash would have lost.
func (c *crashRun) run() (err error) {
	disk := crashfs.New()
	x := &expectation{acked: map[string]seen{}, pending: map[string]seen{}}
	fs := crashfs.NewSteps(disk)
	fs.Before(func(n int, what string) error {
		if n%c.every != 0 || err != nil {
			return nil
		}
		err = c.crash(disk, x, 0, what)
		return nil
	})
	j, openErr := c.open(fs, "")
	if openErr != nil {
		return openErr
	}
	work := c.work
	if c.workload != nil {
		work = c.workload
	}
	workErr := work(j, x)
	workErr = errors.Join(workErr, j.Close())
	fs.Before(nil)
	return errors.Join(err, workErr)
}

// open opens the journal from both of its directories, or from the one that is left.
func (c *crashRun) open(fs vfs.FS, left string) (*Journal, error) {
	fs = c.mutate(fs)
	if !c.twice || left != "" {
		return Open(c.config(fs, cmp.Or(left, "/j")))
	}
	config := c.config(fs, "/j")
	config.SecondDir = "/k"
	return Open(config)
}

// crash checks what a crash at this point would leave.
func (c *crashRun) crash(disk *crashfs.FS, x *expectation, depth int, what string) error {
	var clone *crashfs.FS
	percent := []int{0, 0, 30, 70, 100}[c.dice.IntN(5)]
	a := x.around(func() {
		clone = disk.Crash(crashfs.Loss{KeepPercent: percent, Seed: c.dice.Uint64()})
	})
	left := "" // both
	if c.twice {
		left = []string{"", "/j", "/k"}[c.dice.IntN(3)]
	}
	if err := c.check(clone, a, depth, left); err != nil {
		return fmt.Errorf("crash, %q is left, before %q, %d%% of the unsynced kept, depth %d: %w", left, what, percent, depth, err)
	}
	return nil
}

// check recovers from a disk and compares the result. It crashes again on the way.
func (c *crashRun) check(disk *crashfs.FS, a allowed, depth int, left string) (err error) {
	c.trials.Add(1)
	fs := crashfs.NewSteps(disk)
	again := c.dice.IntN(12) + 1
	fs.Before(func(n int, what string) error {
		if n != again || depth >= 3 || err != nil {
			return nil
		}
		clone := disk.Crash(crashfs.Loss{KeepPercent: []int{0, 50, 100}[c.dice.IntN(3)], Seed: c.dice.Uint64()})
		if e := c.check(clone, a, depth+1, left); e != nil {
			err = fmt.Errorf("crash of the recovery before %q: %w", what, e)
		}
		return nil
	})
	j, openErr := c.open(fs, left)
	if openErr != nil {
		return openErr
	}
	defer func() { err = errors.Join(err, j.Close()) }()
	if problem := j.Accepting(); problem != nil {
		return problem
	}
	for k, states := range a {
		found, readErr := observe(j, k)
		if readErr != nil {
			return readErr
		}
		ok := false
		for _, s := range states {
			ok = ok || s == found
		}
		if !ok {
			return fmt.Errorf("key %s is %q, may be %q", k, found, states)
		}
	}
	j.table.read(func(s *state) {
		for id, k := range s.packs.all {
			if k.item == nil || s.items[id] != k.item {
				err = fmt.Errorf("pack %d has entries but no record", id)
			}
		}
		for id := range s.orphans {
			if s.items[id] != nil {
				err = fmt.Errorf("the upload of entry %d is listed as an orphan, but the entry exists", id)
			}
		}
	})
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	var stranger error
	j.Ascend("bucket", "", func(e *Entry) bool {
		if _, ok := a[e.Key.Name]; !ok {
			stranger = fmt.Errorf("key %s was never written", e.Key.Name)
		}
		seen[e.Key.Name] = true
		return stranger == nil
	})
	return errors.Join(stranger, put1(j, "after"))
}

// put1 checks that the journal accepts a write.
func put1(j *Journal, name string) error {
	d := j.Receive(4)
	if _, err := d.Write([]byte("body")); err != nil {
		return err
	}
	return j.Commit(context.Background(), d, Entry{Key: key(name), ETag: etag([]byte("body")), Modified: time.Unix(4, 0)})
}

// late is the upstream ETag recorded for an object whose key has since got another entry, and
// lateDate is its upstream date. Both become visible only if the record of that later entry is
// damaged.
const late = "late"

var lateDate = time.Unix(1, 0)

// observe returns the state of a key, after reading its body and comparing it.
func observe(j *Journal, name string) (seen, error) {
	if id, ok := strings.CutPrefix(name, "upload "); ok {
		return observeUpload(j, id)
	}
	if strings.HasPrefix(name, "stream ") {
		return observeStream(j, name)
	}
	e := j.Last(key(name))
	t, ok := j.Translation(key(name))
	if ok && t.Promised == t.Upstream && e == nil { // otherwise the gateway never looks up its dates
		if t.UpstreamModified.Equal(lateDate) { // the later record is damaged
			return seen("late"), nil
		}
		if t.PromisedModified.Unix() != t.Size || t.UpstreamModified.Unix() != t.Size+1 {
			return "", fmt.Errorf("key %s has wrong dates: %+v", name, t)
		}
		return seen("dated " + t.Promised), nil
	}
	if ok && t.Promised != t.Upstream {
		if t.Upstream == late { // the later record is damaged
			return seen("late"), nil
		}
		if e != nil || !strings.HasPrefix(t.Upstream, "upstream of ") || t.Promised != strings.TrimPrefix(t.Upstream, "upstream of ") {
			return "", fmt.Errorf("key %s has an entry and a translation, or a wrong one: %+v, %+v", name, e, t)
		}
		return seen("as " + t.Promised), nil
	}
	if e == nil {
		return "", nil
	}
	if e.Deleted {
		return seen("-" + e.Header.Get("Version")), nil
	}
	if pack, at, ok := j.Packs.Find(e); ok {
		version, _ := strconv.Atoi(e.Header.Get("Version"))
		if body := bodyOf(name, version); pack != key("pack of "+name) || at != 7 || e.ETag != etag(body) || e.Size != int64(len(body)) {
			return "", fmt.Errorf("key %s is at %d in %s", name, at, pack)
		}
		return seen(strconv.Itoa(version)), nil
	}
	if len(e.Parts) > 0 {
		return observeParts(j, e)
	}
	data, err := stretch(j, e, 0, e.Size)
	if err != nil {
		return "", err
	}
	i := bytes.LastIndexByte(data, '/')
	version, _ := strconv.Atoi(string(data[i+1:]))
	if i < 0 || !bytes.Equal(data, bodyOf(name, version)) || e.ETag != etag(data) {
		return "", fmt.Errorf("key %s has a body that no client wrote (%d bytes)", name, len(data))
	}
	return seen(strconv.Itoa(version)), nil
}

func stretch(j *Journal, e *Entry, from, length int64) ([]byte, error) {
	b, err := j.Body(e, from, length)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	return io.ReadAll(b)
}

// observeUpload returns the state of an upload: "" if it does not exist, otherwise its parts with
// their versions.
func observeUpload(j *Journal, id string) (seen, error) {
	u := j.Uploads.Find(id)
	if u == nil {
		return "", nil
	}
	if e := j.Last(u.Key); e != nil && e.UploadID == id {
		return "", fmt.Errorf("upload %s is open and completed", id)
	}
	parts, err := j.Uploads.Parts(u)
	text := "open"
	for _, p := range parts {
		text += partState(p)
	}
	return seen(text), err
}

func partState(p Part) string { return fmt.Sprintf(" %d:%s", p.Number, p.Header.Get("Version")) }

// observeParts returns the state of a key whose body was uploaded in parts.
func observeParts(j *Journal, e *Entry) (seen, error) {
	text, at := "", int64(0)
	for _, p := range e.Parts {
		data, err := stretch(j, e, at, p.Size)
		if err != nil {
			return "", err
		}
		version, _ := strconv.Atoi(p.Header.Get("Version"))
		if !bytes.Equal(data, bodyOf("p", version)) || p.ETag != etag(data) {
			return "", fmt.Errorf("part %d of %s has a body that no client wrote", p.Number, e.Key)
		}
		at += p.Size
		text += partState(p)
	}
	if at != e.Size {
		return "", fmt.Errorf("%s has %d bytes and parts of %d", e.Key, e.Size, at)
	}
	return seen(text), nil
}

// observeStream returns the versions of the records of a stream.
func observeStream(j *Journal, name string) (all seen, err error) {
	latest := 0
	for rec := range j.Records.All {
		if rec.Stream != name {
			continue
		}
		b, err := j.Records.Body(rec)
		if err != nil {
			return "", err
		}
		data, err := io.ReadAll(b)
		if err = errors.Join(err, b.Close()); err != nil {
			return "", err
		}
		version := int(rec.At.Unix())
		if !bytes.Equal(data, bodyOf(name, version)) || version <= latest {
			return "", fmt.Errorf("%s has a record that nobody appended, or they are not in order: %+v", name, rec)
		}
		latest = version
		all += seen(" " + strconv.Itoa(version))
	}
	return all, nil
}

// appendRecords appends a record to each of some streams at once.
func (c *crashRun) appendRecords(j *Journal, x *expectation, next func() int) error {
	var ended []chan error
	for n := range 1 + c.rng.IntN(3) {
		name, v := "stream "+strconv.Itoa(n), next()
		now, err := observeStream(j, name)
		if err != nil {
			return err
		}
		x.begin(name, now+seen(" "+strconv.Itoa(v)))
		d := j.Receive(-1)
		if _, err := d.Write(bodyOf(name, v)); err != nil {
			d.Discard()
			return err
		}
		p, err := j.Records.Prepare(d)
		if err != nil {
			return err
		}
		done := make(chan error, 1)
		if err := p.Append(name, time.Unix(int64(v), 0), func(_ Record, err error) {
			if err == nil {
				x.end(name)
			}
			done <- err
		}); err != nil {
			return err
		}
		ended = append(ended, done)
	}
	var err error
	for _, done := range ended {
		err = errors.Join(err, <-done)
	}
	return err
}

// endRecords releases some records of a stream, as its owner does when the upstream has them.
func (c *crashRun) endRecords(j *Journal, x *expectation) error {
	name := "stream " + strconv.Itoa(c.rng.IntN(3))
	var numbers []uint64
	var left seen
	for rec := range j.Records.All {
		switch {
		case rec.Stream != name:
		case c.rng.IntN(2) == 0:
			numbers = append(numbers, rec.ID)
		default:
			left += seen(" " + strconv.FormatInt(rec.At.Unix(), 10))
		}
	}
	if len(numbers) == 0 {
		return nil
	}
	x.begin(name, left)
	done := make(chan error, 1)
	if err := j.Records.Done(numbers, func(err error) { done <- err }); err != nil {
		return err
	}
	defer j.committer.hasten()()
	err := <-done
	if err == nil {
		x.end(name)
	}
	return err
}

// multipart plays a client that uploads in parts and may then complete or abort the upload.
func (c *crashRun) multipart(j *Journal, x *expectation, k, id string, next func() int) error {
	ctx := context.Background()
	name := "upload " + id
	x.begin(name, "open")
	if err := j.Uploads.Begin(ctx, Upload{ID: id, Key: key(k)}); err != nil {
		return err
	}
	x.end(name)
	u := j.Uploads.Find(id)
	parts := map[int]Part{}
	now := func() string {
		text := ""
		for n := 1; n <= 3; n++ {
			if p, ok := parts[n]; ok {
				text += partState(p)
			}
		}
		return text
	}
	for range c.rng.IntN(5) {
		n, v := 1+c.rng.IntN(3), next()
		body := bodyOf("p", v)
		d := j.Uploads.Receive()
		if _, err := d.Write(body); err != nil {
			return err
		}
		parts[n] = Part{Number: n, ETag: etag(body), Header: http.Header{"Version": {strconv.Itoa(v)}}}
		x.begin(name, seen("open"+now()))
		if err := j.Uploads.AddPart(ctx, u, d, parts[n]); err != nil {
			return err
		}
		x.end(name)
	}
	switch what := c.rng.IntN(4); {
	case what == 0:
		return nil // it stays open
	case what == 1 || len(parts) == 0:
		x.begin(name, "")
		if err := j.Uploads.Abort(ctx, u); err != nil {
			return err
		}
	default:
		if len(parts) > 1 && c.rng.IntN(3) == 0 { // leave one part out
			for n := range parts {
				delete(parts, n)
				break
			}
		}
		e := Entry{Key: key(k)}
		for n := 1; n <= 3; n++ {
			if p, ok := parts[n]; ok {
				e.Parts = append(e.Parts, p)
			}
		}
		x.begin(name, "")
		x.begin(k, seen(now()))
		if err := j.Uploads.Complete(ctx, u, e); err != nil {
			return err
		}
		x.end(k)
	}
	x.end(name)
	return nil
}

// pack flushes an entry in a pack, as the upload pool does.
func (c *crashRun) pack(j *Journal, e *Entry) error {
	ctx := context.Background()
	p, end, err := j.Packs.Begin(ctx, key("pack of "+e.Key.Name))
	if err != nil {
		return err
	}
	if _, _, ok := j.Packs.Find(e); !ok && c.rng.IntN(4) > 0 {
		err = j.Packs.Add(ctx, p, []*Entry{e}, []int64{7})
	}
	end()
	j.Return(e, false)
	return err
}

// work is the workload: the operations of clients and of the upload pool.
func (c *crashRun) work(j *Journal, x *expectation) error {
	ctx := context.Background()
	put := func(k string) error {
		v := int(c.version.Add(1))
		x.begin(k, seen(strconv.Itoa(v)))
		body := bodyOf(k, v)
		d := j.Receive(int64(len(body)))
		if _, err := d.Write(body); err != nil {
			return err
		}
		if err := j.Commit(ctx, d, Entry{Key: key(k), ETag: etag(body), Modified: time.Unix(int64(len(body)), 0), Header: http.Header{"Version": {strconv.Itoa(v)}}}); err != nil {
			return err
		}
		x.end(k)
		return nil
	}
	next := func() int { return int(c.version.Add(1)) }
	for range 25 {
		k := "k" + strconv.Itoa(c.rng.IntN(4))
		var err error
		switch what := c.rng.IntN(100); {
		case what < 12:
			err = put(k)
		case what < 21:
			err = c.appendRecords(j, x, next)
		case what < 27:
			err = c.endRecords(j, x)
		case what < 35:
			err = c.multipart(j, x, k, strconv.FormatUint(c.rng.Uint64(), 16), next)
		case what < 50: // several at once share a sync
			var wait sync.WaitGroup
			errs := make([]error, 4)
			for i := range errs {
				wait.Go(func() { errs[i] = put("k" + strconv.Itoa(i)) })
			}
			wait.Wait()
			err = errors.Join(errs...)
		case what < 65:
			x.begin(k, "-")
			if err = j.Delete(ctx, []akigw.Key{key(k)}, time.Time{}); err == nil {
				x.end(k)
			}
		case what < 70:
			if e := j.Last(key(k)); e != nil {
				err = errors.Join(j.Bury(ctx, e, "why", time.Time{}), j.Revive(ctx, e), j.Uploading(ctx, e.ID, e.Key, "upload"))
			}
		case what < 85: // flushed, in one piece or in parts
			e := j.Take(key(k))
			if e == nil {
				break
			}
			if c.rng.IntN(2) == 0 {
				err = j.Uploading(ctx, e.ID, e.Key, "upload")
			}
			if c.rng.IntN(3) == 0 && !e.Deleted && len(e.Parts) == 0 {
				err = errors.Join(err, c.pack(j, e))
				break
			}
			if c.rng.IntN(3) == 0 && !e.Deleted { // another ETag, for a key that keeps it or gets another object
				x.begin(k, seen("as "+e.ETag))
				if err = errors.Join(err, j.Translate(ctx, e, "upstream of "+e.ETag)); err == nil {
					x.end(k)
				}
				break
			}
			if c.rng.IntN(2) == 0 && !e.Modified.IsZero() { // its date is kept, or discarded when the key gets another object
				x.begin(k, seen("dated "+e.ETag))
				if err = errors.Join(err, j.FlushedNow(ctx, e, Stored{Modified: e.Modified.Add(time.Second)})); err == nil {
					x.end(k)
				}
				break
			}
			x.begin(k, "")
			if err = errors.Join(err, j.Done(ctx, e)); err == nil {
				x.end(k)
			}
			for _, p := range j.EmptyPacks() {
				err = errors.Join(err, j.Packs.Removed(ctx, p))
			}
		default: // replaced during its flush, or discarded
			if t, ok := j.Translation(key(k)); ok && j.Last(key(k)) == nil {
				x.begin(k, "")
				if err = j.Forget(t)(ctx); err == nil {
					x.end(k)
				}
				break
			}
			e := j.Take(key(k))
			if e == nil {
				break
			}
			if err = put(k); err == nil {
				err = []func() error{func() error { return nil }, func() error { return j.Done(ctx, e) }, func() error { return j.Translate(ctx, e, late) }, func() error { return j.FlushedNow(ctx, e, Stored{Modified: lateDate}) }}[c.rng.IntN(4)]()
			}
			j.Return(e, false)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// crashRuns runs workloads until it reaches the given number of trials. It returns the first
// failure.
func crashRuns(seed uint64, trials int, mutate func(vfs.FS) vfs.FS) (done int64, err error) {
	return crashRunsOf(seed, trials, mutate, 1, false)
}

// crashRunsOf is crashRuns with a crash at every n-th call only, for journals with or without a
// second directory. Two workloads run at a time.
func crashRunsOf(seed uint64, trials int, mutate func(vfs.FS) vfs.FS, every int, twice bool) (done int64, err error) {
	var count, next atomic.Int64
	var failed atomic.Pointer[error]
	var workers sync.WaitGroup
	for range 2 {
		workers.Go(func() {
			for count.Load() < int64(trials) && failed.Load() == nil {
				seed := seed + uint64(next.Add(1)) - 1
				c := &crashRun{seed: seed, rng: rand.New(rand.NewPCG(seed, 1)), dice: rand.New(rand.NewPCG(seed, 2)), mutate: mutate, trials: &count, every: every, twice: twice}
				if err := c.run(); err != nil {
					err = fmt.Errorf("AKIGW_SEED=%d: %w", seed, err)
					failed.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	workers.Wait()
	if failed.Load() != nil {
		err = *failed.Load()
	}
	return count.Load(), err
}

func unchanged(fs vfs.FS) vfs.FS { return fs }

// TestT3_B22_PowerCut: no acknowledged write is lost and no deletion is undone, whenever the
// machine crashes, even during recovery. Some journals have a second directory, and either
// directory may be the one that survives.
//
// Scenarios: B22.
func TestT3_B22_PowerCut(t *testing.T) {
	p := testkit.Prove(t, "T3")
	trials, every := p.Amount(500, 20_000, 500_000), 1
	if testkit.Race {
		every = 5
	}
	one, err := crashRunsOf(p.Seed, trials-trials/4, unchanged, every, false)
	if err != nil {
		t.Fatalf("after %d trials: %v", one, err)
	}
	two, err := crashRunsOf(p.Seed, trials/4, unchanged, every, true)
	if err != nil {
		t.Fatalf("after %d trials: %v", two, err)
	}
	p.Figure("crash clones", one+two)
	p.Figure("of which of two directories", two)
}

// lazy is a file system with a seeded bug: it skips some of its syncs.
type lazy struct {
	vfs.FS
	files, dirs bool
	names       bool          // of bodies: directory syncs are skipped
	rotations   *atomic.Int64 // directory syncs so far
}

func (l lazy) Create(name string) (vfs.File, error) {
	f, err := l.FS.Create(name)
	if err != nil || !l.files || !strings.HasSuffix(name, ".seg") {
		return f, err
	}
	return lazyFile{f}, nil
}

func (l lazy) SyncDir(dir string) error {
	if l.dirs && strings.HasSuffix(dir, segmentDir) {
		if l.rotations.Add(1) > 2 { // the first two belong to the start
			return nil
		}
	}
	if l.names && strings.HasSuffix(dir, spoolDir) {
		return nil
	}
	return l.FS.SyncDir(dir)
}

type lazyFile struct{ vfs.File }

func (lazyFile) Sync() error { return nil }

// TestSeededBugs: the trials detect each of these seeded bugs.
//
// Scenarios: B3, B17, C18.
func TestSeededBugs(t *testing.T) {
	for name, mutate := range map[string]func(vfs.FS) vfs.FS{
		"B3 no sync before the acknowledgement":  func(fs vfs.FS) vfs.FS { return lazy{FS: fs, files: true} },
		"C18 no directory sync after a rename":   func(fs vfs.FS) vfs.FS { return lazy{FS: fs, names: true} },
		"B17 no directory sync when one rotates": func(fs vfs.FS) vfs.FS { return lazy{FS: fs, dirs: true, rotations: new(atomic.Int64)} },
	} {
		t.Run(name, func(t *testing.T) {
			n, err := crashRuns(testkit.Seed(t), 1000, mutate)
			if err == nil {
				t.Fatalf("not found in %d trials", n)
			}
			t.Logf("found after %d trials: %v", n, err)
		})
	}
}
