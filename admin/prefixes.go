package admin

import (
	"cmp"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/akidb/akigw"
)

// Prefix has the totals of a bucket, or of its objects below a prefix.
type Prefix struct {
	Bucket   string `json:"bucket"`
	Prefix   string `json:"prefix"`
	Objects  int64  `json:"objects"`
	Bytes    int64  `json:"bytes"`
	Hot      int64  `json:"hot_bytes"`
	Warm     int64  `json:"warm_bytes"`
	Accesses uint64 `json:"accesses"`
}

const (
	// mostPrefixes bounds the prefixes in a response, and lookAtMost the time spent reading the catalog.
	mostPrefixes = 100
	lookAtMost   = 5 * time.Second
)

// prefixes returns totals of the catalog, largest first: by bucket, or of one bucket by the part of
// the keys that follows a prefix, up to the next slash.
func (s *Server) prefixes(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	what := akigw.Pattern{Bucket: q.Get("bucket"), Prefix: q.Get("prefix")}
	if what.Bucket != "" && akigw.CheckBucketName(what.Bucket) != nil || what.Bucket == "" && what.Prefix != "" {
		http.Error(w, "bucket must be the name of a bucket, optionally with prefix", http.StatusBadRequest)
		return
	}
	sums, until := map[[2]string]*Prefix{}, time.Now().Add(lookAtMost)
	err := s.Placement.Each(r.Context(), what, func(c *akigw.CatalogEntry) bool {
		at := [2]string{c.Key.Bucket, ""}
		if what.Bucket != "" {
			at[1] = c.Key.Name
			if slash := strings.IndexByte(c.Key.Name[len(what.Prefix):], '/'); slash >= 0 {
				at[1] = c.Key.Name[:len(what.Prefix)+slash+1]
			}
		}
		p := sums[at]
		if p == nil {
			p = &Prefix{Bucket: at[0], Prefix: at[1]}
			sums[at] = p
		}
		p.Objects++
		p.Bytes += c.Size
		p.Hot += c.HotBytes
		p.Warm += c.WarmBytes
		p.Accesses += c.Accesses
		return time.Now().Before(until)
	})
	if err != nil {
		answer(w, err)
		return
	}
	all := make([]Prefix, 0, len(sums))
	for _, p := range sums {
		all = append(all, *p)
	}
	slices.SortFunc(all, func(a, b Prefix) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), strings.Compare(a.Bucket, b.Bucket), strings.Compare(a.Prefix, b.Prefix))
	})
	writeJSON(w, all[:min(len(all), mostPrefixes)])
}
