package admin

import (
	"net/http"
	"net/http/pprof"
	"runtime"

	"github.com/akidb/akigw/cost"
	"github.com/akidb/akigw/placement"
	"github.com/akidb/akigw/trace"
	"github.com/akidb/akigw/writeback"
)

// Parameters that several routes have.
var (
	ofBucket  = param{"bucket", "name of a bucket", true}
	ofPrefix  = param{"prefix", "beginning of keys; without it and key, all of the bucket", false}
	ofKey     = param{"key", "one key", false}
	ofLetter  = []param{{"id", "number of the dead letter", true}}
	ofSeconds = []param{{"seconds", "how long it is measured", true}}
)

// lines is the media type of an answer that is a JSON document on each line.
const lines = "application/x-ndjson"

// routes is everything that this listener answers.
func (s *Server) routes() []route {
	all := s.ownRoutes()
	for _, api := range s.apis {
		all = append(all, api.routes()...)
	}
	return all
}

// ownRoutes are those about the gateway as a whole, the tiers and what is pending.
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
		{path: "/events", method: post, token: s.Config.EventsToken, handle: s.takeEvents, summary: "Take an S3 event notification: what it names is not served any more without the upstream's word", text: "application/json", stream: "text/plain"},

		{path: "/api/v1/openapi.json", handle: s.openAPI, summary: "This document", answer: object{}},
		{path: "/api/v1/login", method: post, open: true, handle: s.login, summary: "Begin a session of the console", body: Login{}},
		{path: "/api/v1/logout", method: post, open: true, handle: s.logout, summary: "End the session of the console"},
		{path: "/api/v1/session", open: true, handle: s.sessionNow, summary: "Who is logged in at the console", answer: Session{}},
		{path: "/api/v1/stream", handle: s.stream, summary: "What happens, each second, as server-sent events of Overview", answer: Overview{}, stream: "text/event-stream"},
		{path: "/api/v1/logs", private: true, handle: s.logs, summary: "The log: its end, and then as it goes on, as server-sent events", stream: "text/event-stream"},
		{path: "/api/v1/audit", private: true, handle: s.audited, summary: "Who changed what, the newest first", query: []param{{"limit", "1 to 1000", false}}, answer: []Audited{}},
		{path: "/api/v1/status", handle: s.status, summary: "What is held, and what is not upstream yet", answer: Status{}},
		{path: "/api/v1/cost", handle: s.costs, summary: "What was asked for by bucket, what it cost upstream, and what was saved", answer: cost.Report{}},

		{path: "/api/v1/tier", handle: s.tier, summary: "Where an object is (with key: an Object), or the sums of a prefix or bucket", query: []param{ofBucket, ofPrefix, ofKey}, answer: placement.State{}},
		{path: "/api/v1/tier", method: post, handle: s.moveTier, summary: "Promote, demote, pin or unpin a key, a prefix or a bucket", body: move{}, answer: placement.MoveResult{}},
		{path: "/api/v1/tier/objects", handle: s.tierObjects, summary: "Objects, a page at a time", query: []param{ofBucket, ofPrefix, ofKey, {"limit", "1 to 10000", false}, {"after", "what the page before called next", false}}, answer: Page{}},
		{path: "/api/v1/tier/prefixes", handle: s.prefixes, summary: "Sums by bucket, or of a bucket by the next part of its keys; the largest first", query: []param{{"bucket", "name of a bucket; without it, all are summed up", false}, {"prefix", "beginning of keys", false}}, answer: []Prefix{}},
		{path: "/api/v1/tier/pins", handle: s.pins, summary: "Pins by name", answer: []placement.Pin{}},
		{path: "/api/v1/metrics/tiers", handle: s.tierMetrics, summary: "How full the tiers are, and what the worker does", answer: TierMetrics{}},
		{path: "/api/v1/warm", method: post, handle: s.warm, summary: "Bring objects in before anybody asks for them", query: []param{ofBucket, ofPrefix, ofKey, {"tier", "hot or warm", false}, {"rate", "bytes a second", false}, {"after", "key to go on behind", false}}, answer: placement.PrefetchProgress{}, stream: lines},
		{path: "/api/v1/purge", method: post, handle: s.purge, summary: "Forget what is cached", query: []param{ofBucket, ofPrefix, ofKey}, answer: struct {
			Purged int `json:"purged"`
		}{}},
		{path: "/api/v1/trace", private: true, handle: s.recordTrace, summary: "What the tiers are asked for, as it happens: trace.Access between headers", query: append([]param{{"nameless", "true: no names and no ETags", false}}, ofSeconds...), answer: trace.Access{}, stream: lines},

		{path: "/api/v1/dead-letters", handle: s.deadLetters, summary: "Writes that could not be taken upstream", answer: []writeback.DeadLetter{}},
		{path: "/api/v1/dead-letters/retry", method: post, query: ofLetter, summary: "Try it again", handle: s.onDeadLetter(func(r *http.Request, id uint64) error { return s.Writes.DeadLetters.Retry(r.Context(), id) })},
		{path: "/api/v1/dead-letters/drop", method: post, query: ofLetter, summary: "Drop it for good", handle: s.onDeadLetter(func(r *http.Request, id uint64) error { return s.Writes.DeadLetters.Drop(r.Context(), id) })},
		{path: "/api/v1/dead-letters/archive", method: post, handle: s.archiveDeadLetters, summary: "Write all of them into one object upstream", query: []param{ofBucket, {"key", "of the object", true}}, answer: struct {
			Archived int `json:"archived"`
		}{}},
		{path: "/api/v1/dead-letters/export", method: post, handle: s.exportDeadLetter, summary: "Its body", query: ofLetter, stream: "application/octet-stream"},
		{path: "/api/v1/journal/unpack", method: post, handle: s.unpack, summary: "Make objects of their own of what is in packs", query: []param{ofBucket}, answer: struct {
			Unpacked int `json:"unpacked"`
		}{}},
		{path: "/api/v1/journal/resume", method: post, handle: s.resume, summary: "Upload the pending writes of a bucket that is versioned, encrypted or gone by now", query: []param{ofBucket, {"forget", "true: forget all else that is known of the bucket, too", false}}},
		{path: "/api/v1/journal/accept", method: post, summary: "Go on with a journal that was found damaged", handle: func(w http.ResponseWriter, _ *http.Request) { answer(w, s.Writes.AcceptDamage()) }},

		{path: "/api/v1/rules/explain", handle: s.explain, summary: "Which settings hold for an object, and where they come from", query: []param{ofBucket, {"key", "the object's", true}}, answer: []Setting{}},

		{path: "/debug/pprof/", handle: pprof.Index},
		{path: "/debug/pprof/cmdline", handle: pprof.Cmdline},
		{path: "/debug/pprof/profile", handle: pprof.Profile},
		{path: "/debug/pprof/mutex", handle: s.contended("mutex", func(on bool) { runtime.SetMutexProfileFraction(map[bool]int{true: 10}[on]) }), query: ofSeconds},
		{path: "/debug/pprof/block", handle: s.contended("block", func(on bool) { runtime.SetBlockProfileRate(map[bool]int{true: 10_000}[on]) }), query: ofSeconds},
		{path: "/debug/pprof/symbol", handle: pprof.Symbol},
		{path: "/debug/pprof/trace", handle: pprof.Trace},
	}
}
