package tiers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/checksum"
	"github.com/akidb/akigw/tiers/cold"
)

const (
	// window is the number of blocks that a fill runs ahead of its fastest
	// reader, and keeps for those close behind, if it is not read ahead.
	window = 4
	// finishBlocks is how much may be missing for a fill to go on when its
	// last reader has left.
	finishBlocks = 32
	// runBlocks is the longest run of missing blocks that one upstream range
	// fetches for a known object.
	runBlocks = 256
	// reachBlocks is how far ahead of a fill a reader waits for it, rather
	// than having what it needs fetched apart.
	reachBlocks = 64
)

var (
	// errAbandoned ends a fill whose last reader left.
	errAbandoned = errors.New("no reader left")
	// errYielded ends a fill whose readers are slow, while others wait for what
	// it holds.
	errYielded = errors.New("others wait")
)

// ErrUncacheable: the upstream's answer has no strong ETag or no length, so
// that the object can only be passed through.
var ErrUncacheable = errors.New("object cannot be cached")

// fill is one upstream GET that brings blocks in, for everybody who waits for
// them. It runs on its own goroutine under its own context; its readers come
// and go. An opening fill does not know the object yet and learns it from the
// answer; the others fetch missing blocks of a known object.
type fill struct {
	key    akigw.Key
	cancel context.CancelCauseFunc
	repeat bool // it takes the place of one that failed
	// wantedLater says that what it brings is going to be read by another
	// request.
	wantedLater bool
	// window is how many blocks it runs ahead of its fastest reader; finish
	// how many may be missing for it to go on when its last reader has left.
	window, finish int64
	// ready is closed when entry is known or the fill has failed.
	ready chan struct{}

	mu      sync.Mutex
	entry   *entry
	start   int64            // the first block
	next    int64            // the first block that has not arrived
	end     int64            // the first block behind the fill
	recent  map[int64][]byte // the last blocks that arrived
	wanted  int64            // the furthest block that a reader asked for
	readers int
	given   bool // cancelled because the last reader left
	ended   bool
	err     error
	moved   chan struct{} // closed and replaced at each change of the above
	release func()        // gives its memory back; nil if none was reserved
	begun   uint64        // when it was made, of an opening, as a generation
}

// newFill makes a fill on behalf of whoever from is of.
func (s *Store) newFill(from context.Context, key akigw.Key) (*fill, context.Context) {
	ctx, cancel := context.WithCancelCause(&cold.FlowContext{Context: s.ctx, Flow: cold.FlowOf(from)})
	return &fill{key: key, cancel: cancel, window: window, finish: finishBlocks, ready: make(chan struct{}), readers: 1, wanted: -1,
		recent: make(map[int64][]byte, window+1), moved: make(chan struct{})}, ctx
}

// free gives reserved memory back once nobody needs it. It needs mu.
func (f *fill) free() {
	if f.release != nil && f.ended && f.readers == 0 {
		f.release()
		f.release = nil
	}
}

// notify needs mu.
func (f *fill) notify() {
	close(f.moved)
	f.moved = make(chan struct{})
}

// detach takes a reader away. A fill without readers ends, unless little is
// missing.
func (f *fill) detach() { f.leave(nil) }

// leave is detach of a reader that has a reason. If it is that the reader met its deadline,
// the upstream did not answer in time; a client that left says nothing of the upstream.
func (f *fill) leave(cause error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.readers--
	if f.readers == 0 {
		if f.entry == nil || f.end-f.next > f.finish {
			f.given = true
			f.cancel(cause)
		}
		f.free()
		f.notify()
	}
}

// block waits for block n. ok is false if n has already left the window.
// waited tells that it was not there at once.
func (f *fill) block(ctx context.Context, n int64) (data []byte, ok, waited bool, err error) {
	for ; ; waited = true {
		f.mu.Lock()
		data, here := f.recent[n]
		passed, ended, err, moved := n < f.next, f.ended, f.err, f.moved
		if f.wanted < n {
			f.wanted = n
			f.notify()
			moved = f.moved
		}
		f.mu.Unlock()
		switch {
		case here:
			return data, true, waited, nil
		case err != nil && !passed:
			return nil, false, waited, err
		case passed || ended:
			return nil, false, waited, nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return nil, false, waited, ctx.Err()
		}
	}
}

