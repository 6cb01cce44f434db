package tiers

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/akidb/akigw/tiers/cold"
)

const (
	// maxPageBytes bounds the memory for pages.
	maxPageBytes = 8 << 20
	// pageAge is how long a page is used.
	pageAge = 10 * time.Minute
	// confirmsFor is how long a page proves that the upstream responds.
	confirmsFor = 10 * time.Second
	// pagePatience is how long a reader waits for a page on which its key may be: about as long as
	// the HEAD would take that it saves. After that, nobody waits for this page.
	pagePatience = 250 * time.Millisecond
	// listPatience is how long an upstream may take for a page.
	listPatience = 10 * time.Second
)

// At the prices of S3, a page costs as much as 60 HEADs: 12 for the request, the rest for its 200
// KiB. It is useless where only single objects of a bucket are read. So each bucket has a credit
// for pages, in 1/64 of a HEAD: HEADs that are saved add to it, and HEADs that are sent add a
// little, so that pages are tried again one day.
const (
	creditSent  = 1
	creditSaved = 64
	pagePrice   = 64 * creditSaved
	firstCredit = 2 * pagePrice
	mostCredit  = 4 * pagePrice
	// maxCredits bounds the memory. Beyond it, all buckets start anew.
	maxCredits = 10_000
)

// pages are parts of listings. Each says of up to a thousand objects when the upstream stored them,
// and that it has them. They are used in mode Exclusive only: an object that was written before a
// page was requested, and not since, is the one that the page shows.
//
// A page is loaded in the background when an object needs a HEAD, and begins after that object's
// key. It is used once a HEAD of some other object has agreed with it. A page that fails, or never
// arrives, costs no more than HEADs.
type pages struct {
	upstream   Upstream
	tasks      *tasks
	generation func() uint64 // see fence
	counters   *counters

	mu      sync.Mutex
	loaded  []*page          // the oldest first; guarded by mu
	loading map[string]*page // by bucket; guarded by mu
	bytes   int              // of the loaded pages; guarded by mu
	credit  map[string]int   // by bucket; guarded by mu
}

func newPages(c *catalog, upstream Upstream, background *tasks) *pages {
	return &pages{
		upstream: upstream, tasks: background, generation: c.fence.generation, counters: c.counters,
		loading: make(map[string]*page), credit: make(map[string]int),
	}
}

// page is one page of a listing.
type page struct {
	bucket     string
	origin     uint64
	after      string        // it begins after this key
	generation uint64        // assigned before it was requested
	asked      time.Time     // when it was requested
	done       chan struct{} // closed when it was loaded, or failed

	objects map[string]listedObject // by key; set once, before the page is in pages.loaded
	bytes   int                     // of objects
	proven  bool                    // a HEAD agreed with it; guarded by pages.mu
}

type listedObject struct {
	etag     string // without quotes
	size     int64
	modified time.Time // in whole seconds, as in headers
}

// is reports whether o is the object of e.
func (o *listedObject) is(e *entry) bool {
	return o.etag == strings.Trim(e.ETag, `"`) && o.size == e.Size && (e.LastModified.IsZero() || e.LastModified.Equal(o.modified))
}

// modified returns when the upstream stored the object of e, from a page that was requested no
// longer than an age ago. If that is not known without asking for this object, it returns the zero
// time.
func (p *pages) modified(ctx context.Context, e *entry, age time.Duration) time.Time {
	date, wait := p.lookUp(e, age)
	if wait == nil {
		return date
	}
	timer := time.NewTimer(time.Until(wait.asked.Add(pagePatience)))
	defer timer.Stop()
	select {
	case <-wait.done:
	case <-timer.C:
	case <-ctx.Done():
	}
	date, _ = p.lookUp(e, age)
	return date
}

// lookUp returns the date of the object of e on a page that was requested no longer than an age ago.
// If there is none, it returns the zero time, and the page on which e may be once it is loaded; nil
// if there is no such page. Then it has a page loaded that begins after e, for the objects that are
// read next.
func (p *pages) lookUp(e *entry, age time.Duration) (date time.Time, wait *page) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if pg, date := p.findLocked(e, age); pg != nil {
		if !pg.proven {
			return time.Time{}, nil // the HEAD for e proves it
		}
		p.earnLocked(e.Key.Bucket, creditSaved)
		return date, nil
	}
	loading := p.loading[e.Key.Bucket]
	if loading == nil {
		p.startLocked(e)
	} else if loading.covers(e) && loading.after < e.Key.Name && time.Since(loading.asked) < pagePatience {
		return time.Time{}, loading
	}
	return time.Time{}, nil
}

