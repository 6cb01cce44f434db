// Package faults breaks the way to an upstream, and the disk, on purpose, by a plan: in tests,
// and where people rehearse outages. A plan says which requests and which uses of the disk are
// met, what happens to them, and when; with the same seed and the same requests in the same
// order it does the same again.
//
// It promises to do nothing unless a plan is set, and to touch nothing but the requests that
// the plan names. It knows S3's requests by their method and target, and nothing of the rest of
// the gateway.
package faults

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/pelletier/go-toml/v2"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/glob"
)

// Effect is what happens to a request.
type Effect string

// The effects.
const (
	SlowDown        Effect = "slow_down"         // 503 SlowDown, and nothing is done
	TooManyRequests Effect = "too_many_requests" // 429
	InternalError   Effect = "internal_error"    // 500
	AnyError        Effect = "error"             // Status and Code say which
	ErrorIn200      Effect = "error_in_200"      // 200 with an error document, and nothing is done
	Latency         Effect = "latency"           // LatencyMS, and up to JitterMS more, before it is sent
	Bandwidth       Effect = "bandwidth"         // its bodies go no faster than BytesPerSec
	Refused         Effect = "refused"           // no connection
	ResetBefore     Effect = "reset_before"      // the connection breaks, and nothing was done
	ResetAfter      Effect = "reset_after"       // it was done, and nobody is told
	TimeoutBefore   Effect = "timeout_before"    // no answer for LatencyMS, and nothing was done
	TimeoutAfter    Effect = "timeout_after"     // it was done, and there is no answer for LatencyMS
	Hang            Effect = "hang"              // no answer, ever, and nothing was done
	HangAfter       Effect = "hang_after"        // it was done, and there is no answer, ever
	HangBody        Effect = "hang_body"         // the answer's body stops half-way and does not go on
	ShortBody       Effect = "short_body"        // the answer's body ends half-way, as if it were whole
	Corrupt         Effect = "corrupt"           // one bit of the answer's body is wrong
	WrongRange      Effect = "wrong_range"       // the answer says that it is another range
	StaleETag       Effect = "stale_etag"        // the answer has another ETag
	Duplicate       Effect = "duplicate"         // it is delivered twice
)

// Effects are those on requests to an upstream.
var Effects = []Effect{SlowDown, TooManyRequests, InternalError, AnyError, ErrorIn200, Latency, Bandwidth, Refused, ResetBefore, ResetAfter, TimeoutBefore, TimeoutAfter, Hang, HangAfter, HangBody, ShortBody, Corrupt, WrongRange, StaleETag, Duplicate}

// Fault is one line of a plan.
type Fault struct {
	// Op, Bucket and Key are patterns of the requests that it meets, "" for all. Op is the S3
	// API name; several are separated by commas. Of a disk, Op is an akigw.DiskOp, and Key the
	// path of a file or what a value is stored under; it has no buckets.
	Op     string `toml:"op" json:"op,omitempty"`
	Bucket string `toml:"bucket" json:"bucket,omitempty"`
	Key    string `toml:"key" json:"key,omitempty"`
	// Tier is where it happens: cold, the upstream, and of effects on disks Warm or Journal, "" for both.
	Tier string `toml:"tier" json:"tier,omitempty"`
	// Direction is Read or Write, "" for both.
	Direction string `toml:"direction" json:"direction,omitempty"`

	Effect      Effect `toml:"effect" json:"effect"`
	Status      int    `toml:"status" json:"status,omitempty"` // of the effect error
	Code        string `toml:"code" json:"code,omitempty"`
	LatencyMS   int    `toml:"latency_ms" json:"latency_ms,omitempty"`
	JitterMS    int    `toml:"jitter_ms" json:"jitter_ms,omitempty"`
	BytesPerSec int    `toml:"bytes_per_sec" json:"bytes_per_sec,omitempty"`

	// When, of the requests that it meets: each with a probability (0 stands for 1); the Nth
	// alone, counted from 1; not the first Skip; no more than First after those; from After
	// seconds after the plan was set on; until Until seconds after it.
	Probability float64 `toml:"probability" json:"probability,omitempty"`
	Nth         int     `toml:"nth" json:"nth,omitempty"`
	Skip        int     `toml:"skip" json:"skip,omitempty"`
	First       int     `toml:"first" json:"first,omitempty"`
	After       float64 `toml:"after_secs" json:"after_secs,omitempty"`
	Until       float64 `toml:"until_secs" json:"until_secs,omitempty"`
}

// Plan is what is broken. The zero value breaks nothing.
type Plan struct {
	Seed   uint64  `toml:"seed" json:"seed"`
	Faults []Fault `toml:"fault" json:"fault"`
}

// maxFaults bounds the lines of a plan.
const maxFaults = 100

