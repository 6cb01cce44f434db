package admin

import (
	"fmt"
	"io"
	"net/http"

	"github.com/akidb/akigw/tiers/cold"
)

// maxEvents bounds a notification in bytes. A thousand events fit.
const maxEvents = 2 << 20

// takeEvents receives an S3 event notification. The objects that it names are validated with the
// upstream before they are served again.
func (s *Server) takeEvents(w http.ResponseWriter, r *http.Request) {
	document, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxEvents))
	if err != nil {
		http.Error(w, "the notification could not be read: "+err.Error(), http.StatusBadRequest)
		return
	}
	changes, err := cold.ParseEvents(document)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	for _, c := range changes {
		s.Store.Changed(c)
	}
	fmt.Fprintf(w, "%d changes\n", len(changes))
}
