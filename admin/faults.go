package admin

import (
	"io"
	"log/slog"
	"maps"
	"net/http"
	"slices"

	"github.com/VictoriaMetrics/metrics"

	"github.com/akidb/akigw/faults"
)

// faultAPI serves the routes for faults.
type faultAPI struct {
	layer *faults.Layer // nil: faults are not enabled
	log   *slog.Logger
}

// newFaultAPI also registers the gauges that show whether faults are enabled and set.
func newFaultAPI(layer *faults.Layer, log *slog.Logger, set *metrics.Set) faultAPI {
	if layer != nil {
		set.NewGauge("akigw_faults_enabled", func() float64 { return 1 })
		set.NewGauge("akigw_faults_set", func() float64 {
			if layer.Report() == nil {
				return 0
			}
			return 1
		})
	}
	return faultAPI{layer, log}
}

func (a faultAPI) routes() []route {
	return []route{
		{path: "/api/v1/faults", handle: a.enabled(a.report), summary: "The faults in force, null for none", answer: faults.Report{}},
		{path: "/api/v1/faults", method: http.MethodPost, handle: a.enabled(a.set), summary: "Set faults: a plan as in docs/faults.md, or a preset", query: []param{{"preset", "name of a preset", false}}, text: "application/toml", answer: faults.Report{}},
		{path: "/api/v1/faults", method: http.MethodDelete, handle: a.enabled(a.clear), summary: "End all faults"},
		{path: "/api/v1/faults/presets", handle: a.enabled(a.presets), summary: "Names of presets", answer: []string{}},
	}
}

// enabled wraps a handler that requires faults to be enabled.
func (a faultAPI) enabled(handle http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if a.layer == nil {
			http.Error(w, "faults are not enabled: start the gateway with --enable-faults, and not in production", http.StatusNotFound)
			return
		}
		handle(w, r)
	}
}

// report returns the faults in force, null for none.
func (a faultAPI) report(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, a.layer.Report())
}

// presets returns the names of the presets.
func (a faultAPI) presets(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, slices.Sorted(maps.Keys(faults.Presets())))
}

// maxPlan bounds a plan in bytes.
const maxPlan = 1 << 20

// set activates a plan: the one in the body, or a preset by its name.
func (a faultAPI) set(w http.ResponseWriter, r *http.Request) {
	plan, known := faults.Presets()[r.URL.Query().Get("preset")]
	if !known {
		raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxPlan))
		if err == nil && (len(raw) == 0 || r.URL.Query().Has("preset")) {
			http.Error(w, "send either a plan in the body or the name of a preset in the query", http.StatusBadRequest)
			return
		}
		if err == nil {
			plan, err = faults.Parse(raw)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
	}
	if err := a.layer.Set(plan); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	a.log.Warn("faults are set", "seed", plan.Seed, "lines", len(plan.Faults), "preset", r.URL.Query().Get("preset"))
	writeJSON(w, a.layer.Report())
}

// clear ends the plan in force.
func (a faultAPI) clear(w http.ResponseWriter, _ *http.Request) {
	a.layer.Clear()
	a.log.Warn("faults are cleared")
	answer(w, nil)
}