// covers reports whether a page can tell about e: it was requested after e was written.
func (pg *page) covers(e *entry) bool {
	return pg.bucket == e.Key.Bucket && pg.origin == e.origin && pg.generation > e.Generation
}

// findLocked returns a page that shows the object of e, nil for none, and its date there. A proven
// page is preferred.
func (p *pages) findLocked(e *entry, age time.Duration) (found *page, modified time.Time) {
	for _, pg := range p.loaded {
		o, ok := pg.objects[e.Key.Name]
		if ok && o.is(e) && pg.covers(e) && time.Since(pg.asked) <= age && (found == nil || pg.proven) {
			found, modified = pg, o.modified
		}
	}
	return found, modified
}

// earnLocked adds to the credit of a bucket, and returns it.
func (p *pages) earnLocked(bucket string, n int) int {
	have, known := p.credit[bucket]
	if !known {
		have = firstCredit
		if len(p.credit) >= maxCredits {
			clear(p.credit)
		}
	}
	p.credit[bucket] = min(have+n, mostCredit)
	return p.credit[bucket]
}

// startLocked has a page loaded that begins after e, if the credit of its bucket allows that.
func (p *pages) startLocked(e *entry) {
	bucket := e.Key.Bucket
	if p.earnLocked(bucket, 0) < pagePrice || p.tasks.closing() {
		return
	}
	p.earnLocked(bucket, -pagePrice)
	pg := &page{bucket: bucket, origin: e.origin, after: e.Key.Name, generation: p.generation(), asked: time.Now(), done: make(chan struct{})}
	p.loading[bucket] = pg
	p.tasks.start(func() { p.load(pg) })
}

// load loads a page.
func (p *pages) load(pg *page) {
	ctx, cancel := context.WithTimeout(&cold.FlowContext{Context: p.tasks.ctx, Flow: cold.Flow{ID: "akigw dates"}}, listPatience)
	defer cancel()
	objects, err := cold.ListPage(ctx, p.upstream, pg.bucket, pg.after)
	if err == nil {
		pg.take(objects)
		p.counters.pagesLoaded.Inc()
	} else { // the readers of these objects send HEADs
		p.counters.pagesFailed.Inc()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	defer close(pg.done)
	delete(p.loading, pg.bucket)
	if err != nil {
		return
	}
	p.loaded = append(p.loaded, pg)
	for p.bytes += pg.bytes; p.bytes > maxPageBytes || time.Since(p.loaded[0].asked) > pageAge; {
		p.bytes -= p.loaded[0].bytes
		if p.loaded = p.loaded[1:]; len(p.loaded) == 0 {
			break
		}
	}
}

// take records the objects of a page. One without a date is left out.
func (pg *page) take(all []cold.Listed) {
	pg.objects = make(map[string]listedObject, len(all))
	for _, o := range all {
		modified, err := time.Parse(time.RFC3339, o.LastModified)
		if err != nil || modified.IsZero() {
			continue
		}
		pg.objects[o.Key] = listedObject{strings.Trim(o.ETag, `"`), o.Size, modified.Truncate(time.Second)}
		pg.bytes += 128 + len(o.Key) + len(o.ETag)
	}
}

// compare compares the pages that show e with what the response to a HEAD has shown of it. A page
// that disagrees is dropped.
func (p *pages) compare(e, shown *entry) (agreed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.earnLocked(e.Key.Bucket, creditSent)
	agreed = true
	kept := p.loaded[:0:0]
	for _, pg := range p.loaded {
		o, ok := pg.objects[e.Key.Name]
		if ok && pg.covers(e) {
			if !o.is(shown) || shown.LastModified.IsZero() {
				p.bytes -= pg.bytes
				agreed = false
				continue
			}
			pg.proven = true
		}
		kept = append(kept, pg)
	}
	p.loaded = kept
	return agreed
}
