package admin

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/placement"
	"github.com/akidb/akigw/vectors"
	"github.com/akidb/akigw/vectors/remote"
	"github.com/akidb/akigw/vectors/store"
)

// Vectors is the response to GET /api/v1/vectors.
type Vectors struct {
	// Collections are the indexes of all vector buckets, by bucket and index.
	Collections []store.Status `json:"collections"`
	Totals      store.Totals   `json:"totals"`
	Owner       store.Owner    `json:"owner"`
	// Problem is what an operator should look at, "" if all is well.
	Problem string `json:"problem,omitempty"`
}

// VectorsMoved is the response to POST /api/v1/vectors/move.
type VectorsMoved struct {
	// Moved is how many collections are in another tier, or pinned or unpinned, than before; Already
	// is how many needed no change.
	Moved   int `json:"moved"`
	Already int `json:"already"`
}

// VectorsFlushed is the response to POST /api/v1/vectors/flush.
type VectorsFlushed struct {
	// Pending is how many vectors, deletions and changes have been acknowledged since.
	Pending int `json:"pending"`
}

// vectorMove is the body of POST /api/v1/vectors/move. Without an index, the action applies to all indexes
// of the vector bucket. Tier is for pins: "hot", "warm" (the default) or "cold".
type vectorMove struct {
	Action placement.Action `json:"action"`
	Bucket string           `json:"bucket"`
	Index  string           `json:"index,omitempty"`
	Tier   string           `json:"tier,omitempty"`
}

const (
	errNoVectors    = akigw.Error("no vector collections are configured: set vectors.bucket, docs/vectors.md")
	errNoCollection = akigw.Error("there is no such vector bucket, or it has no such index; akigw vectors ls lists them")
)

// vectorAPI serves the routes for vector collections. store is nil if none are configured.
type vectorAPI struct{ store *store.Store }

func (a vectorAPI) routes() []route {
	const post = http.MethodPost
	return []route{
		{path: "/api/v1/vectors", handle: a.configured(a.list), summary: "Vector collections, totals, and who has their prefix in the upstream", answer: Vectors{}},
		{path: "/api/v1/vectors/move", method: post, handle: a.configured(a.move), summary: "Promote, demote, pin or unpin a vector collection, or all of a vector bucket", body: vectorMove{}, answer: VectorsMoved{}},
		{path: "/api/v1/vectors/flush", method: post, handle: a.configured(a.flush), summary: "Upload all acknowledged vectors now", answer: VectorsFlushed{}},
		{path: "/api/v1/vectors/sweep", method: post, handle: a.configured(a.sweep), summary: "Remove what no vector collection needs any more from the upstream"},
		{path: "/api/v1/vectors/takeover", method: post, handle: a.configured(a.takeOver), summary: "Take the prefix of the vector collections from another gateway. What that one has acknowledged and not flushed is not taken over", answer: store.Takeover{}},
	}
}

// configured refuses requests if there are no vector collections.
func (a vectorAPI) configured(handle http.HandlerFunc) http.HandlerFunc {
	if a.store != nil {
		return handle
	}
	return func(w http.ResponseWriter, _ *http.Request) { answer(w, errNoVectors) }
}

func (a vectorAPI) list(w http.ResponseWriter, _ *http.Request) {
	v := Vectors{Collections: a.store.Statuses(), Totals: a.store.Totals(), Owner: a.store.Owner()}
	if v.Collections == nil {
		v.Collections = []store.Status{}
	}
	if problem := a.store.Problem(); problem != nil {
		v.Problem = problem.Error()
	}
	writeJSON(w, v)
}