// room waits until block n is not too far ahead of the readers. Without
// readers there is nobody to wait for. While others wait for what f holds,
// which contended tells, it does not wait long.
func (f *fill) room(ctx context.Context, n int64, contended func(akigw.Key) bool) error {
	var slow <-chan time.Time
	for {
		f.mu.Lock()
		ok, moved := f.readers == 0 || n <= f.wanted+f.window, f.moved
		f.mu.Unlock()
		if ok {
			if ctx.Err() != nil {
				return errAbandoned
			}
			return nil
		}
		if slow == nil {
			slow = time.After(yieldAfter)
		}
		select {
		case <-moved:
		case <-slow:
			if contended(f.key) {
				return errYielded
			}
			slow = nil
		case <-ctx.Done():
			return errAbandoned
		}
	}
}

// arrived hands block n to the readers.
func (f *fill) arrived(n int64, data []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.recent[n] = data
	delete(f.recent, n-f.window-1)
	f.next = n + 1
	f.notify()
}

// open publishes what the answer says about the object.
func (f *fill) open(e *entry, first, end int64) {
	f.mu.Lock()
	f.entry, f.start, f.next, f.end = e, first, first, end
	f.wanted = max(f.wanted, first)
	f.mu.Unlock()
	close(f.ready)
}

// close ends the fill for all readers.
func (f *fill) close(err error) {
	f.cancel(nil)
	f.mu.Lock()
	f.ended, f.err = true, err
	if errors.Is(err, errYielded) && f.release != nil { // its readers have what they need fetched again
		clear(f.recent)
		f.release()
		f.release = nil
	}
	f.free()
	f.notify()
	f.mu.Unlock()
	select {
	case <-f.ready:
	default:
		close(f.ready)
	}
}

// join returns the fill that will learn what key holds, and whether this call
// started it. The caller must detach from it.
func (s *Store) join(from context.Context, key akigw.Key, spec akigw.RangeSpec) (f *fill, leader bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.openings[key]; f != nil && f.attach() {
		return f, false
	}
	f, ctx := s.newFill(from, key)
	f.begun = s.fence.generation()
	s.openings[key] = f
	s.work.Go(func() {
		err := s.runOpening(ctx, f, spec)
		s.mu.Lock()
		if s.openings[key] == f {
			delete(s.openings, key)
		}
		s.forget(f)
		s.mu.Unlock()
		f.close(err)
	})
	return f, true
}

// attach adds a reader, unless the fill is over.
func (f *fill) attach() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended || f.given {
		return false
	}
	f.readers++
	return true
}

