package tiers

import (
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// proofs is how many HEADs must agree with the prediction before one is trusted.
	proofs = 8
	// sampleEvery is how many predictions are trusted before the next one is compared with a HEAD.
	sampleEvery = 1000
	// maxShapes bounds the memory, at about 1 KiB each. Objects of further shapes need HEADs.
	maxShapes = 10_000
)

// predictions say which headers the upstream will show for the objects that this gateway writes, so
// that the first read of each need not ask. They are those of the upload's request and of its
// response, and what the upstream adds to every object. It is used in mode Exclusive only, where
// nobody else writes.
//
// A gateway cannot know what each upstream makes of a header. So objects of one bucket that were
// written with the same headers form a shape, and a prediction is trusted once some HEADs of the
// shape have agreed with it. A later one that disagrees ends that until a restart.
type predictions struct {
	log      *slog.Logger
	counters *counters

	mu     sync.Mutex
	shapes map[shapeID]*shape      // guarded by mu
	parts  map[partsShapeID]*trial // guarded by mu
}

func newPredictions(s *storage) *predictions {
	return &predictions{log: s.log, counters: s.counters, shapes: make(map[shapeID]*shape), parts: make(map[partsShapeID]*trial)}
}

// shapeID identifies the objects of a shape.
type shapeID struct {
	origin uint64
	bucket string
	parts  bool   // the objects were uploaded in parts
	names  string // of the predicted headers
}

// shape is what HEADs of such objects have shown.
type shape struct {
	added http.Header // what the upstream adds to every object
	trial
}

// trial is how predictions of one kind have done.
type trial struct {
	agreed int  // HEADs that agreed with the prediction
	used   int  // predictions since then
	wrong  bool // a HEAD disagreed
}

// trusted reports whether predictions may be used.
func (t *trial) trusted() bool { return t != nil && t.agreed >= proofs && !t.wrong }

// use reports whether a prediction is to be used now. Sometimes a HEAD is to be compared with it instead.
func (t *trial) use() bool {
	if !t.trusted() {
		return false
	}
	t.used++
	return t.used%sampleEvery != 0
}