// move promotes, demotes, pins or unpins collections, one after the other. It stops at the first that
// fails.
func (a vectorAPI) move(w http.ResponseWriter, r *http.Request) {
	var m vectorMove
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxMove))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&m); err != nil {
		http.Error(w, "the body must be JSON such as {\"action\": \"promote_to_hot\", \"bucket\": \"b\", \"index\": \"i\"}: "+err.Error(), http.StatusBadRequest)
		return
	}
	tier, problem := m.target()
	if problem != "" {
		http.Error(w, problem, http.StatusBadRequest)
		return
	}
	all := slices.DeleteFunc(a.store.Statuses(), func(s store.Status) bool { return s.Bucket != m.Bucket || m.Index != "" && s.Index != m.Index })
	if len(all) == 0 {
		answer(w, errNoCollection)
		return
	}
	var moved VectorsMoved
	for i := range all {
		if settled(&all[i], m.Action, tier) {
			moved.Already++
			continue
		}
		if err := a.act(r.Context(), m.Action, &all[i], tier); err != nil {
			answer(w, err)
			return
		}
		moved.Moved++
	}
	writeJSON(w, moved)
}

// target returns the tier that the action moves to, or what is wrong with the request.
func (m *vectorMove) target() (tier store.Tier, problem string) {
	switch {
	case !slices.Contains(placement.Actions(), m.Action):
		return 0, placement.ErrAction.Error()
	case m.Bucket == "":
		return 0, "bucket must be the name of a vector bucket"
	case m.Tier != "" && m.Action != placement.PinObjects:
		return 0, "only the action pin has a tier"
	}
	switch m.Action {
	case placement.PromoteToHot:
		return store.Hot, ""
	case placement.DemoteToCold:
		return store.Cold, ""
	case placement.PinObjects:
		tier = store.Warm
		if m.Tier != "" && tier.UnmarshalText([]byte(m.Tier)) != nil {
			return 0, `tier must be "hot", "warm" or "cold"`
		}
		return tier, ""
	}
	return store.Warm, ""
}

// settled reports whether an action needs no change of a collection: promotions never move down, and
// demotions never up.
func settled(s *store.Status, action placement.Action, tier store.Tier) bool {
	switch action {
	case placement.PinObjects:
		return s.Pinned == tier.String() && s.Tier == tier
	case placement.UnpinObjects:
		return s.Pinned == ""
	case placement.PromoteToHot, placement.PromoteToWarm:
		return s.Tier >= tier
	}
	return s.Tier <= tier
}

func (a vectorAPI) act(ctx context.Context, action placement.Action, s *store.Status, tier store.Tier) error {
	switch action {
	case placement.PinObjects:
		return a.store.Pin(ctx, s.Bucket, s.Index, tier)
	case placement.UnpinObjects:
		return a.store.Unpin(ctx, s.Bucket, s.Index)
	}
	return a.store.Move(ctx, s.Bucket, s.Index, tier)
}

func (a vectorAPI) flush(w http.ResponseWriter, r *http.Request) {
	if err := a.store.Flush(r.Context()); err != nil {
		answer(w, err)
		return
	}
	writeJSON(w, VectorsFlushed{a.store.Totals().Pending})
}

func (a vectorAPI) sweep(w http.ResponseWriter, r *http.Request) {
	answer(w, a.store.Sweep(r.Context()))
}

func (a vectorAPI) takeOver(w http.ResponseWriter, r *http.Request) {
	done, err := a.store.Takeover(r.Context())
	if err != nil {
		answer(w, err)
		return
	}
	writeJSON(w, done)
}

// vectorStatus returns the HTTP status of an error of vector collections, 0 if it is none of theirs.
func vectorStatus(err error) int {
	var failed *vectors.Error
	switch {
	case errors.Is(err, errNoVectors), errors.Is(err, errNoCollection):
		return http.StatusNotFound
	case store.InDanger(err), errors.Is(err, store.ErrOurs), errors.Is(err, store.ErrUntakeable), errors.Is(err, remote.ErrConditions):
		return http.StatusConflict
	case errors.Is(err, store.ErrNoMemory), errors.Is(err, store.ErrNoDisk):
		return http.StatusInsufficientStorage
	case errors.As(err, &failed) && failed.Code == vectors.NotFound:
		return http.StatusNotFound
	case errors.As(err, &failed) && failed.Code == vectors.Unavailable:
		return http.StatusServiceUnavailable
	}
	return 0
}
