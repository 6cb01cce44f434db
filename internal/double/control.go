package double

import (
	"encoding/json"
	"io"
	"net/http"

	"github.com/akidb/akigw/faults"
)

// controlPath cannot collide with a bucket: bucket names have no underscores.
const controlPath = "/_fakes3/"

// maxPlan bounds a plan in bytes.
const maxPlan = 1 << 20

// controls handles the requests of tests that are not S3.
func controls(layer *faults.Layer, calls *recorder) *http.ServeMux {
	mux := http.NewServeMux()
	show := func(what func() any) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(what()) // fails only if the client has disconnected
		}
	}
	forget := func(w http.ResponseWriter, _ *http.Request) {
		calls.Forget()
		w.WriteHeader(http.StatusNoContent)
	}
	mux.HandleFunc("GET "+controlPath+"history", show(func() any { return calls.History() }))
	mux.HandleFunc("GET "+controlPath+"counts", show(func() any { return calls.Counts() }))
	mux.HandleFunc("DELETE "+controlPath+"history", forget)
	mux.HandleFunc("DELETE "+controlPath+"counts", forget)
	mux.HandleFunc("GET "+controlPath+"plan", show(func() any { return layer.Report() }))
	mux.HandleFunc("DELETE "+controlPath+"plan", func(w http.ResponseWriter, _ *http.Request) {
		layer.Clear()
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("POST "+controlPath+"plan", func(w http.ResponseWriter, r *http.Request) {
		raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxPlan))
		var plan faults.Plan
		if err == nil {
			plan, err = faults.Parse(raw)
		}
		if err == nil {
			err = layer.Set(plan)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	return mux
}
