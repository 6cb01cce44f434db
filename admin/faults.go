package admin

import (
	"io"
	"maps"
	"net/http"
	"slices"

	"github.com/akidb/akigw/faults"
)

// countFaults has the metrics show whether faults can be set, and are.
func (s *Server) countFaults() {
	s.metrics.NewGauge("akigw_faults_enabled", func() float64 { return 1 })
	s.metrics.NewGauge("akigw_faults_set", func() float64 {
		if s.Faults.Report() == nil {
			return 0
		}
		return 1
	})
}

// withFaults refuses what is about faults, unless they are enabled.
func (s *Server) withFaults(handle http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if s.Faults == nil {
			http.Error(w, "faults are not enabled: start the gateway with --enable-faults, and not in production", http.StatusNotFound)
			return
		}
		handle(w, r)
	}
}

// reportFaults says what is set, null for nothing.
func (s *Server) reportFaults(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, s.Faults.Report())
}

// faultPresets names the plans that are there.
func (s *Server) faultPresets(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, slices.Sorted(maps.Keys(faults.Presets)))
}

// maxPlan is the largest plan in bytes.
const maxPlan = 1 << 20

// setFaults sets a plan: the body, or a preset by its name.
func (s *Server) setFaults(w http.ResponseWriter, r *http.Request) {
	plan, known := faults.Presets[r.URL.Query().Get("preset")]
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
	if err := s.Faults.Set(plan); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.log.Warn("faults are set", "seed", plan.Seed, "lines", len(plan.Faults), "preset", r.URL.Query().Get("preset"))
	writeJSON(w, s.Faults.Report())
}

// clearFaults ends the plan that is set.
func (s *Server) clearFaults(w http.ResponseWriter, _ *http.Request) {
	s.Faults.Clear()
	s.log.Warn("faults are cleared")
	answer(w, nil)
}
