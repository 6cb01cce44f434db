package admin

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/VictoriaMetrics/metrics"
)

// family is a metric, with all its labels.
type family struct{ name, labels, help string }

// families are all metrics of the gateway: docs/metrics.md is made of them, and /metrics says
// their help. A test finds those that are missing.
var families = []family{
	{"akigw_build_info", "version", "1, with the version of the program"},
	{"akigw_gateway_requests_total", "op, status", "requests by S3 API name and HTTP status; op is none for what could not be routed"},
	{"akigw_gateway_request_seconds", "kind", "time from a request's head to the last byte of its answer; kind is read (objects and their heads), write, list or other"},
	{"akigw_gateway_sent_bytes_total", "", "bytes of answers' bodies sent to clients"},
	{"akigw_gateway_received_bytes_total", "", "bytes of requests' bodies of known length, as they came"},
	{"akigw_gateway_panics_total", "", "requests whose handler panicked: a bug, please report it"},
	{"akigw_gateway_throttled_failures_total", "", "wrong signatures answered with 503, because there were too many from one address"},
	{"akigw_gateway_over_request_memory_total", "", "requests refused because request_memory was in use"},
	{"akigw_gateway_qos_limited_total", "", "requests refused or slowed down by a class of service"},
	{"akigw_gateway_over_quota_total", "", "writes refused by a quota"},
	{"akigw_wire_connections", "", "open connections of clients"},
	{"akigw_wire_refused_connections_total", "limit", "connections closed at once, by the limit that they exceeded"},
	{"akigw_wire_refused_requests_total", "", "requests whose head is not strict HTTP/1.1"},
	{"akigw_tiers_reads_total", "outcome", "reads by the slowest tier that they needed: hot, warm or cold; overlay is what is not upstream yet, stale what was served while the upstream did not answer"},
	{"akigw_tiers_listings_total", "outcome", "listings that were kept (hot) and that were not (cold)"},
	{"akigw_tiers_lookups_total", "tier", "blocks that a tier was asked for"},
	{"akigw_tiers_lookups_missed_total", "tier", "those that it had not"},
	{"akigw_tiers_lookups_missed_at_double_size_total", "tier", "those that a tier of twice the size would not have had, by sample"},
	{"akigw_tiers_moves_total", "action, by", "objects moved or pinned; by is worker, or who else did"},
	{"akigw_tiers_worker_cycle_seconds", "", "time that a cycle of the worker took"},
	{"akigw_tiers_back_writes_total", "commit", "writes that a rule wants written back: acknowledged by the journal, or by the upstream because the journal could not take them"},
	{"akigw_tiers_back_through_total", "reason", "writes that a rule wants written back and that the journal did not take (they went to the upstream, or got 503 if it did not answer), by reason: absent, forbidden, versioned, encrypted, etags or unreadable say what the bucket is; unanswered, changing, full, journal, request and kind what kept the write out of the journal (docs/contract.md)"},
	{"akigw_tiers_events_total", "", "changes that the upstream told of"},
	{"akigw_tiers_event_gaps_total", "", "times when events may have been missed: everything is validated then"},
	{"akigw_tiers_fill_memory_waits_total", "", "fills that waited for memory (cache.fill_bytes)"},
	{"akigw_tiers_fill_memory_refused_total", "", "reads answered with 503 because no memory for them came free"},
	{"akigw_tiers_fills_yielded_total", "", "fills that gave their memory up to others"},
	{"akigw_tiers_read_ahead_refused_total", "", "read-aheads that did not happen for want of memory"},
	{"akigw_tiers_sequential_read_ahead_bytes_total", "", "bytes fetched ahead of sequential readers"},
	{"akigw_hot_used_bytes", "", "memory that cached data takes"},
	{"akigw_hot_quota_bytes", "", "memory that it may take"},
	{"akigw_hot_values", "", "values in memory"},
	{"akigw_warm_used_bytes", "", "disk that cached data takes, as allocated"},
	{"akigw_warm_quota_bytes", "", "disk that it may take"},
	{"akigw_warm_evicted_values_total", "", "values that left the disk for others"},
	{"akigw_warm_unpopular_writes_total", "", "values that did not come onto a full disk, because they were asked for too seldom"},
	{"akigw_warm_refused_writes_total", "", "values that found no room on disk"},
	{"akigw_warm_failed_writes_total", "", "values that could not be written to disk"},
	{"akigw_warm_corrupt_values_total", "", "values on disk whose checksum was wrong: dropped, and fetched again. More than a few: look at the disk"},
	{"akigw_warm_pins_refused_total", "", "pins that found no room on disk"},
	{"akigw_journal_pending", "", "writes that are acknowledged and not upstream yet"},
	{"akigw_journal_pending_bytes", "", "bytes of their bodies, and of dead letters'"},
	{"akigw_journal_oldest_seconds", "", "age of the oldest of them"},
	{"akigw_journal_dead_letters", "", "writes that could not be taken upstream, and are kept"},
	{"akigw_journal_failed", "", "1 while the journal takes no writes"},
	{"akigw_journal_repaired_total", "", "with second_dir: records and bodies of the journal that were damaged or missing in one directory and were repaired from the other, since the start"},
	{"akigw_journal_lost_bodies_total", "", "with second_dir: bodies in the journal that were found damaged in both directories, since the start"},
	{"akigw_journal_segment_bytes", "", "size of the journal's files"},
	{"akigw_journal_uploads", "", "multipart uploads of clients that are open in the journal"},
	{"akigw_journal_packed", "", "objects in packs"},
	{"akigw_journal_packs", "", "packs that hold objects"},
	{"akigw_journal_promised_dates", "", "objects in the upstream whose Last-Modified is shown as it was promised when they were written"},
	{"akigw_journal_translated_etags", "", "objects whose ETag upstream is another one than was promised"},
	{"akigw_uploadpool_active", "", "uploads under way"},
	{"akigw_uploadpool_limit", "", "how many may be under way, as the upstream bears it"},
	{"akigw_uploadpool_paused", "", "upstreams to which uploads are paused"},
	{"akigw_uploadpool_paused_buckets", "", "buckets whose pending writes are not uploaded, because they are versioned, encrypted or gone now: see akigw status"},
	{"akigw_uploadpool_flushed_total", "", "writes taken upstream and verified there"},
	{"akigw_uploadpool_flushed_bytes_total", "", "bytes of them"},
	{"akigw_uploadpool_retries_total", "", "uploads that were tried again"},
	{"akigw_uploadpool_throttled_total", "", "times that the upstream told uploads to slow down"},
	{"akigw_uploadpool_dead_letters_total", "", "writes that became dead letters"},
	{"akigw_uploadpool_translated_etags_total", "", "uploads that got another ETag than was promised"},
	{"akigw_uploadpool_unconfirmed", "", "writes that are upstream and stay pending for some seconds, because the upstream may still carry out an older request for their keys"},
	{"akigw_uploadpool_late_requests_total", "", "writes that were uploaded again, because the upstream carried out an older request after them"},
	{"akigw_uploadpool_packs_total", "", "packs written upstream"},
	{"akigw_uploadpool_packed_total", "", "objects written in packs"},
	{"akigw_cold_requests_total", "op", "requests sent to the upstream"},
	{"akigw_cold_responses_total", "op, status", "answers of the upstream"},
	{"akigw_cold_errors_total", "op", "requests that got no answer"},
	{"akigw_cold_received_bytes_total", "", "bytes received from the upstream, as on the wire before TLS"},
	{"akigw_cold_sent_bytes_total", "", "bytes sent to it"},
	{"akigw_cold_connections_total", "from", "connections that requests went out on: of the pool, or new ones (dial)"},
	{"akigw_cold_retries_total", "", "reads sent again"},
	{"akigw_cold_retries_refused_total", "", "reads not sent again, because too many are"},
	{"akigw_cold_hedges_total", "", "reads sent a second time because the first took long"},
	{"akigw_cold_hedges_won_total", "", "those whose second answer came first"},
	{"akigw_cold_link_waits_total", "", "requests that waited for their share of the upstream's link"},
	{"akigw_cold_breaker_opened_total", "", "times that a breaker opened"},
	{"akigw_cold_breaker_refused_total", "", "requests refused by an open breaker"},
	{"akigw_cold_breakers_open", "upstream", "breakers that are open"},
	{"akigw_cold_suspect", "upstream", "1 while the upstream has stopped answering and requests that need it are refused"},
	{"akigw_cold_suspected_total", "", "times that an upstream was found to have stopped answering"},
	{"akigw_cold_suspect_refused_total", "", "requests refused because their upstream had stopped answering"},
	{"akigw_cold_probes_total", "", "probes sent to find out whether an upstream still answers"},
	{"akigw_tiers_unsettled_writes_total", "", "writes that got no answer and may still be carried out: their keys stay fenced for 16 minutes"},
	{"akigw_cold_credential_fetches_total", "result", "times that keys for an upstream were fetched from their source (ok), or could not be (error)"},
	{"akigw_cold_credentials_failing", "upstream", "1 while the last fetch of an upstream's keys failed; requests fail when those that are held end"},
	{"akigw_cold_clock_skew_seconds", "upstream", "how far the upstream's clock is ahead of this one"},
	{"akigw_admin_throttled_credentials_total", "", "credentials for the admin listener that were not looked at, because too many from their address were wrong"},
	{"akigw_rules_reloads_total", "result", "times that changed rules were taken over (ok), or were not because of mistakes (error)"},
	{"akigw_access_reloads_total", "result", "the same for users and keys"},
	{"akigw_snapshot_created_total", "", "snapshots made"},
	{"akigw_snapshot_failed_total", "", "snapshots that could not be made"},
	{"akigw_snapshot_damaged_total", "", "snapshots found damaged"},
	{"akigw_snapshot_seconds", "", "time that a snapshot took"},
	{"akigw_faults_enabled", "", "1 if faults can be set: not in production"},
	{"akigw_faults_set", "", "1 while faults are set"},
	{"akigw_faults_hits_total", "effect", "faults that happened"},
}