// runOpening asks for the object, learns what it is, and brings its blocks in.
// It publishes the entry at the end: then length and checksum have agreed.
func (s *Store) runOpening(ctx context.Context, f *fill, spec akigw.RangeSpec) error {
	generation := s.fence.enter(f.key)
	defer s.fence.leave(f.key)
	asked := time.Now()
	block := s.settings(f.key).Block
	resp, err := s.upstream.Do(ctx, &cold.Request{Op: "GetObject", Method: http.MethodGet, Key: f.key, Header: s.readHeader(alignedRange(spec, block), "")})
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusPartialContent {
		err := cold.NewResponseError(resp)
		s.rememberAbsence(f.key, generation, asked, err, false)
		return err
	}
	defer resp.Body.Close()
	got, size, err := answeredRange(resp)
	if err != nil {
		return err
	}
	if !strongETag(resp.Header.Get("Etag")) {
		return ErrUncacheable
	}
	e := s.newEntry(objectOf(f.key, resp.Header, size), generation, asked)
	e.block, e.strong = block, strongValidator(resp.Header)
	if !e.asked() {
		return ErrUncacheable
	}
	if !s.settings(f.key).CachedSize(size) {
		s.publish(e) // so that the next reader knows at once
		return ErrUncacheable
	}
	first, end := wholeBlocks(got, size, block)
	large := s.parallel(e)
	if large { // the rest comes by parallel requests
		end = min(end, s.segmentEnd(e, first))
	}
	if _, err := io.CopyN(io.Discard, resp.Body, min(first*block, got.End())-got.Start); err != nil {
		return fmt.Errorf("%w: %s: %w", akigw.ErrShortBody, f.key, err)
	}
	if size == 0 {
		e.body = []byte{}
		s.publish(e)
	}
	if err := s.reserve(ctx, f, e, first, end); err != nil {
		return err
	}
	f.open(e, first, end)
	s.mu.Lock()
	s.fills[e.blocks] = append(s.fills[e.blocks], f)
	s.mu.Unlock()
	var digest *checksum.Digest
	if got.Length == size && !large { // else the reader does it
		digest = checksum.OfObject(resp.Header, s.config.MD5ETags)
	}
	err = s.receive(ctx, f, resp.Body, digest, s.publish)
	switch {
	case (errors.Is(err, errAbandoned) || errors.Is(err, errYielded)) && s.ctx.Err() == nil && f.next > first:
		s.publish(e) // what came is good, and the rest can be fetched later
	case err != nil:
		s.discard(e, first, f.next)
	}
	return err
}

// reserve takes memory for a fill of blocks first to end of e, if it has none
// yet. It is for the fill's own goroutine.
func (s *Store) reserve(ctx context.Context, f *fill, e *entry, first, end int64) error {
	f.mu.Lock()
	has := f.release != nil
	f.mu.Unlock()
	if has {
		return nil
	}
	release, err := s.windows.take(ctx, f.key, windowBytes(e, first, end))
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.release = release
	return nil
}

// discard takes back blocks first to end of an object that turned out bad, and
// its entry, which somebody's validation may have published.
func (s *Store) discard(e *entry, first, end int64) {
	s.dropEntry(e.Key)
	for n := first; n < end; n++ {
		s.hot.Drop(hotKey{blocks: e.blocks, n: n})
	}
	s.freeBlocks(e.blocks)
}

// newEntry makes the entry of an object that was learned by a request to the
// upstream that began at asked.
func (s *Store) newEntry(o akigw.Object, generation uint64, asked time.Time) *entry {
	o.Generation = generation
	return &entry{Object: o, blocks: generation, object: objectNumber(o.Key), block: s.settings(o.Key).Block, origin: s.upstream.Origin(o.Key.Bucket), validated: asked, run: s.run}
}

// runRange fetches blocks first to end of a known object.
func (s *Store) runRange(ctx context.Context, f *fill, e *entry, first, end int64) error {
	generation := s.fence.enter(f.key)
	defer s.fence.leave(f.key)
	if err := s.reserve(ctx, f, e, first, end); err != nil {
		return err
	}
	want := akigw.Range{Start: first * e.block}
	want.Length = min(end*e.block, e.Size) - want.Start
	header := s.readHeader(fmt.Sprintf("bytes=%d-%d", want.Start, want.End()-1), e.ETag)
	if want.Length == e.Size {
		header.Del("Range")
	}
	resp, err := s.upstream.Do(ctx, &cold.Request{Op: "GetObject", Method: http.MethodGet, Key: f.key, Header: header, Repeat: f.repeat, Bytes: want.Length})
	if err != nil {
		return err
	}
	switch resp.StatusCode {
	case http.StatusOK, http.StatusPartialContent:
	case http.StatusPreconditionFailed, http.StatusNotFound, http.StatusRequestedRangeNotSatisfiable:
		resp.Body.Close()
		s.dropEntry(f.key)
		return fmt.Errorf("%w: %s", akigw.ErrChanged, f.key)
	default:
		return cold.NewResponseError(resp)
	}
	defer resp.Body.Close()
	got, size, err := answeredRange(resp)
	if err != nil {
		return err
	}
	if resp.StatusCode == http.StatusOK && want.Length < e.Size && s.noRanges.add(e.origin) {
		s.log.Warn("the upstream answers ranges with whole objects: large objects are fetched by one request from now on", "key", f.key.String())
	}
	if size != e.Size || resp.Header.Get("Etag") != e.ETag {
		s.dropEntry(f.key)
		return fmt.Errorf("%w: %s", akigw.ErrChanged, f.key)
	}
	if got.Start > want.Start || got.End() < want.End() {
		return fmt.Errorf("%w: %s: asked for %s, got %s", akigw.ErrShortBody, f.key, want.ContentRange(size), got.ContentRange(size))
	}
	if _, err := io.CopyN(io.Discard, resp.Body, want.Start-got.Start); err != nil {
		return fmt.Errorf("%w: %s: %w", akigw.ErrShortBody, f.key, err)
	}
	var digest *checksum.Digest
	if got.Length == size && end*e.block >= size {
		digest = checksum.OfObject(resp.Header, s.config.MD5ETags)
	}
	err = s.receive(ctx, f, resp.Body, digest, func(filled *entry) {
		if filled != e {
			filled.Generation = generation
			s.publish(filled)
		}
	})
	if errors.Is(err, akigw.ErrChecksum) {
		s.discard(e, first, f.next)
	}
	return err
}

