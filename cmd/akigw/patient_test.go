package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// slow is a gateway that answers a request, and its probes, after some time each.
type slow struct {
	answer, probe time.Duration
	probes        atomic.Int64
	refuses       bool // it has closed its listener
}

func (s *slow) RoundTrip(r *http.Request) (*http.Response, error) {
	wait := s.answer
	if r.URL.Path == "/healthz" {
		if s.probes.Add(1); s.refuses {
			return nil, errors.New("connection refused")
		}
		wait = s.probe
	}
	select {
	case <-time.After(wait):
		return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader("ok"))}, nil
	case <-r.Context().Done():
		return nil, context.Cause(r.Context())
	}
}

// TestPatient: a gateway that works on a request for hours is waited for, and one that answers nothing
// any more is not.
func TestPatient(t *testing.T) {
	const never = 1000 * time.Hour
	for _, c := range []struct {
		name   string
		slow   *slow
		within time.Duration // of a failure; 0: it has to succeed
	}{
		{"fast", &slow{answer: time.Millisecond}, 0},
		{"works for hours", &slow{answer: 3 * time.Hour}, 0},
		{"is slow to answer anything", &slow{answer: time.Hour, probe: silence - time.Second}, 0},
		{"is being stopped", &slow{answer: time.Minute, refuses: true}, 0},
		{"is stopped", &slow{answer: never, probe: never}, probeEvery + silence},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://gateway/api/v1/advice", http.NoBody)
				if err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				resp, err := patient{c.slow}.RoundTrip(r)
				took := time.Since(start)
				if c.within > 0 {
					if !errors.Is(err, errSilent) || took != c.within {
						t.Errorf("%v after %v", err, took)
					}
					return
				}
				if err != nil || took != c.slow.answer {
					t.Fatalf("%v after %v", err, took)
				}
				before := c.slow.probes.Load()
				time.Sleep(time.Minute) // the body arrives slowly
				if c.slow.probes.Load() == before {
					t.Error("no probes while the body is read")
				}
				if text, err := io.ReadAll(resp.Body); err != nil || string(text) != "ok" {
					t.Errorf("%q, %v", text, err)
				}
				if err := resp.Body.Close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}