// writeMetrics writes all metrics, with their help, each family in one piece.
func (s *Server) writeMetrics(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	var text bytes.Buffer
	s.metrics.WritePrometheus(&text)
	metrics.WriteProcessMetrics(&text)
	metrics.WriteFDMetrics(&text)
	_ = explained(w, text.String()) // a client that has gone does not read its answer
}

// explained writes metrics in order, and with the help of families.
func explained(w io.Writer, text string) error {
	help := map[string]string{}
	for _, f := range families {
		help[f.name] = f.help
	}
	types, lines := map[string]string{}, map[string][]string{}
	name := ""
	for line := range strings.Lines(text) {
		if declared, ok := strings.CutPrefix(line, "# TYPE "); ok {
			var kind string
			name, kind, _ = strings.Cut(strings.TrimSpace(declared), " ")
			types[name] = kind
			continue
		}
		if !strings.HasPrefix(line, "#") {
			lines[name] = append(lines[name], line)
		}
	}
	var out bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(lines)) {
		text, kind := help[name], types[name]
		if text == "" { // the library's own
			if !strings.HasPrefix(name, "akigw_") && strings.HasSuffix(name, "_count") {
				continue // a name that is no histogram's: Prometheus objects
			}
			text = "of the process, as the operating system counts it"
			if strings.HasPrefix(name, "go_") {
				text = "of the Go runtime: package runtime/metrics"
			}
			if strings.HasSuffix(name, "_total") {
				kind = "counter"
			}
		}
		fmt.Fprintf(&out, "# HELP %s %s\n# TYPE %s %s\n", name, text, name, kind)
		for _, line := range lines[name] {
			out.WriteString(line)
		}
	}
	_, err := w.Write(out.Bytes())
	return err
}