// Check returns all that is wrong with a plan, by line, nil if nothing is.
func (p *Plan) Check() error {
	var wrong []error
	if len(p.Faults) > maxFaults {
		wrong = append(wrong, fmt.Errorf("a plan can have %d faults", maxFaults))
	}
	for i, f := range p.Faults {
		report := func(key, problem string) { wrong = append(wrong, fmt.Errorf("fault %d: %s %s", i+1, key, problem)) }
		f.checkPlace(report)
		if f.Effect == AnyError && (f.Status < 400 || f.Status > 599 || f.Code == "") {
			report("status", "must be 400 to 599, and code the name of an error, with the effect error")
		}
		if f.Effect == Latency && f.LatencyMS+f.JitterMS <= 0 {
			report("latency_ms", "or jitter_ms must be more than 0 with the effect latency")
		}
		if f.Effect == Bandwidth && f.BytesPerSec < 1<<10 {
			report("bytes_per_sec", "must be at least 1024 with the effect bandwidth")
		}
		if !(f.Probability >= 0 && f.Probability <= 1) {
			report("probability", "must be 0 to 1")
		}
		for key, n := range map[string]int{"latency_ms": f.LatencyMS, "jitter_ms": f.JitterMS, "nth": f.Nth, "skip": f.Skip, "first": f.First} {
			if n < 0 {
				report(key, "must not be negative")
			}
		}
		if !(f.After >= 0 && f.Until >= 0) || f.Until > 0 && f.Until <= f.After {
			report("until_secs", "must be later than after_secs, and neither negative")
		}
	}
	return errors.Join(wrong...)
}

// checkPlace reports what is wrong with where a fault is to happen, and with what.
func (f *Fault) checkPlace(report func(key, problem string)) {
	tiers := []string{"", Cold}
	switch {
	case slices.Contains(DiskEffects, f.Effect):
		tiers = []string{"", Warm, Journal}
		if f.Bucket != "" {
			report("bucket", "must be left out with an effect on disks: use key")
		}
	case !slices.Contains(Effects, f.Effect):
		report("effect", fmt.Sprintf("must be one of %q, or of a disk %q", Effects, DiskEffects))
		return
	}
	if !slices.Contains(tiers, f.Tier) {
		report("tier", fmt.Sprintf("must be one of %q with the effect %s", tiers[1:], f.Effect))
	}
	if f.Direction != "" && f.Direction != Read && f.Direction != Write {
		report("direction", "must be read or write")
	}
	if f.Effect == SlowSync && f.LatencyMS+f.JitterMS <= 0 {
		report("latency_ms", "or jitter_ms must be more than 0 with the effect slow_sync")
	}
}

// Parse reads a plan in TOML or, if it begins with a brace, JSON. Unknown keys are errors.
func Parse(raw []byte) (p Plan, err error) {
	text := strings.TrimSpace(string(raw))
	if strings.HasPrefix(text, "{") {
		d := json.NewDecoder(strings.NewReader(text))
		d.DisallowUnknownFields()
		err = d.Decode(&p)
	} else {
		err = toml.NewDecoder(strings.NewReader(text)).DisallowUnknownFields().Decode(&p)
	}
	if err != nil {
		return Plan{}, fmt.Errorf("fault plan: %w", err)
	}
	return p, p.Check()
}

// answerable are the operations that can be repeated when their answer was lost. The others leave
// something behind: nobody knows the id of an upload whose answer was lost.
const answerable = "PutObject,UploadPart,CompleteMultipartUpload,DeleteObject*,GetObject,HeadObject,ListObjects*"

// Presets are plans that have a name.
var Presets = map[string]Plan{
	"slowdown":  {Seed: 1, Faults: []Fault{{Effect: SlowDown, Probability: 0.5}}},
	"brownout":  {Seed: 1, Faults: []Fault{{Effect: Latency, LatencyMS: 200, JitterMS: 600}, {Effect: InternalError, Probability: 0.05}}},
	"partition": {Seed: 1, Faults: []Fault{{Effect: Refused}}},
	"corrupt":   {Seed: 1, Faults: []Fault{{Op: "GetObject", Effect: Corrupt, Probability: 0.01}, {Op: "GetObject", Effect: ShortBody, Probability: 0.01}}},
	// Most requests are answered: an upstream of which nothing is heard would be found out at once.
	"hang": {Seed: 1, Faults: []Fault{{Effect: Hang, Probability: 0.03}, {Op: answerable, Effect: HangAfter, Probability: 0.02}, {Op: "GetObject", Effect: HangBody, Probability: 0.05}}},
	// It leaves the journal its syncs, if late: one that fails ends the journal until a restart.
	"flaky-disk": {Seed: 1, Faults: []Fault{{Tier: Warm, Effect: EIO, Probability: 0.01}, {Tier: Journal, Direction: Read, Effect: EIO, Probability: 0.01}, {Effect: SlowSync, LatencyMS: 50, JitterMS: 450, Probability: 0.2}}},
	// The journal keeps room for records of what it has taken: it is asked for more, and says no.
	"full-disk": {Seed: 1, Faults: []Fault{{Tier: Warm, Effect: ENOSPC}, {Tier: Journal, Op: string(akigw.DiskFree), Effect: ENOSPC}}},
}