// receive reads the blocks of f from body and hands them on. The last one is
// withheld until the digest, if there is one, was found right and publish was
// called: who has read everything finds it cached. For a small object the
// published entry is one with the bytes in it.
func (s *Store) receive(ctx context.Context, f *fill, body io.Reader, digest *checksum.Digest, publish func(*entry)) error {
	e, settings := f.entry, s.settings(f.key)
	for n := f.next; n < f.end; n++ {
		if err := f.room(ctx, n, s.contended); err != nil {
			if errors.Is(err, errYielded) {
				s.counters.yields.Inc()
			}
			return err
		}
		data := make([]byte, e.blockLen(n))
		if _, err := io.ReadFull(body, data); err != nil {
			if ctx.Err() != nil {
				return errAbandoned
			}
			return fmt.Errorf("%w: %s at block %d: %w", akigw.ErrShortBody, f.key, n, err)
		}
		if digest != nil {
			digest.Write(data)
			if n == f.end-1 {
				if err := s.judge(e, digest, s.fence.generation()); err != nil {
					return err
				}
			}
		}
		if e.inline(int64(s.config.SmallBytes)) {
			small := *e
			small.body = data
			e = &small
		} else {
			s.putBlock(e.Key, settings, e.warmRun(), n, data, f.wantedLater)
		}
		if n == f.end-1 {
			publish(e)
		}
		f.arrived(n, data)
	}
	return nil
}

// judge compares the digest of a whole body with what came with it. transfer is
// a generation that names the transfer which brought it.
func (s *Store) judge(e *entry, digest *checksum.Digest, transfer uint64) error {
	if digest.OK() || s.suspects.confirms(e, digest.Sum(nil), transfer) {
		return nil
	}
	s.log.Error("the upstream sent a body that does not match its checksum; it is not cached and its readers are cut off", "key", e.Key.String(), "etag", e.ETag)
	return fmt.Errorf("%w: %s", akigw.ErrChecksum, e.Key)
}

// fetch returns a fill that brings block n of e: one under way, or a new one
// over the run of missing blocks from n up to end. The caller must detach. It is
// nil if the block has come since it was looked for, unless it is known to be
// missing.
func (s *Store) fetch(from context.Context, e *entry, n, end int64, repeat, missing bool) *fill {
	last := s.missingUntil(e, n+1, end)
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.attachTo(e, n, reachBlocks); f != nil {
		return f
	}
	if !missing && s.locate(e, n) != akigw.Cold {
		return nil
	}
	f, ctx := s.newFill(from, e.Key)
	f.repeat = repeat
	s.begin(ctx, f, e, n, last)
	return f
}

// missingUntil is the end of the run of missing blocks that starts at n, at most
// end.
func (s *Store) missingUntil(e *entry, n, end int64) int64 {
	for n < end && s.locate(e, n) == akigw.Cold {
		n++
	}
	return n
}

