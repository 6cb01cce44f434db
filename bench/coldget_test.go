package bench

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"
)

// BenchmarkColdGet reports what a GET of a 256 MiB object costs that only the upstream has, over
// loopback: the time relative to the same GET from the upstream itself (time-x-direct), and the CPU time
// of the server's process for each MiB. The objects differ in what their bytes can be verified with: a
// CRC64NVME, a CRC32C, or only an ETag that is an MD5. An operation is a MiB.
func BenchmarkColdGet(b *testing.B) {
	const mib = coldBytes >> 20
	kinds := []string{"crc64nvme", "crc32c", "md5"}
	p := startProxied(b, "", kinds...)
	for _, kind := range kinds {
		b.Run(kind, func(b *testing.B) {
			var direct []cost
			var begins, first []float64
			p.rounds(b, func(s *server, round int) {
				path := fmt.Sprintf("/%s/%s-%d", kind, s.name, round)
				if s == p.gateway {
					begin, took := p.upstream.download(b, path)
					direct, begins = append(direct, cost{took: took.Seconds() / mib}), append(begins, begin.Seconds())
				}
				s.costs = append(s.costs, s.measure(b, mib, func() time.Duration {
					begin, took := s.download(b, path)
					if s == p.gateway {
						first = append(first, begin.Seconds()/begins[len(begins)-1])
					}
					return took
				}))
			})
			p.report(b)
			for _, s := range p.servers {
				b.ReportMetric(ratio(s.costs, direct, tookOf), s.name+"-time-x-direct")
			}
			b.ReportMetric(median(first), "first-byte-x-direct")
		})
	}
}

// download reads a cold object, and returns how long it took until the first bytes and until the last.
func (s *server) download(b *testing.B, path string) (begin, took time.Duration) {
	started := time.Now()
	r, err := s.client.Request("GET", path, "", http.Header{}, nil)
	if err != nil {
		b.Fatal(err)
	}
	resp, err := s.client.HTTP.Do(r)
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	buffer, read := make([]byte, 256<<10), 0
	for err == nil {
		var n int
		n, err = resp.Body.Read(buffer)
		if read == 0 {
			begin = time.Since(started)
		}
		read += n
	}
	if !errors.Is(err, io.EOF) || resp.StatusCode != http.StatusOK || read != coldBytes {
		b.Fatalf("%s: %s, %d bytes, %v", s.name, resp.Status, read, err)
	}
	return begin, time.Since(started)
}
