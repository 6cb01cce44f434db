package gateway

import (
	"net/textproto"
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/compare"
	"github.com/akidb/akigw/tiers"
)

// sampled is an answer from the cache that will be compared with the upstream's. The digest of its body
// is computed from what was sent. The nil sampled is an answer that will not be.
type sampled struct {
	comparer *compare.Comparer
	call     *call
	reader   *tiers.Reader
	digest   *xxhash.Digest // nil for HEAD
	whole    bool           // the client has got all of it
}

// sample decides whether the answer from a reader will be compared with the upstream's. With a share of 0
// that is one comparison.
func (g *objectReads) sample(c *call, reader *tiers.Reader) *sampled {
	if s := reader.Settings; s == nil || s.Compare == 0 {
		return nil
	}
	if !g.chosen(reader) {
		return nil
	}
	if reader.Part != nil {
		g.compare.Skip(compare.Part)
		return nil
	}
	return &sampled{comparer: g.compare, call: c, reader: reader}
}

// chosen reports whether the answer from a reader came from the cache and is one of those that are
// compared.
func (g *objectReads) chosen(reader *tiers.Reader) bool {
	switch reader.Outcome {
	case akigw.Hot, akigw.Warm, akigw.Stale:
		return g.compare != nil && g.compare.Chosen(reader.Settings.Compare)
	default:
		return false
	}
}

// unmet counts an answer from the cache that says that a condition or range was not met.
func (g *objectReads) unmet(reader *tiers.Reader) {
	if reader != nil && reader.Settings != nil && reader.Settings.Compare > 0 && g.chosen(reader) {
		g.compare.Skip(compare.Conditional)
	}
}

// write takes bytes of the body that were written to the client.
func (s *sampled) write(data []byte) {
	if s == nil {
		return
	}
	if s.digest == nil {
		s.digest = xxhash.New()
	}
	_, _ = s.digest.Write(data) // it never fails
}

// end says that the client has got all of the answer.
func (s *sampled) end() {
	if s != nil {
		s.whole = true
	}
}

// offer has the answer compared, after its last byte was sent.
func (s *sampled) offer(w *answer) {
	if s == nil {
		return
	}
	if !s.whole {
		s.comparer.Skip(compare.Aborted)
		return
	}
	w.flush()
	watch := s.reader.Watch()
	if watch == nil {
		s.comparer.Skip(compare.Changed)
		return
	}
	c, r := s.call, s.reader
	offered := &compare.Sample{
		Key: r.Stored().Key, Method: c.Method, Checksums: strings.EqualFold(c.Header.Get("X-Amz-Checksum-Mode"), "ENABLED") && w.Header()["Content-Range"] == nil,
		Replaced: c.replaced(), RequestID: w.requestID[0], At: w.started, Age: r.Age, Tier: r.Outcome, Settings: r.Settings, Watch: watch,
		Answer: compare.Answer{Status: w.status, Header: compare.Header(w.Header()), Length: r.Range.Length},
	}
	if w.Header()["Content-Range"] != nil {
		offered.Range = "bytes=" + strconv.FormatInt(r.Range.Start, 10) + "-" + strconv.FormatInt(r.Range.End()-1, 10)
	}
	if c.Method == "GET" {
		s.write(nil) // an empty body has a digest as well
		offered.Answer.Digest = compare.Digest(s.digest)
	}
	if stored := r.Stored(); stored != r.Object { // the client was promised another ETag and date
		for _, name := range [...]string{"Etag", "Last-Modified"} {
			offered.Answer.Header[name] = stored.Header[name]
		}
	}
	s.comparer.Offer(offered)
}

// replaced returns the canonical names of the headers that response-* parameters set.
func (c *call) replaced() (names []string) {
	for parameter := range c.query {
		if name, ok := strings.CutPrefix(parameter, "response-"); ok {
			names = append(names, textproto.CanonicalMIMEHeaderKey(name))
		}
	}
	return names
}