// attachTo finds a fill that brings block n of e and is no more than reach
// blocks away from it. It needs mu.
func (s *Store) attachTo(e *entry, n, reach int64) *fill {
	for _, f := range s.fills[e.blocks] {
		if f.covers(n, reach) && f.attach() {
			return f
		}
	}
	return nil
}

// begin starts f on blocks first to end of e. It needs mu.
func (s *Store) begin(ctx context.Context, f *fill, e *entry, first, end int64) {
	f.open(e, first, end)
	s.fills[e.blocks] = append(s.fills[e.blocks], f)
	s.work.Go(func() {
		err := s.runRange(ctx, f, e, first, end)
		s.mu.Lock()
		s.forget(f)
		s.mu.Unlock()
		f.close(err)
	})
}

// forget takes f out of those that bring blocks of an object. It needs mu.
func (s *Store) forget(f *fill) {
	if f.entry == nil {
		return // it never learned which
	}
	blocks := f.entry.blocks
	s.fills[blocks] = slices.DeleteFunc(s.fills[blocks], func(other *fill) bool { return other == f })
	if len(s.fills[blocks]) == 0 {
		delete(s.fills, blocks)
	}
}

// covers reports whether block n just came, or is still to come within the next
// reach blocks.
func (f *fill) covers(n, reach int64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, here := f.recent[n]
	return here || n >= f.next && n < min(f.end, f.next+reach)
}

// readHeader makes the headers of a GET. Checksums are always asked for: they
// are what the body is verified with, and clients may ask for them later.
func (s *Store) readHeader(byteRange, ifMatch string) http.Header {
	h := http.Header{"X-Amz-Checksum-Mode": {"ENABLED"}}
	if byteRange != "" {
		h.Set("Range", byteRange)
	}
	if ifMatch != "" {
		h.Set("If-Match", ifMatch)
	}
	return h
}

// alignedRange widens a range to whole blocks of size bytes, "" for the whole object. A
// suffix range is widened by one block, so that it holds a block boundary
// whatever the size turns out to be.
func alignedRange(spec akigw.RangeSpec, size int64) string {
	if spec.Whole() {
		return ""
	}
	if n, ok := spec.Suffix(); ok {
		if n > 1<<62 {
			return ""
		}
		return "bytes=-" + strconv.FormatInt(n+size, 10)
	}
	first, last := spec.Bounds()
	start := first - first%size
	if last < 0 || last > 1<<62 {
		return fmt.Sprintf("bytes=%d-", start)
	}
	return fmt.Sprintf("bytes=%d-%d", start, last-last%size+size-1)
}

// wholeBlocks gives the blocks that lie completely inside a received range.
func wholeBlocks(got akigw.Range, size, block int64) (first, end int64) {
	first = (got.Start + block - 1) / block
	end = got.End() / block
	if got.End() == size {
		end = (size + block - 1) / block
	}
	return first, max(first, end)
}

// answeredRange reads which bytes of how many a 200 or 206 carries.
func answeredRange(resp *http.Response) (akigw.Range, int64, error) {
	if resp.ContentLength < 0 {
		return akigw.Range{}, 0, ErrUncacheable
	}
	if resp.StatusCode == http.StatusOK {
		return akigw.Range{Length: resp.ContentLength}, resp.ContentLength, nil
	}
	if cold.NoBytes(resp) {
		return akigw.Range{}, 0, nil
	}
	var first, last, size int64
	value := resp.Header.Get("Content-Range")
	if _, err := fmt.Sscanf(strings.TrimSpace(value), "bytes %d-%d/%d", &first, &last, &size); err != nil ||
		first < 0 || last < first || last >= size || last-first+1 != resp.ContentLength {
		return akigw.Range{}, 0, fmt.Errorf("%w: upstream answered with Content-Range %q and Content-Length %d", ErrUncacheable, value, resp.ContentLength)
	}
	return akigw.Range{Start: first, Length: last - first + 1}, size, nil
}
