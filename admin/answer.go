package admin

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/placement"
	"github.com/akidb/akigw/snapshot"
	"github.com/akidb/akigw/tiers"
	"github.com/akidb/akigw/trace"
	"github.com/akidb/akigw/writeback"
)

// writeJSON answers with a document.
func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(v) // fails only if the client has disconnected
}

// answer sends the response to an action that has no result.
func answer(w http.ResponseWriter, err error) {
	if err != nil {
		http.Error(w, err.Error(), statusOf(err))
		return
	}
	writeJSON(w, map[string]bool{"done": true})
}

// statuses maps errors of the tiers to HTTP statuses.
func statuses() []struct {
	err    error
	status int
} {
	return []struct {
		err    error
		status int
	}{
		{writeback.ErrNoDeadLetter, http.StatusNotFound},
		{placement.ErrNotPinned, http.StatusNotFound},
		{writeback.ErrNotPaused, http.StatusConflict},
		{akigw.ErrNoSuchKey, http.StatusNotFound},
		{snapshot.ErrNone, http.StatusNotFound},
		{snapshot.ErrLast, http.StatusConflict},
		{snapshot.ErrUnordered, http.StatusConflict},
		{placement.ErrMoving, http.StatusConflict},
		{trace.ErrRecording, http.StatusConflict},
		{placement.ErrPinned, http.StatusConflict},
		{tiers.ErrTierOff, http.StatusConflict},
		{tiers.ErrUncacheable, http.StatusConflict},
		{tiers.ErrNoRoom, http.StatusInsufficientStorage},
		{tiers.ErrBusy, http.StatusServiceUnavailable},
		{akigw.ErrUpstreamUnavailable, http.StatusServiceUnavailable},
	}
}

func statusOf(err error) int {
	for _, s := range statuses() {
		if errors.Is(err, s.err) {
			return s.status
		}
	}
	return http.StatusInternalServerError
}
