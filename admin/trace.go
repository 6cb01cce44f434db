package admin

import (
	"bufio"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/akidb/akigw/tiers"
)

// mostTraceSeconds is how long one trace may take: a day.
const mostTraceSeconds = 24 * 60 * 60

// recordTrace sends what is read and written through the tiers, as it happens: lines of
// tiers.Access between two of tiers.TraceHeader. Each second there is one of those besides, so
// that a client that has enough knows how many accesses are missing.
func (s *Server) recordTrace(w http.ResponseWriter, r *http.Request) {
	seconds, err := strconv.ParseFloat(r.URL.Query().Get("seconds"), 64)
	if err != nil || !(seconds > 0 && seconds <= mostTraceSeconds) {
		http.Error(w, "seconds must be a number up to "+strconv.Itoa(mostTraceSeconds), http.StatusBadRequest)
		return
	}
	tracing, err := s.store.Trace(r.URL.Query().Get("nameless") == "true")
	if err != nil {
		answer(w, err)
		return
	}
	defer tracing.Close()
	end := time.NewTimer(time.Duration(seconds * float64(time.Second)))
	defer end.Stop()
	alive := time.NewTicker(time.Second)
	defer alive.Stop()
	w.Header().Set("Content-Type", "application/x-ndjson")
	buffer := bufio.NewWriterSize(w, 64<<10)
	lines, flush := json.NewEncoder(buffer), http.NewResponseController(w)
	line := func(v any) bool { return lines.Encode(v) == nil }
	say := func(header tiers.TraceHeader) bool {
		return line(header) && buffer.Flush() == nil && flush.Flush() == nil
	}
	lost := func() tiers.TraceHeader {
		n := tracing.Lost()
		return tiers.TraceHeader{Version: tiers.TraceVersion, Lost: &n}
	}
	ok := say(tiers.TraceHeader{Version: tiers.TraceVersion})
	for ok {
		select {
		case a := <-tracing.Accesses():
			ok = line(a)
		case <-alive.C:
			ok = say(lost())
		case <-r.Context().Done():
			return
		case <-end.C:
			for n := len(tracing.Accesses()); n > 0 && ok; n-- {
				ok = line(<-tracing.Accesses())
			}
			say(lost()) // a client that has gone does not read its answer
			return
		}
	}
}
