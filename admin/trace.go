package admin

import (
	"bufio"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/akidb/akigw/trace"
)

// mostTraceSeconds bounds the duration of a trace: one day.
const mostTraceSeconds = 24 * 60 * 60

// recordTrace streams the accesses to the tiers: lines of trace.Access between two of trace.Header.
// It also sends a header every second, so that a client that stops early knows how many accesses are
// missing.
func (s *Server) recordTrace(w http.ResponseWriter, r *http.Request) {
	seconds, err := strconv.ParseFloat(r.URL.Query().Get("seconds"), 64)
	if err != nil || !(seconds > 0 && seconds <= mostTraceSeconds) {
		http.Error(w, "seconds must be a number up to "+strconv.Itoa(mostTraceSeconds), http.StatusBadRequest)
		return
	}
	recording, err := s.Traces.Start(r.URL.Query().Get("nameless") == "true")
	if err != nil {
		answer(w, err)
		return
	}
	defer recording.Close()
	end := time.NewTimer(time.Duration(seconds * float64(time.Second)))
	defer end.Stop()
	alive := time.NewTicker(time.Second)
	defer alive.Stop()
	w.Header().Set("Content-Type", "application/x-ndjson")
	buffer := bufio.NewWriterSize(w, 64<<10)
	lines, flush := json.NewEncoder(buffer), http.NewResponseController(w)
	line := func(v any) bool { return lines.Encode(v) == nil }
	say := func(header trace.Header) bool {
		return line(header) && buffer.Flush() == nil && flush.Flush() == nil
	}
	lost := func() trace.Header {
		n := recording.Lost()
		return trace.Header{Version: trace.Version, Lost: &n}
	}
	ok := say(trace.Header{Version: trace.Version})
	for ok {
		select {
		case a := <-recording.Accesses():
			ok = line(a)
		case <-alive.C:
			ok = say(lost())
		case <-r.Context().Done():
			return
		case <-end.C:
			for n := len(recording.Accesses()); n > 0 && ok; n-- {
				ok = line(<-recording.Accesses())
			}
			say(lost()) // fails only if the client has disconnected
			return
		}
	}
}
