package s3mem

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/faults"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/tiers/cold"
)

// Faulty is an upstream in memory behind a fault plan.
type Faulty struct {
	*Memory
	faults.Layer
}

// Do implements the Upstream interfaces of tiers, uploadpool and gateway.
func (f *Faulty) Do(ctx context.Context, r *cold.Request) (*http.Response, error) {
	asked, err := http.NewRequestWithContext(ctx, r.Method, "http://memory/", nil)
	if err != nil {
		return nil, err
	}
	asked.URL.Path, asked.URL.RawQuery, asked.ContentLength = "/"+r.Key.Bucket+"/"+r.Key.Name, r.Query.Encode(), r.Length
	for name, values := range r.Header {
		asked.Header[http.CanonicalHeaderKey(name)] = values
	}
	if r.Body != nil {
		asked.Body = io.NopCloser(r.Body)
	}
	resp, err := f.Wrap(answers(func(sent *http.Request) (*http.Response, error) {
		own := *r // a fault may deliver the request twice
		own.Body = sent.Body
		return f.Memory.Do(ctx, &own)
	})).RoundTrip(asked)
	if err != nil && !errors.Is(err, akigw.ErrUpstreamUnavailable) {
		err = fmt.Errorf("%w: %w", akigw.ErrUpstreamUnavailable, err)
	}
	return resp, err
}

type answers func(*http.Request) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (f answers) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// answered are the operations whose responses may be lost. CreateMultipartUpload is not one of them:
// the upload ID is lost with the response, so the upload would stay open.
const answered = "PutObject,CopyObject,UploadPart*,CompleteMultipartUpload,DeleteObject*,GetObject,HeadObject,ListObjects*"

// RandomPlan returns a plan of n random faults of an upstream. It does not contain Corrupt: a small
// body could be damaged in the same way twice, which looks like an ETag that is not an MD5.
func RandomPlan(random *rand.Rand, n int) faults.Plan {
	p := faults.Plan{Seed: random.Uint64()}
	for range n {
		f := faults.Fault{Probability: 0.01 + 0.05*random.Float64()}
		f.Effect = testkit.Pick(random, faults.SlowDown, faults.InternalError, faults.TooManyRequests, faults.Refused, faults.ResetBefore, faults.ResetAfter, faults.TimeoutAfter, faults.Latency, faults.ShortBody, faults.WrongRange, faults.ErrorIn200)
		switch f.Effect {
		case faults.Latency:
			f.LatencyMS, f.Probability = 1, 0.1
		case faults.TimeoutAfter:
			f.Op, f.LatencyMS, f.Probability = answered, 1, 0.1
		case faults.ResetAfter:
			f.Op, f.Probability = answered, 0.02 // each leaves a write whose outcome is unknown
		case faults.ErrorIn200: // S3 never answers a GET in this way
			f.Op = "CompleteMultipartUpload"
		case faults.ShortBody, faults.WrongRange:
			f.Op = "GetObject"
		}
		p.Faults = append(p.Faults, f)
	}
	return p
}
