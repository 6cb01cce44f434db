package admin

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/vectors/store"
	"github.com/akidb/akigw/writeback/buckets"
)

// Status is the response to GET /api/v1/status.
type Status struct {
	Version string `json:"version"`
	// Usage and size of the tiers in bytes.
	HotBytes   int64 `json:"hot_bytes"`
	HotQuota   int64 `json:"hot_quota_bytes"`
	WarmBytes  int64 `json:"warm_bytes"`
	WarmQuota  int64 `json:"warm_quota_bytes"`
	Pending    int   `json:"pending"`       // acknowledged writes that are not upstream yet
	Bytes      int64 `json:"pending_bytes"` // size of their bodies and of those of dead letters
	OldestSecs int64 `json:"oldest_seconds"`
	Dead       int   `json:"dead_letters"`
	Uploads    int   `json:"uploads"` // open multipart uploads of clients in the journal
	Packed     int   `json:"packed"`  // objects in packs
	Packs      int   `json:"packs"`
	Translated int   `json:"translated_etags"` // objects whose upstream ETag differs from the acknowledged one
	Dates      int   `json:"promised_dates"`   // other objects that are shown with the acknowledged Last-Modified
	Uploading  int   `json:"uploading"`        // uploads under way
	Limit      int   `json:"uploading_limit"`  // current limit of parallel uploads, which adapts to the upstream
	Waiting    int   `json:"waiting"`          // keys that wait for a retry
	// Rate and ByteRate are the uploaded writes per second during the last minute, and their bytes
	// per second.
	Rate     float64 `json:"uploads_per_second"`
	ByteRate float64 `json:"upload_bytes_per_second"`
	// Broken are the buckets whose breaker is open: their requests are refused for a short time,
	// because too many failed.
	Broken []string `json:"broken,omitempty"`
	// Suspects are the names of the upstreams that have stopped responding. Requests that need them
	// are refused until they respond to a probe.
	Suspects []string `json:"suspects,omitempty"`
	// Paused says why uploads are paused, by name of the upstream.
	Paused map[string]string `json:"paused,omitempty"`
	// Failing is the error of the last upload attempt or, for a minute, the error that lowered the
	// limit of parallel uploads; "" if there is none.
	Failing string `json:"failing,omitempty"`
	// WriteBack are buckets whose pending writes are not uploaded, followed by buckets whose rule
	// write = "back" is not honoured. At most 100.
	WriteBack []buckets.Note `json:"write_back,omitempty"`
	// PausedBuckets is the number of buckets whose pending writes are not uploaded until an operator
	// decides.
	PausedBuckets int `json:"paused_buckets,omitempty"`
	// Vectors are the totals of vector collections; nil if none are configured.
	Vectors *store.Totals `json:"vectors,omitempty"`
	// WarmProblem says why the warm tier is off, "" if it is on.
	WarmProblem string `json:"warm_problem,omitempty"`
	// Problem says why the journal takes no writes, "" if it takes them.
	Problem string `json:"problem,omitempty"`
	// Repaired counts records and bodies of the journal that were damaged or missing in one
	// directory and were repaired from the other, since the start. LostBodies counts bodies that
	// were damaged in both. Both need second_dir.
	Repaired   int64 `json:"journal_repaired,omitempty"`
	LostBodies int64 `json:"journal_lost_bodies,omitempty"`
	// Warnings name the parts that do not work, and why, although the gateway serves requests.
	Warnings []string `json:"warnings,omitempty"`
	// Damage are the files in which damaged data was found.
	Damage []string `json:"damage,omitempty"`
}

func (s *Server) status(w http.ResponseWriter, _ *http.Request) { writeJSON(w, s.statusNow()) }

