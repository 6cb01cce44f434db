package bench

import (
	"testing"
	"time"
)

// BenchmarkPutThrough reports what PUTs cost that a gateway writes through, over eight connections, in
// exclusive mode, relative to a bare httputil.ReverseProxy and to nginx in the same rounds: the CPU time
// of the server's process (cpu-x) and the rate of PUTs (rate-x, higher is better), and for the gateway
// its allocations and its upstream requests for each PUT. Only the gateway verifies anything: with
// "signed" the signature and the SHA-256 of the body, with "unsigned" the signature
// (UNSIGNED-PAYLOAD).
func BenchmarkPutThrough(b *testing.B) {
	p := startProxied(b, "")
	p.gateway.client.Must(b, "PUT", "/through", "", nil, nil)
	for _, size := range []string{"4KiB", "1MiB"} {
		each := map[string]int{"4KiB": 2000, "1MiB": 120}[size]
		for _, payload := range []string{"", "UNSIGNED-PAYLOAD"} {
			name := map[string]string{"": "signed", "UNSIGNED-PAYLOAD": "unsigned"}[payload]
			b.Run(size+"-"+name, func(b *testing.B) {
				p.rounds(b, func(s *server, round int) {
					s.send(b, p.puts(b, s, "through", size, payload, -round-1, warmUp), 8)
					requests := p.puts(b, s, "through", size, payload, round, each)
					s.costs = append(s.costs, s.measure(b, each, func() time.Duration { return s.send(b, requests, 8) }))
				})
				p.report(b)
			})
		}
	}
}
