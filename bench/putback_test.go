package bench

import (
	"net/http"
	"testing"
	"time"

	"github.com/akidb/akigw/internal/testing/leans3"
)

// backEach is the number of PUTs of a round.
const backEach = 4000

// BenchmarkPutBack reports what 4 KiB PUTs cost that the journal acknowledges, from 64 clients, until
// all of them are uploaded: the CPU time of the gateway's process until the last acknowledgement (front)
// and from then on (flush). The upstream holds its answers to uploads back until all PUTs are
// acknowledged, so that the two do not overlap. "packed" uploads many objects in one. The comparison is
// with the same PUTs through a bare httputil.ReverseProxy and nginx.
func BenchmarkPutBack(b *testing.B) {
	p := startProxied(b, `
[[rule]]
bucket = "plain"
write = "back"
[[rule]]
bucket = "packed"
write = "back"
pack_bytes = "64KiB"
[write_back]
min_free_bytes = 0
max_pending = 10000000
`)
	for _, bucket := range []string{"plain", "packed"} {
		b.Run(bucket, func(b *testing.B) {
			var front, flush, flushed []float64
			p.rounds(b, func(s *server, round int) {
				s.send(b, p.puts(b, s, bucket, "4KiB", "", -round-1, 2*putClients), putClients)
				requests := p.puts(b, s, bucket, "4KiB", "", round, backEach)
				if s != p.gateway {
					s.costs = append(s.costs, s.measure(b, backEach, func() time.Duration { return s.send(b, requests, putClients) }))
					return
				}
				p.drain(b)
				p.ask(b, leans3.HoldPath)
				began := s.mark(b)
				took := s.send(b, requests, putClients)
				s.settle(b)
				acknowledged := s.mark(b)
				released := time.Now()
				p.ask(b, leans3.ReleasePath)
				idle := p.drain(b)
				uploaded := s.mark(b)
				first, second := phase(began, acknowledged, backEach, took), phase(acknowledged, uploaded, backEach, idle.Sub(released))
				front, flush, flushed = append(front, first.cpu), append(flush, second.cpu), append(flushed, 1/second.took)
				s.costs = append(s.costs, cost{cpu: first.cpu + second.cpu, allocs: first.allocs + second.allocs, bytes: first.bytes + second.bytes, upstream: first.upstream + second.upstream, took: first.took})
			})
			p.report(b)
			b.ReportMetric(median(front), "front-us/op")
			b.ReportMetric(median(flush), "flush-us/op")
			b.ReportMetric(median(flushed), "flushed/s")
		})
	}
}

// drain waits until the gateway has uploaded everything, and returns when it had.
func (p *proxied) drain(b *testing.B) (since time.Time) {
	for {
		since = p.gateway.settle(b)
		if pending(b, p.gateway) == 0 {
			return since
		}
	}
}

// ask sends a request to the upstream itself.
func (p *proxied) ask(b *testing.B, path string) {
	resp, err := http.Get(p.upstream.client.Endpoint + path)
	if err != nil {
		b.Fatal(err)
	}
	resp.Body.Close()
}
