package admin

import (
	"net/http"

	"github.com/akidb/akigw/shadow"
)

// shadowAPI serves what shadow mode predicts.
type shadowAPI struct {
	source interface{ Report() shadow.Report }
}

func (a shadowAPI) routes() []route {
	return []route{
		{path: "/api/v1/shadow", handle: a.report, summary: "What serving from the cache would have saved, by bucket and freshness mode: docs/trying.md", answer: shadow.Report{}},
	}
}

// report returns the report.
func (a shadowAPI) report(w http.ResponseWriter, _ *http.Request) {
	if a.source == nil {
		http.Error(w, "nothing is predicted", http.StatusNotFound)
		return
	}
	writeJSON(w, a.source.Report())
}
