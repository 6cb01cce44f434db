package admin

import (
	"encoding/json"
	"net/http"

	"github.com/akidb/akigw/snapshot"
)

// listSnapshots lists them.
func (s *Server) listSnapshots(w http.ResponseWriter, _ *http.Request) {
	all, err := s.snapshots.List()
	if err != nil {
		answer(w, err)
		return
	}
	writeJSON(w, all)
}

// createSnapshot makes one.
func (s *Server) createSnapshot(w http.ResponseWriter, r *http.Request) {
	i, err := s.snapshots.Create(r.Context())
	if err != nil {
		answer(w, err)
		return
	}
	writeJSON(w, i)
}

// showSnapshot reads all of one, and says what it says of itself.
func (s *Server) showSnapshot(w http.ResponseWriter, r *http.Request) {
	i, err := s.snapshots.Find(r.PathValue("id"))
	var d snapshot.Details
	if err == nil {
		d, err = s.snapshots.Verify(i)
	}
	if err != nil {
		answer(w, err)
		return
	}
	writeJSON(w, d)
}

// deleteSnapshot removes one.
func (s *Server) deleteSnapshot(w http.ResponseWriter, r *http.Request) {
	i, err := s.snapshots.Find(r.PathValue("id"))
	if err == nil {
		err = s.snapshots.Delete(i, r.URL.Query().Get("force") == "true")
	}
	answer(w, err)
}

// diffSnapshots sends what happened between two, a line of JSON each, and at the end an empty
// object: without it the answer is not whole.
func (s *Server) diffSnapshots(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	from, err := s.snapshots.Find(q.Get("from"))
	var to snapshot.Info
	if err == nil {
		to, err = s.snapshots.Find(q.Get("to"))
	}
	if err != nil {
		answer(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	encoder := json.NewEncoder(w)
	if err := s.snapshots.Diff(r.Context(), from, to, func(c snapshot.Change) bool { return encoder.Encode(c) == nil }); err != nil {
		panic(http.ErrAbortHandler) // it must not look whole
	}
	_, _ = w.Write([]byte("{}\n")) // a client that has gone does not read its answer
}
