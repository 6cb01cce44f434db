package testkit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/faults"
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
