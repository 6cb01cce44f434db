package admin

import (
	"net/http"
	"net/http/pprof"
	"runtime"

	"github.com/akidb/akigw/advise"
	"github.com/akidb/akigw/compare"
	"github.com/akidb/akigw/cost"
	"github.com/akidb/akigw/placement"
	"github.com/akidb/akigw/trace"
	"github.com/akidb/akigw/writeback"
)

// Parameters of several routes.
var (
	ofBucket  = param{"bucket", "name of a bucket", true}
	ofPrefix  = param{"prefix", "prefix of keys; without prefix and key, the whole bucket", false}
	ofKey     = param{"key", "a single key", false}
	ofLetter  = []param{{"id", "number of the dead letter", true}}
	ofSeconds = []param{{"seconds", "duration in seconds", true}}
)

// lines is the media type of a response with one JSON document per line.
const lines = "application/x-ndjson"

// routes returns all routes of this listener.
func (s *Server) routes() []route {
	all := s.ownRoutes()
	for _, api := range s.apis {
		all = append(all, api.routes()...)
	}
	return all
}

// ownRoutes returns the routes for the gateway as a whole, the tiers and pending writes.
func (s *Server) ownRoutes() []route {
	const post = http.MethodPost
	return []route{
		{path: "/{$}", open: true, handle: page("index.html", "text/html; charset=utf-8")},
		{path: "/app.js", open: true, handle: page("app.js", "text/javascript; charset=utf-8")},
		{path: "/style.css", open: true, handle: page("style.css", "text/css; charset=utf-8")},
		{path: "/icon.svg", open: true, handle: page("icon.svg", "image/svg+xml")},
		{path: "/metrics", handle: s.writeMetrics, summary: "Metrics in Prometheus' text format: docs/metrics.md", stream: "text/plain"},
		{path: "/healthz", open: true, handle: s.health, summary: "200 unless acknowledged writes may be in danger (503)", stream: "text/plain"},
		{path: "/readyz", open: true, handle: s.readiness, summary: "200 while requests are accepted, else 503", stream: "text/plain"},
		{path: "/events", method: post, token: s.Config.EventsToken, handle: s.takeEvents, summary: "Receive an S3 event notification: the objects that it names are validated before they are served again", text: "application/json", stream: "text/plain"},

		{path: "/api/v1/openapi.json", handle: s.openAPI, summary: "This document", answer: object{}},
		{path: "/api/v1/login", method: post, open: true, handle: s.login, summary: "Begin a session of the console", body: Login{}},
		{path: "/api/v1/logout", method: post, open: true, handle: s.logout, summary: "End the session of the console"},
		{path: "/api/v1/session", open: true, handle: s.sessionNow, summary: "Who is logged in at the console", answer: Session{}},
		{path: "/api/v1/stream", handle: s.stream, summary: "Live figures: an Overview each second, as server-sent events", answer: Overview{}, stream: "text/event-stream"},
		{path: "/api/v1/logs", private: true, handle: s.logs, summary: "The end of the log and each new record, as server-sent events", stream: "text/event-stream"},
		{path: "/api/v1/audit", private: true, handle: s.audited, summary: "Audit log, newest first", query: []param{{"limit", "1 to 1000", false}}, answer: []Audited{}},
		{path: "/api/v1/status", handle: s.status, summary: "What the gateway holds and what is not upstream yet", answer: Status{}},
		{path: "/api/v1/compare", private: true, handle: s.compared, summary: "Answers from the cache that differed from the upstream's, newest first, and counts", answer: compare.Report{}},
		{path: "/api/v1/cost", handle: s.costs, summary: "Requests, upstream cost and savings by bucket", answer: cost.Report{}},

		{path: "/api/v1/tier", handle: s.tier, summary: "Where an object is (with key: an Object), or totals of a prefix or bucket", query: []param{ofBucket, ofPrefix, ofKey}, answer: placement.State{}},
		{path: "/api/v1/tier", method: post, handle: s.moveTier, summary: "Promote, demote, pin or unpin a key, a prefix or a bucket", body: move{}, answer: placement.MoveResult{}},
		{path: "/api/v1/tier/objects", handle: s.tierObjects, summary: "Objects, a page at a time", query: []param{ofBucket, ofPrefix, ofKey, {"limit", "1 to 10000", false}, {"after", "next of the previous page", false}}, answer: Page{}},
		{path: "/api/v1/tier/prefixes", handle: s.prefixes, summary: "Totals by bucket, or of one bucket by the next part of its keys; largest first", query: []param{{"bucket", "name of a bucket; default: totals of all buckets", false}, {"prefix", "prefix of keys", false}}, answer: []Prefix{}},
		{path: "/api/v1/tier/pins", handle: s.pins, summary: "Pins by name", answer: []placement.Pin{}},
		{path: "/api/v1/metrics/tiers", handle: s.tierMetrics, summary: "Usage of the tiers and state of the policy worker", answer: TierMetrics{}},
		{path: "/api/v1/warm", method: post, handle: s.warm, summary: "Prefetch objects", query: []param{ofBucket, ofPrefix, ofKey, {"tier", "hot or warm", false}, {"rate", "bytes per second", false}, {"after", "key after which to start", false}}, answer: placement.PrefetchProgress{}, stream: lines},
		{path: "/api/v1/purge", method: post, handle: s.purge, summary: "Drop cached objects", query: []param{ofBucket, ofPrefix, ofKey}, answer: struct {
			Purged int `json:"purged"`
		}{}},
		{path: "/api/v1/trace", private: true, handle: s.recordTrace, summary: "Accesses to the tiers as they happen: trace.Access between headers", query: append([]param{{"nameless", "true: leave out names and ETags", false}}, ofSeconds...), answer: trace.Access{}, stream: lines},
		{path: "/api/v1/advice", private: true, handle: s.advice, summary: "Proposals for the configuration, from metrics, ghost caches and a trace: docs/sizing.md", query: []param{{"seconds", "how long to record accesses first; default: no trace is used", false}}, answer: advise.Report{}},

		{path: "/api/v1/dead-letters", handle: s.deadLetters, summary: "Writes that could not be uploaded", answer: []writeback.DeadLetter{}},
		{path: "/api/v1/dead-letters/retry", method: post, query: ofLetter, summary: "Retry a dead letter", handle: s.onDeadLetter(func(r *http.Request, id uint64) error { return s.Writes.DeadLetters.Retry(r.Context(), id) })},
		{path: "/api/v1/dead-letters/drop", method: post, query: ofLetter, summary: "Discard a dead letter permanently", handle: s.onDeadLetter(func(r *http.Request, id uint64) error { return s.Writes.DeadLetters.Drop(r.Context(), id) })},
		{path: "/api/v1/dead-letters/archive", method: post, handle: s.archiveDeadLetters, summary: "Write all dead letters into one upstream object", query: []param{ofBucket, {"key", "key of the object", true}}, answer: struct {
			Archived int `json:"archived"`
		}{}},
		{path: "/api/v1/dead-letters/export", method: post, handle: s.exportDeadLetter, summary: "Body of a dead letter", query: ofLetter, stream: "application/octet-stream"},
		{path: "/api/v1/journal/unpack", method: post, handle: s.unpack, summary: "Copy every packed object of a bucket into an object of its own", query: []param{ofBucket}, answer: struct {
			Unpacked int `json:"unpacked"`
		}{}},
		{path: "/api/v1/journal/resume", method: post, handle: s.resume, summary: "Upload the pending writes of a bucket that has become versioned, encrypted or missing", query: []param{ofBucket, {"forget", "true: also forget everything else that the gateway has learned about the bucket", false}}},
		{path: "/api/v1/journal/accept", method: post, summary: "Accept the damage of a journal, so that it takes writes again", handle: func(w http.ResponseWriter, _ *http.Request) { answer(w, s.Writes.AcceptDamage()) }},

		{path: "/api/v1/rules/explain", handle: s.explain, summary: "Settings of an object and where they come from", query: []param{ofBucket, {"key", "key of the object", true}}, answer: []Setting{}},

		{path: "/debug/pprof/", handle: pprof.Index},
		{path: "/debug/pprof/cmdline", handle: pprof.Cmdline},
		{path: "/debug/pprof/profile", handle: pprof.Profile},
		{path: "/debug/pprof/mutex", handle: s.contended("mutex", func(on bool) { runtime.SetMutexProfileFraction(map[bool]int{true: 10}[on]) }), query: ofSeconds},
		{path: "/debug/pprof/block", handle: s.contended("block", func(on bool) { runtime.SetBlockProfileRate(map[bool]int{true: 10_000}[on]) }), query: ofSeconds},
		{path: "/debug/pprof/symbol", handle: pprof.Symbol},
		{path: "/debug/pprof/trace", handle: pprof.Trace},
	}
}
