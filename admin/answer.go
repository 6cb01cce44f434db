package admin

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"

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

// statusOf maps errors of the tiers, of write-back and of snapshots to HTTP statuses.
func statusOf(err error) int {
	isAny := func(these ...error) bool {
		return slices.ContainsFunc(these, func(e error) bool { return errors.Is(err, e) })
	}
	if status := vectorStatus(err); status != 0 {
		return status
	}
	switch {
	case isAny(writeback.ErrNoDeadLetter, placement.ErrNotPinned, akigw.ErrNoSuchKey, snapshot.ErrNone):
		return http.StatusNotFound
	case isAny(writeback.ErrNotPaused, snapshot.ErrLast, snapshot.ErrUnordered, placement.ErrMoving, trace.ErrRecording, placement.ErrPinned, tiers.ErrTierOff, tiers.ErrUncacheable):
		return http.StatusConflict
	case isAny(tiers.ErrNoRoom):
		return http.StatusInsufficientStorage
	case isAny(tiers.ErrBusy, akigw.ErrUpstreamUnavailable):
		return http.StatusServiceUnavailable
	default:
		return http.StatusInternalServerError
	}
}
