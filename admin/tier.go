package admin

import (
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/placement"
	"github.com/akidb/akigw/tiers"
)

// Object is what the catalog knows about one object: an element of GET /api/v1/tier/objects, and the
// response to GET /api/v1/tier for a key.
type Object struct {
	Bucket       string    `json:"bucket"`
	Key          string    `json:"key"`
	VersionID    string    `json:"version_id,omitempty"`
	Tier         string    `json:"tier"` // hot, warm or cold: the fastest tier that has all of it
	Size         int64     `json:"size"` // bytes, as are the next two
	HotBytes     int64     `json:"hot_bytes"`
	WarmBytes    int64     `json:"warm_bytes"`
	ETag         string    `json:"etag"`
	ContentType  string    `json:"content_type,omitempty"`
	LastModified time.Time `json:"last_modified,omitzero"` // zero if unknown
	Pinned       bool      `json:"pinned"`
	LastAccess   time.Time `json:"last_access,omitzero"` // zero if unknown
	Recent       uint32    `json:"recent_accesses"`
	Accesses     uint64    `json:"accesses"`
}

func objectOf(c *akigw.CatalogEntry) Object {
	return Object{c.Key.Bucket, c.Key.Name, c.Key.Version, string(c.Tier), c.Size, c.HotBytes, c.WarmBytes, c.ETag, c.ContentType, c.LastModified.UTC(), c.Pinned, c.LastAccess.UTC(), c.Recent, c.Accesses}
}

// Page is the response to GET /api/v1/tier/objects.
type Page struct {
	Objects []Object `json:"objects"`
	// Next is the value of after for the next page, "" on the last page.
	Next string `json:"next,omitempty"`
}

// TierMetrics is the response to GET /api/v1/metrics/tiers.
type TierMetrics struct {
	tiers.Usage
	Worker *placement.WorkerReport `json:"worker,omitempty"`
	Pins   int                     `json:"pins"`
}

// tier returns where one object is, or totals over a prefix or a bucket.
func (s *Server) tier(w http.ResponseWriter, r *http.Request) {
	what, ok := pattern(w, r.URL.Query())
	if !ok {
		return
	}
	if what.Exactly {
		c, err := s.Placement.Object(what.Key())
		if err != nil {
			answer(w, err)
			return
		}
		writeJSON(w, objectOf(&c))
		return
	}
	state, err := s.Placement.State(r.Context(), what)
	if err != nil {
		answer(w, err)
		return
	}
	writeJSON(w, state)
}

const (
	// objectsAtOnce and mostObjects are the default and the maximum number of objects in one response.
	objectsAtOnce = 1000
	mostObjects   = 10_000
)

// tierObjects lists objects.
func (s *Server) tierObjects(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	what, ok := pattern(w, q)
	if !ok {
		return
	}
	limit := objectsAtOnce
	if text := q.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > mostObjects {
			http.Error(w, "limit must be 1 to 10000", http.StatusBadRequest)
			return
		}
		limit = n
	}
	after, err := hex.DecodeString(q.Get("after"))
	if err != nil {
		http.Error(w, "after must be the next of an earlier response", http.StatusBadRequest)
		return
	}
	all, next, err := s.Placement.Objects(r.Context(), what, string(after), limit)
	if err != nil {
		answer(w, err)
		return
	}
	page := Page{Objects: make([]Object, 0, len(all)), Next: hex.EncodeToString([]byte(next))}
	for i := range all {
		page.Objects = append(page.Objects, objectOf(&all[i]))
	}
	writeJSON(w, page)
}

// move is the body of POST /api/v1/tier. Key and Prefix exclude each other; without either, the
// action applies to the whole bucket. Tier is for pins: "hot" or "warm" (the default).
type move struct {
	Action placement.Action `json:"action"`
	Bucket string           `json:"bucket"`
	Prefix *string          `json:"prefix"`
	Key    *string          `json:"key"`
	Tier   string           `json:"tier"`
}

// maxMove bounds the body of a move in bytes.
const maxMove = 16 << 10

// moveTier promotes, demotes, pins or unpins objects.
func (s *Server) moveTier(w http.ResponseWriter, r *http.Request) {
	var m move
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxMove))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&m); err != nil {
		http.Error(w, "the body must be JSON such as {\"action\": \"promote_to_hot\", \"bucket\": \"b\", \"prefix\": \"p/\"}: "+err.Error(), http.StatusBadRequest)
		return
	}
	if !slices.Contains(placement.Actions(), m.Action) {
		http.Error(w, placement.ErrAction.Error(), http.StatusBadRequest)
		return
	}
	if m.Tier != "" && (m.Tier != "hot" && m.Tier != "warm" || m.Action != placement.PinObjects) {
		http.Error(w, `tier must be "hot" or "warm", and only the action pin has one`, http.StatusBadRequest)
		return
	}
	q := url.Values{"bucket": {m.Bucket}}
	if m.Prefix != nil {
		q.Set("prefix", *m.Prefix)
	}
	if m.Key != nil {
		q.Set("key", *m.Key)
	}
	what, ok := pattern(w, q)
	if !ok {
		return
	}
	result, err := s.Placement.Move(r.Context(), m.Action, what, m.Tier == "hot")
	if err != nil {
		answer(w, err)
		return
	}
	writeJSON(w, result)
}

// tierMetrics returns the usage of the tiers and the state of the worker.
func (s *Server) tierMetrics(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, TierMetrics{Usage: s.Store.Usage(), Worker: s.Placement.Worker(), Pins: len(s.Placement.Pins())})
}

func (s *Server) pins(w http.ResponseWriter, _ *http.Request) {
	pins := s.Placement.Pins()
	if pins == nil {
		pins = []placement.Pin{}
	}
	writeJSON(w, pins)
}

// warm prefetches objects until it is done or the client disconnects. It sends its progress, one
// JSON object per line. The last line has done or failure.
func (s *Server) warm(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	what, ok := pattern(w, q)
	if !ok {
		return
	}
	p := placement.Prefetch{Hot: q.Get("tier") == "hot", After: q.Get("after")}
	if text := q.Get("rate"); text != "" {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 1 {
			http.Error(w, "rate must be a number of bytes per second", http.StatusBadRequest)
			return
		}
		p.Rate = n
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	encoder, last := json.NewEncoder(w), placement.PrefetchProgress{}
	tell := func(now placement.PrefetchProgress) {
		last = now
		if encoder.Encode(now) == nil { // if the client disconnects, the request's context ends
			_ = http.NewResponseController(w).Flush()
		}
	}
	if err := s.Placement.Prefetch(r.Context(), what, p, tell); err != nil {
		last.Failure = err.Error()
		tell(last)
	}
}
