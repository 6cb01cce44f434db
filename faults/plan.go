package faults

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/akidb/akigw"
)

// Effect is what happens to a request or to a use of a disk.
type Effect string

// The effects on requests.
const (
	SlowDown        Effect = "slow_down"         // 503 SlowDown; the request is not carried out
	TooManyRequests Effect = "too_many_requests" // 429
	InternalError   Effect = "internal_error"    // 500
	AnyError        Effect = "error"             // Status and Code say which
	ErrorIn200      Effect = "error_in_200"      // 200 with an error document; the request is not carried out
	Latency         Effect = "latency"           // the request is delayed by LatencyMS, and up to JitterMS more
	Bandwidth       Effect = "bandwidth"         // both bodies are limited to BytesPerSec
	Refused         Effect = "refused"           // the connection is refused
	ResetBefore     Effect = "reset_before"      // the connection breaks; the request is not carried out
	ResetAfter      Effect = "reset_after"       // the request is carried out, and the connection breaks before the response
	TimeoutBefore   Effect = "timeout_before"    // no response for LatencyMS; the request is not carried out
	TimeoutAfter    Effect = "timeout_after"     // the request is carried out; no response for LatencyMS
	Hang            Effect = "hang"              // no response at all; the request is not carried out
	HangAfter       Effect = "hang_after"        // the request is carried out; no response at all
	HangBody        Effect = "hang_body"         // the response's body stops half-way and does not go on
	ShortBody       Effect = "short_body"        // the response's body ends half-way, as if it were complete
	Corrupt         Effect = "corrupt"           // one bit of the response's body is flipped
	WrongRange      Effect = "wrong_range"       // the response claims another range
	StaleETag       Effect = "stale_etag"        // the response has another ETag
	Duplicate       Effect = "duplicate"         // the request is delivered twice
)

// Effects are all effects on requests.
func Effects() []Effect {
	return []Effect{SlowDown, TooManyRequests, InternalError, AnyError, ErrorIn200, Latency, Bandwidth, Refused, ResetBefore, ResetAfter, TimeoutBefore, TimeoutAfter, Hang, HangAfter, HangBody, ShortBody, Corrupt, WrongRange, StaleETag, Duplicate}
}

// The effects on disks. With all but SlowSync the operation is not carried out.
const (
	EIO        Effect = "eio"         // input/output error
	ENOSPC     Effect = "enospc"      // no space left, for operations that take space or ask how much is free
	ShortWrite Effect = "short_write" // half of a write is done, and it fails with EIO
	SlowSync   Effect = "slow_sync"   // a sync takes LatencyMS, and up to JitterMS, longer
	FailedSync Effect = "failed_sync" // a sync fails with EIO
)

// DiskEffects are all effects on disks.
func DiskEffects() []Effect {
	return []Effect{EIO, ENOSPC, ShortWrite, SlowSync, FailedSync}
}

// The values of Fault.Tier and Fault.Direction.
const (
	Cold    = "cold"    // requests to an upstream
	Warm    = "warm"    // the disk of the warm tier
	Journal = "journal" // the disk of the journal

	Read  = "read"
	Write = "write"
)

// applies reports whether an effect on disks applies to an operation.
func (e Effect) applies(op akigw.DiskOp) bool {
	switch e {
	case EIO:
		return op != akigw.DiskFree
	case ENOSPC:
		return op == akigw.DiskMkdir || op == akigw.DiskCreate || op == akigw.DiskWrite || op == akigw.DiskFree
	case ShortWrite:
		return op == akigw.DiskWrite
	case SlowSync, FailedSync:
		return op == akigw.DiskSync || op == akigw.DiskSyncDir
	default:
		return false
	}
}

// Fault is one line of a plan.
type Fault struct {
	// Op, Bucket and Key are patterns of the requests that it applies to, "" for all. Op is the S3
	// API name; several are separated by commas. For a disk, Op is an akigw.DiskOp and Key the path
	// of a file or the key of a value; there are no buckets.
	Op     string `toml:"op" json:"op,omitempty"`
	Bucket string `toml:"bucket" json:"bucket,omitempty"`
	Key    string `toml:"key" json:"key,omitempty"`
	// Tier is where it applies: Cold for effects on requests; Warm or Journal for effects on disks,
	// "" for both.
	Tier string `toml:"tier" json:"tier,omitempty"`
	// Direction is Read or Write, "" for both.
	Direction string `toml:"direction" json:"direction,omitempty"`

	Effect      Effect `toml:"effect" json:"effect"`
	Status      int    `toml:"status" json:"status,omitempty"` // HTTP status, with the effect error
	Code        string `toml:"code" json:"code,omitempty"`
	LatencyMS   int    `toml:"latency_ms" json:"latency_ms,omitempty"`
	JitterMS    int    `toml:"jitter_ms" json:"jitter_ms,omitempty"`
	BytesPerSec int    `toml:"bytes_per_sec" json:"bytes_per_sec,omitempty"`

	// Which of the requests that match are hit: each with a probability (0 stands for 1); only the
	// Nth, counted from 1; not the first Skip; at most First after those; none before After seconds
	// since the plan was set; none from Until seconds on.
	Probability float64 `toml:"probability" json:"probability,omitempty"`
	Nth         int     `toml:"nth" json:"nth,omitempty"`
	Skip        int     `toml:"skip" json:"skip,omitempty"`
	First       int     `toml:"first" json:"first,omitempty"`
	After       float64 `toml:"after_secs" json:"after_secs,omitempty"`
	Until       float64 `toml:"until_secs" json:"until_secs,omitempty"`
}

