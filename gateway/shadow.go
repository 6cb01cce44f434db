package gateway

import (
	"net/http"
	"net/textproto"
	"strconv"
	"strings"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/cost"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/shadow"
	"github.com/akidb/akigw/sigv4"
	"github.com/akidb/akigw/tiers"
)

// shadowing tells package shadow of the calls that only pass, because their settings have a shadow mode.
// The tiers do not answer such calls, so nothing else here knows of the mode.
type shadowing struct {
	shadow *shadow.Shadow
	store  *tiers.Store
}

// shadowed is a call in shadow mode.
type shadowed struct {
	settings *rules.Settings
	began    bool         // shadow.Begin was called for its key
	found    *tiers.Found // what the tiers had, in shadow mode with bodies; nil otherwise
}

// newShadowing returns nil if nothing is counted.
func newShadowing(to *shadow.Shadow, store *tiers.Store) *shadowing {
	if to == nil {
		return nil
	}
	return &shadowing{to, store}
}

// begin says that the handler of a call begins. On the fast path no call passes.
func (s *shadowing) begin(c *call) {
	if s == nil || c.localOnly || c.route.Class == Refused {
		return
	}
	key := c.key
	if isListing(c) { // as where its rule is looked up
		key.Name = c.query.Get("prefix")
	}
	settings := s.store.Settings(key)
	if !settings.Shadow.On() {
		return
	}
	c.shadow = &shadowed{settings: settings}
	if changesObject(c) {
		s.shadow.Begin(c.key)
		c.shadow.began = true
	}
}

// isListing reports whether a call is one that a rule lets the gateway answer from memory.
func isListing(c *call) bool { return c.route.Op == "ListObjects" || c.route.Op == "ListObjectsV2" }

// changesObject reports whether a call may change the object of its key.
func changesObject(c *call) bool {
	return c.level() == ObjectLevel && !c.reads() && !withoutObject(c.route.Op) && c.route.Op != "SelectObjectContent"
}

// ended tells of a call in shadow mode that has ended.
func (s *shadowing) ended(x *exchange) {
	c := x.answer.call
	if s == nil || c == nil || c.shadow == nil {
		return
	}
	switch w := &x.answer; {
	case s.isRead(w, c):
		s.shadow.Read(c.shadowRead(w))
		return
	case isListing(c) && !akigw.NoStore(c.Header):
		s.shadow.List(shadow.List{
			Bucket: c.key.Bucket, Query: c.query.Encode(), Settings: c.shadow.settings, Conditions: akigw.ConditionsOf(c.Header),
			Status: w.status, Sent: w.bytes, At: w.started,
		})
		return
	}
	s.shadow.Pass(shadow.Passed{Bucket: c.key.Bucket, Kind: cost.KindOf(c.Method, c.key.Name != "", c.query), In: c.ContentLength, Sent: x.answer.bytes})
	s.changed(&x.answer, c)
}

// isRead reports whether a call is a read that a gateway could have answered, and whose response says
// what it needs for that.
func (s *shadowing) isRead(w *answer, c *call) bool {
	if c.route.Op != "GetObject" && c.route.Op != "HeadObject" || !c.shadow.settings.Memory && !c.shadow.settings.Disk {
		return false
	}
	if _, ok := c.cachedKey(); !ok {
		return false
	}
	etag := sent(w, "ETag")
	switch w.status {
	case http.StatusOK, http.StatusPartialContent:
		return etag != "" && !strings.HasPrefix(etag, "W/")
	case http.StatusNotModified, http.StatusPreconditionFailed, http.StatusRequestedRangeNotSatisfiable, http.StatusNotFound:
		return true
	}
	return false
}

// changed tells of a call that may have changed objects.
func (s *shadowing) changed(w *answer, c *call) {
	if c.shadow.began {
		etag := sent(w, "ETag")
		if c.route.Op == "PutObject" && w.status == http.StatusOK && etag != "" && c.keepable() {
			s.shadow.Written(shadow.Write{Key: c.key, Settings: c.shadow.settings, ETag: etag, Size: c.payload.Length, Described: weigh(tiers.PredictHeader(c.upstreamRequest().Header, canonical(w.Header()))), At: w.started})
		} else {
			s.shadow.End(true, c.key)
		}
		if version := c.query.Get("versionId"); version != "" {
			s.shadow.End(false, akigw.Key{Bucket: c.key.Bucket, Name: c.key.Name, Version: version})
		}
	}
	s.shadow.End(false, c.touched...)
}

// shadowRead describes a read that has passed.
func (c *call) shadowRead(w *answer) shadow.Read {
	key, _ := c.cachedKey()
	r := shadow.Read{
		Key: key, Head: c.route.Op == "HeadObject", Settings: c.shadow.settings, Conditions: akigw.ConditionsOf(c.Header), Range: c.spec(),
		Status: w.status, ETag: sent(w, "ETag"), Size: -1, Sent: w.bytes, At: w.started, Found: c.shadow.found,
	}
	switch _, total, ranged := strings.Cut(sent(w, "Content-Range"), "/"); {
	case ranged:
		r.Size = number(total)
	case w.status == http.StatusOK:
		r.Size = number(sent(w, "Content-Length"))
	}
	if r.ETag != "" {
		r.Described = weigh(tiers.ObjectHeader(canonical(w.Header())))
	}
	return r
}

// number parses a size; -1 if it is none.
func number(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return -1
	}
	return n
}

// canonical returns headers under their canonical names.
func canonical(sent http.Header) http.Header {
	h := make(http.Header, len(sent))
	for name, values := range sent {
		h[textproto.CanonicalMIMEHeaderKey(name)] = values
	}
	return h
}

// weigh is the memory that the headers of an object take in the tiers.
func weigh(h http.Header) (bytes int) {
	for name, values := range h {
		bytes += 64 + len(name)
		for _, v := range values {
			bytes += 16 + len(v)
		}
	}
	return bytes
}

// sent returns a header of a response that was sent, by its canonical name or the one that S3 sends.
func sent(w *answer, name string) string {
	h := w.Header()
	for _, spelt := range [...]string{name, textproto.CanonicalMIMEHeaderKey(name), strings.ToLower(name)} {
		if values := h[spelt]; len(values) > 0 {
			return values[0]
		}
	}
	return ""
}

// uncached forwards a read that the tiers do not answer. In shadow mode with bodies they keep what
// passes.
func (g *objectReads) uncached(w *answer, c *call, id sigv4.Identity, key akigw.Key) error {
	if c.localOnly {
		return errGivenUp
	}
	passing := g.Store.Pass(key)
	if passing == nil {
		return g.forward.bypass(w, c, id)
	}
	defer passing.End()
	out, err := g.forward.prepare(c)
	if err != nil {
		return err
	}
	resp, _, err := g.forward.roundTrip(c, out, nil)
	if err != nil {
		return err
	}
	found := passing.Answer(resp, c.Method == http.MethodHead)
	if c.shadow != nil {
		c.shadow.found = found
	}
	w.Header().Set("X-Akigw-Cache", string(akigw.Bypass))
	relay(w, c.Request, resp)
	return nil
}