func (s *Server) statusNow() Status {
	u := s.Store.Usage()
	st := Status{Version: s.Version, HotBytes: u.HotBytes, HotQuota: u.HotQuota, WarmBytes: u.WarmBytes, WarmQuota: u.WarmQuota}
	st.WarmProblem, st.Warnings = s.Store.WarmProblem(), s.warnings()
	if s.Vectors != nil {
		t := s.Vectors.Totals()
		st.Vectors = &t
	}
	b := s.Writes.Status()
	st.Pending, st.Bytes, st.Dead, st.Uploading, st.Limit, st.Waiting, st.Paused, st.Damage = b.Pending, b.Bytes, b.Dead, b.Active, int(b.Limit), b.Later, b.Paused, b.Damage
	st.WriteBack, st.PausedBuckets = s.Writes.Notes(), b.PausedBuckets
	st.Uploads, st.Packed, st.Packs = b.Uploads, b.Packed, b.Packs
	st.Translated, st.Dates = b.Translations, b.Dates
	st.Rate, st.ByteRate, st.Broken, st.Suspects = b.Rate, b.ByteRate, b.Broken, b.Suspects
	st.Repaired, st.LostBodies = b.Repaired, b.Lost
	if !b.Oldest.IsZero() {
		st.OldestSecs = int64(time.Since(b.Oldest).Seconds())
	}
	if b.Failing != nil {
		st.Failing = b.Failing.Error()
	}
	if b.Problem != nil {
		st.Problem = b.Problem.Error()
	}
	return st
}

func (s *Server) deadLetters(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, s.Writes.DeadLetters.List())
}

// deadLetterID returns the number of the dead letter that a request names. If the request names
// none, it sends the error response and returns false.
func deadLetterID(w http.ResponseWriter, r *http.Request) (id uint64, ok bool) {
	id, err := strconv.ParseUint(r.URL.Query().Get("id"), 10, 64)
	if err != nil {
		http.Error(w, "id must be the number of a dead letter", http.StatusBadRequest)
	}
	return id, err == nil
}

// onDeadLetter returns a handler that calls do for a dead letter.
func (s *Server) onDeadLetter(do func(r *http.Request, id uint64) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if id, ok := deadLetterID(w, r); ok {
			answer(w, do(r, id))
		}
	}
}

// purge drops the cached data of a key or of all keys with a prefix.
func (s *Server) purge(w http.ResponseWriter, r *http.Request) {
	what, ok := pattern(w, r.URL.Query())
	if !ok {
		return
	}
	n, err := s.Store.Purge(r.Context(), what)
	if err != nil {
		answer(w, err)
		return
	}
	writeJSON(w, map[string]int{"purged": n})
}

// unpack copies every packed object of a bucket into an object of its own.
func (s *Server) unpack(w http.ResponseWriter, r *http.Request) {
	bucket := r.URL.Query().Get("bucket")
	if bucket == "" {
		http.Error(w, "bucket must be the name of a bucket", http.StatusBadRequest)
		return
	}
	n, err := s.Writes.Unpack(r.Context(), bucket)
	if err != nil {
		answer(w, err)
		return
	}
	writeJSON(w, map[string]int{"unpacked": n})
}

// resume uploads the pending writes of a bucket although the bucket has changed since they were
// acknowledged.
func (s *Server) resume(w http.ResponseWriter, r *http.Request) {
	bucket := r.URL.Query().Get("bucket")
	if akigw.CheckBucketName(bucket) != nil {
		http.Error(w, "bucket must be the name of a bucket", http.StatusBadRequest)
		return
	}
	answer(w, s.Writes.ResumeFlush(bucket, r.URL.Query().Get("forget") == "true"))
}

// archiveDeadLetters writes all dead letters into one object upstream.
func (s *Server) archiveDeadLetters(w http.ResponseWriter, r *http.Request) {
	to := akigw.Key{Bucket: r.URL.Query().Get("bucket"), Name: r.URL.Query().Get("key")}
	if err := errors.Join(akigw.CheckBucketName(to.Bucket), akigw.CheckKeyName(to.Name)); err != nil || to.Name == "" {
		http.Error(w, "bucket and key must name an object", http.StatusBadRequest)
		return
	}
	n, err := s.Writes.DeadLetters.Archive(r.Context(), to)
	if err != nil {
		answer(w, err)
		return
	}
	writeJSON(w, map[string]int{"archived": n})
}

// exportDeadLetter sends the body of a dead letter. It is a client's data, so it requires a key, as
// changes do.
func (s *Server) exportDeadLetter(w http.ResponseWriter, r *http.Request) {
	id, ok := deadLetterID(w, r)
	if !ok {
		return
	}
	body, err := s.Writes.DeadLetters.Body(r.Context(), id)
	if err != nil {
		answer(w, err)
		return
	}
	defer body.Close()
	size, err := body.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = body.Seek(0, io.SeekStart)
	}
	if err != nil {
		answer(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
	if _, err := io.Copy(w, body); err != nil {
		panic(http.ErrAbortHandler) // cut the connection: the response must not look complete
	}
}