// Plan is a list of faults. The zero value injects none.
type Plan struct {
	Seed   uint64  `toml:"seed" json:"seed"`
	Faults []Fault `toml:"fault" json:"fault"`
}

// maxFaults bounds the faults of a plan.
const maxFaults = 100

// Check returns all mistakes in a plan, by the number of the fault; nil if there are none.
func (p *Plan) Check() error {
	var wrong []error
	if len(p.Faults) > maxFaults {
		wrong = append(wrong, fmt.Errorf("a plan can have %d faults at most", maxFaults))
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

// checkPlace reports mistakes in the effect, tier, direction and bucket of a fault.
func (f *Fault) checkPlace(report func(key, problem string)) {
	tiers := []string{"", Cold}
	switch {
	case slices.Contains(DiskEffects(), f.Effect):
		tiers = []string{"", Warm, Journal}
		if f.Bucket != "" {
			report("bucket", "must be left out with an effect on disks: use key")
		}
	case !slices.Contains(Effects(), f.Effect):
		report("effect", fmt.Sprintf("must be one of %q, or of a disk %q", Effects(), DiskEffects()))
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

// Parse parses a plan in TOML or, if it begins with a brace, in JSON. Unknown keys are errors.
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

// answerable are the operations that can be repeated if their response is lost. The others may leave
// something behind, such as a multipart upload whose ID is lost with the response.
const answerable = "PutObject,UploadPart,CompleteMultipartUpload,DeleteObject*,GetObject,HeadObject,ListObjects*"

// Presets are plans by name.
func Presets() map[string]Plan {
	return map[string]Plan{
		"slowdown":  {Seed: 1, Faults: []Fault{{Effect: SlowDown, Probability: 0.5}}},
		"brownout":  {Seed: 1, Faults: []Fault{{Effect: Latency, LatencyMS: 200, JitterMS: 600}, {Effect: InternalError, Probability: 0.05}}},
		"partition": {Seed: 1, Faults: []Fault{{Effect: Refused}}},
		"corrupt":   {Seed: 1, Faults: []Fault{{Op: "GetObject", Effect: Corrupt, Probability: 0.01}, {Op: "GetObject", Effect: ShortBody, Probability: 0.01}}},
		// Most requests get a response: the gateway would notice at once that an upstream is silent.
		"hang": {Seed: 1, Faults: []Fault{{Effect: Hang, Probability: 0.03}, {Op: answerable, Effect: HangAfter, Probability: 0.02}, {Op: "GetObject", Effect: HangBody, Probability: 0.05}}},
		// Syncs of the journal are slow, but do not fail: a failed one stops the journal until a
		// restart.
		"flaky-disk": {Seed: 1, Faults: []Fault{{Tier: Warm, Effect: EIO, Probability: 0.01}, {Tier: Journal, Direction: Read, Effect: EIO, Probability: 0.01}, {Effect: SlowSync, LatencyMS: 50, JitterMS: 450, Probability: 0.2}}},
		// The journal reserves space for records of what it has accepted, and refuses new writes.
		"full-disk": {Seed: 1, Faults: []Fault{{Tier: Warm, Effect: ENOSPC}, {Tier: Journal, Op: string(akigw.DiskFree), Effect: ENOSPC}}},
	}
}

// Modes are plans for tests of clients, by name.
func Modes() map[string]Plan {
	return map[string]Plan{
		"RateLimit":     {Seed: 1, Faults: []Fault{{Effect: SlowDown, Probability: 0.3}}},
		"Timeout":       {Seed: 1, Faults: []Fault{{Effect: TimeoutBefore, LatencyMS: 2000, Probability: 0.05}, {Effect: TimeoutAfter, LatencyMS: 2000, Probability: 0.05}}},
		"PartialUpload": {Seed: 1, Faults: []Fault{{Op: "UploadPart,PutObject", Effect: ResetBefore, Probability: 0.2}, {Op: "CompleteMultipartUpload", Effect: ErrorIn200, Probability: 0.3}}},
		"Corruption":    {Seed: 1, Faults: []Fault{{Op: "GetObject", Effect: Corrupt, Probability: 0.2}}},
	}
}