// Modes are plans for tests of clients, by the names that tests like to call them.
var Modes = map[string]Plan{
	"RateLimit":     {Seed: 1, Faults: []Fault{{Effect: SlowDown, Probability: 0.3}}},
	"Timeout":       {Seed: 1, Faults: []Fault{{Effect: TimeoutBefore, LatencyMS: 2000, Probability: 0.05}, {Effect: TimeoutAfter, LatencyMS: 2000, Probability: 0.05}}},
	"PartialUpload": {Seed: 1, Faults: []Fault{{Op: "UploadPart,PutObject", Effect: ResetBefore, Probability: 0.2}, {Op: "CompleteMultipartUpload", Effect: ErrorIn200, Probability: 0.3}}},
	"Corruption":    {Seed: 1, Faults: []Fault{{Op: "GetObject", Effect: Corrupt, Probability: 0.2}}},
}

// Layer holds the plan that is set, for any number of transports. The zero value breaks
// nothing. All methods may be called from any goroutine.
type Layer struct {
	// Metrics receives the metrics; nil counts for nobody. It must not change after the first use.
	Metrics *metrics.Set

	state atomic.Pointer[state]
}

// state is a plan under way.
type state struct {
	plan  Plan
	since time.Time
	lines []*line
	over  chan struct{} // closed when it is no longer in force
}

// line is a fault under way.
type line struct {
	Fault
	ops  []string
	disk bool            // it is about disks
	over <-chan struct{} // the plan's
	hits *metrics.Counter

	mu   sync.Mutex
	rng  *rand.Rand // guarded by mu
	met  int        // requests; guarded by mu
	done int        // of those, how many it happened to; guarded by mu
}

// Set puts a plan in force in the place of any other, which ends as with Clear.
func (l *Layer) Set(p Plan) error {
	if err := p.Check(); err != nil {
		return err
	}
	set := cmp.Or(l.Metrics, metrics.NewSet())
	st := &state{plan: p, since: time.Now(), over: make(chan struct{})}
	for i, f := range p.Faults {
		st.lines = append(st.lines, &line{
			Fault: f, ops: strings.Split(f.Op, ","), disk: slices.Contains(DiskEffects, f.Effect), over: st.over, rng: rand.New(rand.NewPCG(p.Seed, uint64(i))),
			hits: set.GetOrCreateCounter(fmt.Sprintf("akigw_faults_hits_total{effect=%q}", f.Effect)),
		})
	}
	l.replace(st)
	return nil
}

// Clear ends whatever plan there is. Requests that hang because of it fail with a broken connection.
func (l *Layer) Clear() { l.replace(nil) }

// replace puts a plan in force, nil for none, and ends the one before it.
func (l *Layer) replace(next *state) {
	if before := l.state.Swap(next); before != nil {
		close(before.over)
	}
}

// Report is a plan that is in force, and what it did.
type Report struct {
	Plan
	Since time.Time `json:"since"`
	// Met and Hits are, by line, how many requests or uses of a disk it met and to how many it happened.
	Met  []int `json:"met"`
	Hits []int `json:"hits"`
}

// Report says what is in force, nil if nothing is.
func (l *Layer) Report() *Report {
	st := l.state.Load()
	if st == nil {
		return nil
	}
	r := &Report{Plan: st.plan, Since: st.since}
	for _, f := range st.lines {
		f.mu.Lock()
		r.Met, r.Hits = append(r.Met, f.met), append(r.Hits, f.done)
		f.mu.Unlock()
	}
	return r
}

// use is a request to an upstream, or something that is done to a disk.
type use struct {
	tier            string
	op, bucket, key string
	read            bool
}

// strikes reports whether a fault happens to a use, and gives a number at random for how.
func (f *line) strikes(u use, since time.Duration) (bool, uint64) {
	if !f.meets(u) {
		return false, 0
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.met++
	chance, how := f.rng.Float64(), f.rng.Uint64() // drawn for each, so that one decision does not move the others
	seconds := since.Seconds()
	switch {
	case seconds < f.After, f.Until > 0 && seconds >= f.Until,
		f.Nth > 0 && f.met != f.Nth, f.met <= f.Skip, f.First > 0 && f.met > f.Skip+f.First,
		f.Probability > 0 && chance >= f.Probability:
		return false, 0
	}
	f.done++
	f.hits.Inc()
	return true, how
}

func (f *line) meets(u use) bool {
	match := func(pattern, text string) bool { return pattern == "" || glob.Match(pattern, text) }
	if f.Tier != "" && f.Tier != u.tier || f.Direction != "" && (f.Direction == Read) != u.read || f.disk != (u.tier != Cold) {
		return false
	}
	return match(f.Bucket, u.bucket) && match(f.Key, u.key) && slices.ContainsFunc(f.ops, func(o string) bool { return match(strings.TrimSpace(o), u.op) })
}
