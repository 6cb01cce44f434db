package tiers

import (
	"io"
	"net/http"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/rules"
)

// PassingRead is a read that goes past the tiers to the upstream, while they keep what the upstream sends:
// shadow mode with bodies (rules.ShadowBodies). It is for one goroutine, which must call End.
type PassingRead struct {
	source     *source
	settings   *rules.Settings
	key        akigw.Key
	generation uint64 // assigned before the request is sent
	asked      time.Time
	known      *entry        // what the tiers had, nil for nothing
	tier       akigw.Outcome // that had it
	entry      *entry        // the object that passes; nil: it is not kept
	got        akigw.Range   // the part of it that passes
	at         int64         // offset of the next byte
	block      []byte        // the current block, nil if its beginning did not pass
	verifier   *verifier     // nil unless the whole body passes
	body       *sharedBlock  // of a small object
}

// Found is what the tiers had of the range of an object that passed.
type Found struct {
	// Entry is the tier that had the entry of the key, of whichever version; Cold: neither.
	Entry akigw.Outcome
	// Slowest is the slowest tier that a read of the range would have needed.
	Slowest akigw.Outcome
	// Runs and Missing are how many runs of consecutive blocks neither tier had, and their bytes.
	Runs    int
	Missing int64
}

// Pass begins a read that passes. It returns nil where the tiers keep nothing of such reads.
func (s *Store) Pass(key akigw.Key) *PassingRead {
	settings := s.settings(key)
	if settings.Shadow != rules.ShadowBodies || !settings.Cached() || s.hasPending(key) {
		return nil
	}
	p := &PassingRead{source: s.source, settings: settings, key: key, asked: time.Now(), generation: s.fence.enter(key)}
	p.known, p.tier = s.lookup(key)
	return p
}

// Answer takes the upstream's response, and returns what the tiers had of it. From then on the body of
// the response enters the tiers while it is read. A response that cannot be cached only passes. head says
// that it is a response to a HEAD.
func (p *PassingRead) Answer(resp *http.Response, head bool) *Found {
	found := &Found{Entry: p.tier, Slowest: p.tier}
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusPartialContent {
		if p.known != nil && deleted(resp.StatusCode) {
			p.source.dropUpTo(p.key, p.generation)
		}
		return found
	}
	got, size, err := answeredRange(resp)
	if err != nil || !strongETag(resp.Header.Get("Etag")) || !p.settings.CachedSize(size) {
		return found
	}
	e := p.source.newEntry(objectOf(p.key, resp.Header, size), p.generation, p.asked)
	e.block, e.strong = p.settings.Block, strongValidator(resp.Header)
	if !e.asked() {
		return found
	}
	if p.known == nil { // another read may have brought it in meanwhile
		p.known = p.source.peek(p.key)
	}
	p.entry, p.got = p.source.validator.merge(e, p.known), got
	if head {
		return found
	}
	if p.known != nil {
		p.locate(found)
	}
	p.begin(resp)
	return found
}

// locate looks for the blocks of the range in the version that the tiers had.
func (p *PassingRead) locate(found *Found) {
	e, want := p.known, p.got
	if want.Length == p.entry.Size {
		want.Length = e.Size
	}
	if e.body != nil || want.Length == 0 || want.End() > e.Size {
		return
	}
	missing := false
	for n := want.Start / e.block; n < e.blocksUpTo(want.End()); n++ {
		tier := p.source.locate(e, n)
		if tier == akigw.Cold {
			found.Slowest = akigw.Cold
			found.Missing += e.blockLen(n)
			if !missing {
				found.Runs++
			}
		} else if tier == akigw.Warm && found.Slowest == akigw.Hot {
			found.Slowest = akigw.Warm
		}
		missing = tier == akigw.Cold
	}
}

// begin has the body enter the tiers while it is read.
func (p *PassingRead) begin(resp *http.Response) {
	if p.entry.body != nil {
		return
	}
	p.at = p.got.Start
	if p.got.Length == p.entry.Size {
		p.verifier = p.source.fetcher.verifier(resp.Header, p.entry.blocksUpTo(p.entry.Size))
	}
	resp.Body = &passingBody{resp.Body, p}
}

// passingBody is the body of a response that passes.
type passingBody struct {
	io.ReadCloser
	read *PassingRead
}

// Read implements io.Reader.
func (b *passingBody) Read(to []byte) (int, error) {
	n, err := b.ReadCloser.Read(to)
	b.read.take(to[:n])
	return n, err
}

// take adds the next bytes of the body.
func (p *PassingRead) take(data []byte) {
	for len(data) > 0 && p.at < p.got.End() {
		n, offset := p.at/p.entry.block, p.at%p.entry.block
		if offset == 0 {
			p.block = p.source.buffers.get(p.entry.block)
		}
		length := min(int64(len(data)), p.entry.blockLen(n)-offset)
		if p.block != nil {
			p.block = append(p.block, data[:length]...)
		}
		data, p.at = data[length:], p.at+length
		if p.block != nil && int64(len(p.block)) == p.entry.blockLen(n) {
			p.put(n)
		}
	}
}

// put stores the current block, unless it is in the tiers. The body of a small object waits for End.
func (p *PassingRead) put(n int64) {
	b := newBlock(p.block, &p.source.buffers).trim()
	p.block = nil
	p.verifier.write(b, b.data)
	if p.source.small(p.entry) {
		p.body = b
		return
	}
	if held, tier := p.source.block(p.entry, n); held != nil {
		p.source.saw(p.entry, n, tier)
		held.release()
	} else {
		p.source.saw(p.entry, n, akigw.Cold)
		p.source.putBlock(p.key, p.settings, p.entry.warmRun(), n, b, false)
	}
	b.release()
}

// End ends the read. What passed of a body stays in the tiers, unless the whole body does not match its
// checksum.
func (p *PassingRead) End() {
	defer p.source.fence.leave(p.key)
	defer p.verifier.stop()
	if p.block != nil {
		p.source.buffers.put(p.block)
	}
	if p.entry == nil || p.verifier == nil || p.at < p.got.End() {
		return
	}
	if err := p.source.fetcher.judge(p.entry, p.verifier, p.generation); err != nil {
		p.source.fetcher.discard(p.entry, 0, p.entry.blocksUpTo(p.entry.Size))
		return
	}
	if p.body != nil {
		e := *p.entry
		e.body = p.body.data // for as long as the entry lives, so it is not released
		p.source.publish(&e)
	}
}