// shapeOf returns the shape of an entry with predicted headers. The names of user metadata do not
// matter, because S3 treats them all alike.
func shapeOf(e *entry) shapeID {
	names := make([]string, 0, len(e.predicted))
	for name := range e.predicted {
		if strings.HasPrefix(name, metadataPrefix) {
			name = metadataPrefix
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return shapeID{e.origin, e.Key.Bucket, strings.Contains(e.ETag, "-"), strings.Join(slices.Compact(names), " ")}
}

// predict adds to the entry of an object that was just written what is known of its headers. The
// arguments are those of Write.Written.
func (p *predictions) predict(e *entry, sent, answer, seen http.Header) {
	if e.predicted = PredictHeader(sent, answer); e.predicted == nil {
		return
	}
	if seen.Get("Etag") == e.ETag {
		e.LastModified, _ = http.ParseTime(seen.Get("Last-Modified")) // absent stays zero
	}
	if !e.LastModified.IsZero() {
		p.complete(e, e.LastModified)
	}
}

// complete makes the headers of an entry known: the predicted ones, and the date at which the
// upstream stored the object. It reports whether the prediction is trusted; if not, e is unchanged.
func (p *predictions) complete(e *entry, modified time.Time) bool {
	id := shapeOf(e)
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.shapes[id]
	if s == nil || !s.use() {
		return false
	}
	p.counters.savedHeads.Inc()
	e.Header = s.header(e)
	e.Header["Last-Modified"] = []string{modified.UTC().Format(http.TimeFormat)}
	e.LastModified, e.predicted = modified, nil
	return true
}

// trusts reports whether the predicted headers of an entry can be used.
func (p *predictions) trusts(e *entry) bool {
	id := shapeOf(e)
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.shapes[id]
	return s != nil && s.trusted()
}

// compare compares the prediction for e with what the upstream has shown of the same object.
func (p *predictions) compare(e, shown *entry) {
	id := shapeOf(e)
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.shapes[id]
	if s == nil {
		if len(p.shapes) >= maxShapes {
			return
		}
		s = &shape{added: additions(e.predicted, shown.Header)}
		p.shapes[id] = s
	}
	if s.wrong {
		return
	}
	name := difference(s.header(e), shown.Header)
	if shown.LastModified.IsZero() || !e.LastModified.IsZero() && !e.LastModified.Equal(shown.LastModified) {
		name = "Last-Modified"
	}
	if name == "" {
		s.agreed++
		return
	}
	s.wrong = true
	p.counters.wrongHeaders.Inc()
	p.log.Warn("the headers of an object that the gateway has written are not those that it expected: from now on each object of the bucket that is written with the same headers needs a HEAD", "key", e.Key.String(), "header", name)
}

// header returns the headers that the upstream will show for an object of the shape, except
// Last-Modified.
func (s *shape) header(e *entry) http.Header {
	h := make(http.Header, len(e.predicted)+len(s.added)+1)
	maps.Copy(h, s.added)
	maps.Copy(h, e.predicted)
	return h
}

// additions returns what an upstream has added to the predicted headers, as far as it does so to
// every object. Anything else is a difference: it may change with time, as the state of a
// replication does.
func additions(predicted, shown http.Header) http.Header {
	added := http.Header{}
	for _, name := range [...]string{"Accept-Ranges", "Content-Type", "X-Amz-Checksum-Type"} {
		if values, ok := shown[name]; ok && predicted[name] == nil {
			added[name] = values
		}
	}
	return added
}

// difference returns the name of a header, other than Last-Modified, that is not the same in both;
// "" if there is none.
func difference(a, b http.Header) string {
	for _, h := range [...]http.Header{a, b} {
		for name := range h {
			if name != "Last-Modified" && !slices.Equal(a[name], b[name]) {
				return name
			}
		}
	}
	return ""
}

// PredictHeader returns the headers that an upstream will show for an object: those of the request
// and of the response of its PUT. It returns nil if the upstream may show something else. All that
// was sent and may be shown is in it, so that it is part of the shape; the upstream may ignore it. The
// values are shared with the arguments.
func PredictHeader(sent, answer http.Header) http.Header {
	h := make(http.Header, len(sent)+len(answer))
	for name, values := range sent {
		switch {
		case shownAsSent(name):
			if !plainText(values) {
				return nil
			}
			h[name] = values
		case strings.HasPrefix(name, amzPrefix) && !neverShown(name):
			return nil
		}
	}
	for name, values := range ObjectHeader(answer) {
		if name == "Etag" || strings.HasPrefix(name, amzPrefix) {
			h[name] = values
		}
	}
	if (sent["X-Amz-Sdk-Checksum-Algorithm"] != nil || sent["X-Amz-Checksum-Algorithm"] != nil) && !hasChecksum(h) { // the upstream has computed it
		return nil
	}
	if h.Get("X-Amz-Storage-Class") == "STANDARD" { // S3 does not show it
		delete(h, "X-Amz-Storage-Class")
	}
	return h
}

const (
	amzPrefix      = "X-Amz-"
	metadataPrefix = "X-Amz-Meta-"
	checksumPrefix = "X-Amz-Checksum-"
)

// shownAsSent reports whether a header of a PUT becomes a header of the object.
func shownAsSent(name string) bool {
	switch name {
	case "Cache-Control", "Content-Disposition", "Content-Encoding", "Content-Language", "Content-Type", "Expires",
		"X-Amz-Server-Side-Encryption", "X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id", "X-Amz-Server-Side-Encryption-Bucket-Key-Enabled",
		"X-Amz-Storage-Class", "X-Amz-Website-Redirect-Location":
		return true
	default:
		return strings.HasPrefix(name, metadataPrefix) || strings.HasPrefix(name, checksumPrefix) && !neverShown(name)
	}
}

// neverShown reports whether an x-amz-* header of a PUT leaves no header of the object.
func neverShown(name string) bool {
	switch name {
	case "X-Amz-Acl", "X-Amz-Checksum-Algorithm", "X-Amz-Checksum-Mode", "X-Amz-Expected-Bucket-Owner", "X-Amz-Request-Payer",
		"X-Amz-Sdk-Checksum-Algorithm", "X-Amz-Server-Side-Encryption-Context":
		return true
	default:
		return strings.HasPrefix(name, "X-Amz-Grant-")
	}
}

// hasChecksum reports whether a checksum is among the headers of an object.
func hasChecksum(h http.Header) bool {
	for name := range h {
		if strings.HasPrefix(name, checksumPrefix) && name != "X-Amz-Checksum-Type" {
			return true
		}
	}
	return false
}

// plainText reports whether a header is one that every upstream returns unchanged: one value, not
// empty, of printable ASCII without repeated spaces. S3 encodes other metadata (RFC 2047).
func plainText(values []string) bool {
	if len(values) != 1 || values[0] == "" || strings.Contains(values[0], "  ") {
		return false
	}
	return !strings.ContainsFunc(values[0], func(r rune) bool { return r < ' ' || r > '~' })
}
