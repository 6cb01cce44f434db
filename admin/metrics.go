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

// family is a metric with its labels and help text.
type family struct{ name, labels, help string }

// families are all metrics of the gateway. docs/metrics.md is generated from them, and /metrics
// prints their help texts. A test finds metrics that are missing here.
var families = []family{
	{"akigw_build_info", "version", "1, with the version of the program"},
	{"akigw_gateway_requests_total", "op, status", "requests by S3 API name and HTTP status; op is none for requests that could not be routed"},
	{"akigw_gateway_request_seconds", "kind", "time from a request's head to the last byte of the response; kind is read (GET and HEAD of objects), write, list or other"},
	{"akigw_gateway_get_seconds", "outcome", "time from the head of a GetObject to the last byte of a successful response, by the slowest tier that it needed: hot, warm or cold; overlay: served from pending writes; stale: served while the upstream did not respond"},
	{"akigw_gateway_put_seconds", "commit", "time from the head of a PutObject to the last byte of a successful response, by what acknowledged it: journal or upstream"},
	{"akigw_gateway_sent_bytes_total", "", "bytes of response bodies sent to clients"},
	{"akigw_gateway_received_bytes_total", "", "bytes of request bodies of known length, as received"},
	{"akigw_gateway_panics_total", "", "requests whose handler panicked: a bug, please report it"},
	{"akigw_gateway_throttled_failures_total", "", "requests with a wrong signature that got 503 because there were too many from one address"},
	{"akigw_gateway_over_request_memory_total", "", "requests refused because request_memory was in use"},
	{"akigw_gateway_qos_limited_total", "", "requests refused or slowed down by a class of service"},
	{"akigw_gateway_over_quota_total", "", "writes refused by a quota"},
	{"akigw_wire_connections", "", "open client connections"},
	{"akigw_wire_refused_connections_total", "limit", "connections closed at once because they exceeded a limit, by limit"},
	{"akigw_wire_refused_requests_total", "", "requests whose head is not strict HTTP/1.1"},
	{"akigw_tiers_reads_total", "outcome", "reads by the slowest tier that they needed: hot, warm or cold; overlay: served from pending writes; stale: served while the upstream did not respond"},
	{"akigw_tiers_listings_total", "outcome", "listings served from the cache (hot) and from the upstream (cold)"},
	{"akigw_tiers_lookups_total", "tier", "look-ups of blocks in a tier"},
	{"akigw_tiers_lookups_missed_total", "tier", "look-ups that missed"},
	{"akigw_tiers_lookups_missed_at_double_size_total", "tier", "look-ups that would have missed in a tier of twice the size, estimated from a sample"},
	{"akigw_tiers_moves_total", "action, by", "objects moved or pinned; by is worker or what else caused it"},
	{"akigw_tiers_worker_cycle_seconds", "", "duration of a cycle of the policy worker"},
	{"akigw_tiers_back_writes_total", "commit", "writes for which a rule says write = back: acknowledged by the journal, or by the upstream because the journal could not take them"},
	{"akigw_tiers_back_through_total", "reason", "writes for which a rule says write = back that the journal did not take (they went to the upstream, or got 503 if it did not respond), by reason: absent, forbidden, versioned, encrypted, etags and unreadable describe the bucket; unanswered, changing, full, journal, request and kind say what kept the write out of the journal (docs/contract.md)"},
	{"akigw_tiers_uploads_total", "outcome", "multipart uploads whose parts were written through: cached, their parts are the blocks of the object; dropped, because they were aborted or forgotten, or it was not certain that the object is made of these parts"},
	{"akigw_tiers_events_total", "", "change notifications from the upstream"},
	{"akigw_tiers_event_gaps_total", "", "times that notifications may have been missed; after each, everything is validated"},
	{"akigw_tiers_fill_memory_waits_total", "", "fills that waited for memory (cache.fill_bytes)"},
	{"akigw_tiers_fill_memory_refused_total", "", "reads that got 503 because no memory became free for them"},
	{"akigw_tiers_fills_yielded_total", "", "fills that gave up their memory to other fills"},
	{"akigw_tiers_verified_bodies_total", "by", "whole bodies from the upstream, by what they were verified with: an algorithm of x-amz-checksum-*, md5 (the ETag as well), or none if the upstream has no digest of the body. Ranges are not counted: no checksum of an object covers them"},
	{"akigw_tiers_corrupt_bodies_total", "", "whole bodies from the upstream that did not match their checksum; they are not cached, and their readers are cut off"},
	{"akigw_tiers_read_ahead_refused_total", "", "read-aheads skipped for lack of memory"},
	{"akigw_tiers_sequential_read_ahead_bytes_total", "", "bytes fetched ahead of sequential readers"},
	{"akigw_compare_answers_total", "result", "answers from the cache that were also asked of the upstream (compare in a rule), by result: equal; different; allowed: different, but within the age that the freshness mode allows"},
	{"akigw_compare_skipped_total", "reason", "answers that were to be compared and were not, by reason: changed: the key was changed in between; unanswered: by the upstream; conditional: a 304, 412 or 416; part: a read by part number; aborted: by the client; large: too much to read at max_bytes_per_sec; too_many: over max_requests_per_sec or the queue; busy: clients waited for the upstream"},
	{"akigw_compare_received_bytes_total", "", "bytes of bodies read from the upstream for comparisons"},
	{"akigw_compare_queued", "", "answers that wait to be compared"},
	{"akigw_hot_used_bytes", "", "memory used by cached data"},
	{"akigw_hot_quota_bytes", "", "memory that cached data may use"},
	{"akigw_hot_values", "", "values in memory"},
	{"akigw_warm_used_bytes", "", "disk space allocated for cached data"},
	{"akigw_warm_quota_bytes", "", "disk space that cached data may use"},
	{"akigw_warm_evicted_values_total", "", "values evicted from disk to make room"},
	{"akigw_warm_unpopular_writes_total", "", "values not admitted to the full disk tier because they are requested too rarely"},
	{"akigw_warm_refused_writes_total", "", "values not cached for lack of disk space"},
	{"akigw_warm_failed_writes_total", "", "values that could not be written to disk"},
	{"akigw_warm_corrupt_values_total", "", "values on disk with a wrong checksum; they are dropped and fetched again. If there are more than a few, check the disk"},
	{"akigw_warm_pins_refused_total", "", "pins refused for lack of disk space"},
	{"akigw_warm_segments", "", "files that hold the blocks of objects on disk"},
	{"akigw_warm_segment_blocks", "", "blocks in those files; each takes about 40 bytes of memory"},
	{"akigw_warm_segment_bytes", "", "size of those files"},
	{"akigw_warm_segment_live_bytes", "", "bytes in those files that can be read; the rest is garbage"},
	{"akigw_warm_segment_written_bytes_total", "", "bytes of new blocks written to those files, since the start"},
	{"akigw_warm_segment_copied_bytes_total", "", "bytes of blocks copied from one of those files to another to free space, since the start. The sum of both, relative to the new blocks, is the write amplification"},
	{"akigw_journal_pending", "", "acknowledged writes that are not upstream yet (pending)"},
	{"akigw_journal_pending_bytes", "", "bytes of the bodies of pending writes and dead letters"},
	{"akigw_journal_oldest_seconds", "", "age of the oldest pending write"},
	{"akigw_journal_dead_letters", "", "writes that could not be uploaded and are kept"},
	{"akigw_journal_failed", "", "1 while the journal takes no writes"},
	{"akigw_journal_repaired_total", "", "with second_dir: records and bodies of the journal that were damaged or missing in one directory and were repaired from the other, since the start"},
	{"akigw_journal_lost_bodies_total", "", "with second_dir: bodies in the journal that were found damaged in both directories, since the start"},
	{"akigw_journal_segment_bytes", "", "size of the journal's files"},
	{"akigw_journal_uploads", "", "open multipart uploads of clients in the journal"},
	{"akigw_journal_packed", "", "objects in packs"},
	{"akigw_journal_packs", "", "packs that hold objects"},
	{"akigw_journal_promised_dates", "", "objects in the upstream that are shown with the Last-Modified of the acknowledgement"},
	{"akigw_journal_translated_etags", "", "objects whose upstream ETag differs from the acknowledged one"},
	{"akigw_uploadpool_active", "", "uploads under way"},
	{"akigw_uploadpool_limit", "", "limit of parallel uploads, which adapts to the upstream"},
	{"akigw_uploadpool_paused", "", "upstreams to which uploads are paused"},
	{"akigw_uploadpool_paused_buckets", "", "buckets whose pending writes are not uploaded because the bucket has become versioned, encrypted or missing: see akigw status"},
	{"akigw_uploadpool_answers_contradicted_total", "", "uploads whose answer a HEAD contradicted"},
	{"akigw_uploadpool_verified_total", "by", "uploads of objects by how they were verified: answer, head or read_back"},
	{"akigw_uploadpool_flushed_total", "", "writes uploaded and verified"},
	{"akigw_uploadpool_flushed_bytes_total", "", "bytes of uploaded writes"},
	{"akigw_uploadpool_retries_total", "", "retried uploads"},
	{"akigw_uploadpool_throttled_total", "", "uploads that the upstream answered with SlowDown"},
	{"akigw_uploadpool_dead_letters_total", "", "writes that became dead letters"},
	{"akigw_uploadpool_translated_etags_total", "", "uploads whose ETag differs from the acknowledged one"},
	{"akigw_uploadpool_unconfirmed", "", "uploaded writes that stay pending for some seconds because the upstream may still carry out an older request for their keys"},
	{"akigw_uploadpool_late_requests_total", "", "writes that were uploaded again because the upstream carried out an older request after them"},
	{"akigw_uploadpool_packs_total", "", "packs written upstream"},
	{"akigw_uploadpool_packed_total", "", "objects written in packs"},
	{"akigw_cold_requests_total", "op", "requests sent to the upstream"},
	{"akigw_cold_responses_total", "op, status", "responses of the upstream"},
	{"akigw_cold_errors_total", "op", "requests without a response"},
	{"akigw_cold_received_bytes_total", "", "bytes received from the upstream, without TLS overhead"},
	{"akigw_cold_sent_bytes_total", "", "bytes sent to the upstream, without TLS overhead"},
	{"akigw_cold_connections_total", "from", "connections used for requests: from the pool or new (dial)"},
	{"akigw_cold_retries_total", "", "retried reads"},
	{"akigw_cold_retries_refused_total", "", "reads not retried because too many retries are under way"},
	{"akigw_cold_hedges_total", "", "hedges: reads sent a second time because the first request took long"},
	{"akigw_cold_hedges_won_total", "", "hedges whose response arrived first"},
	{"akigw_cold_link_waits_total", "", "requests that waited for their share of the upstream's bandwidth"},
	{"akigw_cold_breaker_opened_total", "", "times that a breaker opened"},
	{"akigw_cold_breaker_refused_total", "", "requests refused by an open breaker"},
	{"akigw_cold_breakers_open", "upstream", "breakers that are open"},
	{"akigw_cold_suspect", "upstream", "1 while the upstream has stopped responding and requests that need it are refused"},
	{"akigw_cold_suspected_total", "", "times that an upstream was found to have stopped responding"},
	{"akigw_cold_suspect_refused_total", "", "requests refused because their upstream had stopped responding"},
	{"akigw_cold_probes_total", "", "probes sent to find out whether an upstream still responds"},
	{"akigw_tiers_requests_saved_total", "what", "with freshness exclusive, HEADs that were not sent: for the headers of an object that the gateway has just written or, in any mode, where a part of it is, or for the confirmation of an object before it leaves the disk"},
	{"akigw_tiers_pages_total", "outcome", "with freshness exclusive, pages of listings requested for the dates of objects that the gateway has written, by outcome: loaded or failed"},
	{"akigw_tiers_predictions_wrong_total", "what", "headers of a written object, or pages, with which a HEAD did not agree; after that, HEADs are sent again"},
	{"akigw_tiers_unsettled_writes_total", "", "writes that got no response and may still be carried out; their keys stay fenced for 16 minutes"},
	{"akigw_cold_credential_fetches_total", "result", "fetches of an upstream's keys from their source, successful (ok) or failed (error)"},
	{"akigw_cold_credentials_failing", "upstream", "1 if the last fetch of an upstream's keys failed; requests fail once the current keys expire"},
	{"akigw_cold_clock_skew_seconds", "upstream", "how far the upstream's clock is ahead of this machine's"},
	{"akigw_admin_throttled_credentials_total", "", "credentials for the admin listener that were not checked because too many from their address were wrong"},
	{"akigw_rules_reloads_total", "result", "reloads of changed rules, successful (ok) or refused because of mistakes (error)"},
	{"akigw_access_reloads_total", "result", "the same for users and keys"},
	{"akigw_snapshot_created_total", "", "snapshots created"},
	{"akigw_snapshot_failed_total", "", "snapshots that could not be created"},
	{"akigw_snapshot_damaged_total", "", "snapshots found damaged"},
	{"akigw_snapshot_seconds", "", "time taken to create a snapshot"},
	{"akigw_shadow_requests_total", "", "requests that passed in shadow mode (docs/trying.md)"},
	{"akigw_shadow_bytes_total", "", "bytes of the responses to them"},
	{"akigw_shadow_upstream_requests_total", "", "requests that the gateway would have sent to the upstream instead, as configured"},
	{"akigw_shadow_upstream_bytes_total", "", "bytes that it would have received"},
	{"akigw_shadow_reads_total", "outcome", "reads in shadow mode by the slowest tier that they would have needed, as configured: hot, warm or cold"},
	{"akigw_shadow_stale_reads_total", "freshness", "reads in shadow mode to which the response would have been out of date, by freshness mode"},
	{"akigw_shadow_sampled_ratio", "", "share of all keys that shadow mode simulates; 1 unless there are too many"},
	{"akigw_vectors_collections", "tier", "vector collections by tier: hot (in memory), warm (on disk) or cold (in the upstream alone)"},
	{"akigw_vectors_pending_bytes", "", "memory of acknowledged vectors that are not in the upstream"},
	{"akigw_vectors_oldest_seconds", "", "age of the oldest of them; 0 if there is none"},
	{"akigw_vectors_hot_bytes", "", "memory of hot vector collections"},
	{"akigw_vectors_stored_bytes", "", "size of the segments of vector collections in the upstream"},
	{"akigw_vectors_flushes_total", "", "uploads of acknowledged vectors, by collection"},
	{"akigw_vectors_merges_total", "", "merges of the segments of a collection"},
	{"akigw_vectors_policy_moves_total", "", "vector collections that the tiering policy has moved"},
	{"akigw_vectors_swept_objects_total", "", "objects of vector collections removed from the upstream because nothing needs them"},
	{"akigw_vectors_failures_total", "", "flushes, merges and moves of vector collections that failed and are tried again"},
	{"akigw_vectors_problem", "", "1 if vector collections are damaged, another gateway has them, or the upstream has not confirmed whose they are; akigw vectors ls says which"},
	{"akigw_faults_enabled", "", "1 if faults are enabled, which must not be the case in production"},
	{"akigw_faults_set", "", "1 while faults are set"},
	{"akigw_faults_hits_total", "effect", "injected faults"},
}

// writeMetrics writes all metrics with their help texts, grouped by family.
func (s *Server) writeMetrics(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	var text bytes.Buffer
	s.metrics.WritePrometheus(&text)
	metrics.WriteProcessMetrics(&text)
	metrics.WriteFDMetrics(&text)
	_ = explained(w, text.String()) // fails only if the client has disconnected
}

// explained writes metrics sorted by name, with the help texts of families.
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
		if text == "" { // a metric of the library
			if !strings.HasPrefix(name, "akigw_") && strings.HasSuffix(name, "_count") {
				continue // not a histogram, though its name ends like one's: Prometheus rejects it
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
