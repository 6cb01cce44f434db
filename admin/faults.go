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

// faultAPI is what the listener answers about faults.
type faultAPI struct {
	layer *faults.Layer // nil: faults are not enabled
	log   *slog.Logger
}

// newFaultAPI has metrics show whether faults can be set, and are, if they are enabled.
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
		{path: "/api/v1/faults", handle: a.enabled(a.report), summary: "Which faults are set, null for none", answer: faults.Report{}},
		{path: "/api/v1/faults", method: http.MethodPost, handle: a.enabled(a.set), summary: "Set faults: a plan as in docs/faults.md, or a preset", query: []param{{"preset", "name of a preset", false}}, text: "application/toml", answer: faults.Report{}},
		{path: "/api/v1/faults", method: http.MethodDelete, handle: a.enabled(a.clear), summary: "End all faults"},
		{path: "/api/v1/faults/presets", handle: a.enabled(a.presets), summary: "Names of presets", answer: []string{}},
	}
}

// enabled refuses what is about faults, unless they are enabled.
func (a faultAPI) enabled(handle http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if a.layer == nil {
			http.Error(w, "faults are not enabled: start the gateway with --enable-faults, and not in production", http.StatusNotFound)
			return
		}
		handle(w, r)
	}
}

// report says what is set, null for nothing.
func (a faultAPI) report(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, a.layer.Report())
}

// presets names the plans that are there.
func (a faultAPI) presets(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, slices.Sorted(maps.Keys(faults.Presets())))
}

// maxPlan is the largest plan in bytes.
const maxPlan = 1 << 20

// set sets a plan: the body, or a preset by its name.
func (a faultAPI) set(w http.ResponseWriter, r *http.Request) {
	plan, known := faults.Presets()[r.URL.Query().Get("preset")]
	if !known {
		raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxPlan))
		if err == nil && (len(raw) == 0 || r.URL.Query().Has("preset")) {
			http.Error(w, "the body must be a plan, or preset the name of one", http.StatusBadRequest)
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

// clear ends the plan that is set.
func (a faultAPI) clear(w http.ResponseWriter, _ *http.Request) {
	a.layer.Clear()
	a.log.Warn("faults are cleared")
	answer(w, nil)
}
