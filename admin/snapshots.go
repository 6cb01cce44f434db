package admin

import (
	"encoding/json"
	"net/http"

	"github.com/akidb/akigw/snapshot"
)

// snapshotAPI serves the routes for snapshots.
type snapshotAPI struct{ store *snapshot.Store }

func (a snapshotAPI) routes() []route {
	return []route{
		{path: "/api/v1/snapshots", handle: a.list, summary: "Snapshots of the catalog", answer: []snapshot.Info{}},
		{path: "/api/v1/snapshots", method: http.MethodPost, handle: a.create, summary: "Create a snapshot", answer: snapshot.Info{}},
		{path: "/api/v1/snapshots/{id}", handle: a.show, summary: "Verify a snapshot's digest and return its metadata", answer: snapshot.Details{}},
		{path: "/api/v1/snapshots/{id}", method: http.MethodDelete, handle: a.remove, summary: "Delete a snapshot", query: []param{{"force", "true: delete even the last valid snapshot", false}}},
		{path: "/api/v1/snapshots-diff", handle: a.diff, summary: "Differences between two snapshots; the last line is {}", query: []param{{"from", "id", true}, {"to", "id", true}}, answer: snapshot.Change{}, stream: lines},
	}
}

// list lists the snapshots.
func (a snapshotAPI) list(w http.ResponseWriter, _ *http.Request) {
	all, err := a.store.List()
	if err != nil {
		answer(w, err)
		return
	}
	writeJSON(w, all)
}

// create creates a snapshot.
func (a snapshotAPI) create(w http.ResponseWriter, r *http.Request) {
	i, err := a.store.Create(r.Context())
	if err != nil {
		answer(w, err)
		return
	}
	writeJSON(w, i)
}

// show verifies a snapshot's digest and returns its metadata.
func (a snapshotAPI) show(w http.ResponseWriter, r *http.Request) {
	i, err := a.store.Find(r.PathValue("id"))
	var d snapshot.Details
	if err == nil {
		d, err = a.store.Verify(i)
	}
	if err != nil {
		answer(w, err)
		return
	}
	writeJSON(w, d)
}

// remove deletes a snapshot.
func (a snapshotAPI) remove(w http.ResponseWriter, r *http.Request) {
	i, err := a.store.Find(r.PathValue("id"))
	if err == nil {
		err = a.store.Delete(i, r.URL.Query().Get("force") == "true")
	}
	answer(w, err)
}

// diff sends the differences between two snapshots, one JSON object per line, and an empty object at
// the end. A response without that last line is incomplete.
func (a snapshotAPI) diff(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	from, err := a.store.Find(q.Get("from"))
	var to snapshot.Info
	if err == nil {
		to, err = a.store.Find(q.Get("to"))
	}
	if err != nil {
		answer(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	encoder := json.NewEncoder(w)
	if err := a.store.Diff(r.Context(), from, to, func(c snapshot.Change) bool { return encoder.Encode(c) == nil }); err != nil {
		panic(http.ErrAbortHandler) // cut the connection: the response must not look complete
	}
	_, _ = w.Write([]byte("{}\n")) // fails only if the client has disconnected
}
