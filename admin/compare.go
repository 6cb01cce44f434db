package admin

import (
	"net/http"
	"time"

	"github.com/akidb/akigw/compare"
)

// compared serves what comparisons with the upstream have found.
func (s *Server) compared(w http.ResponseWriter, _ *http.Request) {
	if s.Compare == nil {
		writeJSON(w, compare.Report{Since: time.Now()})
		return
	}
	writeJSON(w, s.Compare.Report())
}
