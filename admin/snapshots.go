package admin

import (
	"encoding/json"
	"net/http"

	"github.com/akidb/akigw/snapshot"
)

// snapshotAPI is what the listener answers about snapshots.
type snapshotAPI struct{ store *snapshot.Store }

func (a snapshotAPI) routes() []route {
	return []route{
		{path: "/api/v1/snapshots", handle: a.list, summary: "Snapshots of the catalog", answer: []snapshot.Info{}},
		{path: "/api/v1/snapshots", method: http.MethodPost, handle: a.create, summary: "Make a snapshot", answer: snapshot.Info{}},
		{path: "/api/v1/snapshots/{id}", handle: a.show, summary: "Read all of a snapshot, and say what it says of itself", answer: snapshot.Details{}},
		{path: "/api/v1/snapshots/{id}", method: http.MethodDelete, handle: a.remove, summary: "Delete a snapshot", query: []param{{"force", "true: the last one, too", false}}},
		{path: "/api/v1/snapshots-diff", handle: a.diff, summary: "What happened between two snapshots; the last line is {}", query: []param{{"from", "id", true}, {"to", "id", true}}, answer: snapshot.Change{}, stream: lines},
	}
}

// list lists them.
func (a snapshotAPI) list(w http.ResponseWriter, _ *http.Request) {
	all, err := a.store.List()
	if err != nil {
		answer(w, err)
		return
	}
	writeJSON(w, all)
}

// create makes one.
func (a snapshotAPI) create(w http.ResponseWriter, r *http.Request) {
	i, err := a.store.Create(r.Context())
	if err != nil {
		answer(w, err)
		return
	}
	writeJSON(w, i)
}

// show reads all of one, and says what it says of itself.
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

// remove removes one.
func (a snapshotAPI) remove(w http.ResponseWriter, r *http.Request) {
	i, err := a.store.Find(r.PathValue("id"))
	if err == nil {
		err = a.store.Delete(i, r.URL.Query().Get("force") == "true")
	}
	answer(w, err)
}

// diff sends what happened between two, a line of JSON each, and at the end an empty
// object: without it the answer is not whole.
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
		panic(http.ErrAbortHandler) // it must not look whole
	}
	_, _ = w.Write([]byte("{}\n")) // a client that has gone does not read its answer
}
