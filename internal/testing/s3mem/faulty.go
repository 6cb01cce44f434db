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

// Faulty is an upstream in memory that fault plans break the way to.
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
		own := *r // it may come twice
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

// answered are the operations whose answers may be lost. CreateMultipartUpload is none of them:
// nobody knows the id of an upload whose answer was lost, and so it stays open.
const answered = "PutObject,CopyObject,UploadPart*,CompleteMultipartUpload,DeleteObject*,GetObject,HeadObject,ListObjects*"

// RandomPlan is a plan of n faults of an upstream, at random. Corrupt is not in it: small bodies
// are wrong in the same way twice, which is taken for an ETag that is no MD5.
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
			f.Op, f.Probability = answered, 0.02 // each leaves a write of which nobody knows
		case faults.ErrorIn200: // nobody answers so to a GET
			f.Op = "CompleteMultipartUpload"
		case faults.ShortBody, faults.WrongRange:
			f.Op = "GetObject"
		}
		p.Faults = append(p.Faults, f)
	}
	return p
}
