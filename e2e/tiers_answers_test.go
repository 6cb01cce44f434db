package e2e

import (
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// holdWrites is a fault plan that keeps written-back objects pending.
const holdWrites = "[[fault]]\nop = \"PutObject\"\neffect = \"slow_down\"\n"

// tierSteps are the reads of the transparency run, and the writes that they need, in their own
// bucket.
func tierSteps() (writes, reads []step) {
	const bucket = "/tier-bucket"
	for _, s := range steps() {
		s.path = strings.Replace(s.path, "/bucket-one", bucket, 1)
		switch name, _, _ := strings.Cut(s.name, ","); {
		case slices.Contains([]string{"PutObject, all headers", "PutObject, empty", "PutObject, 1 MiB"}, s.name):
			writes = append(writes, s)
		case s.path == bucket+"/headers" || s.path == bucket+"/empty" || s.path == bucket+"/big":
			known := s.query == "" || strings.HasPrefix(s.query, "response-") || strings.HasPrefix(s.query, "x-id=")
			if (s.method == "GET" || s.method == "HEAD") && known && s.header.Get("Origin") == "" && name != "DeleteObject" {
				reads = append(reads, s)
			}
		}
	}
	return writes, reads
}

// writes2read maps a write to the read of what it writes.
func writes2read(s step) step { return step{name: "read of " + s.name, method: "GET", path: s.path} }

// ofTheUpstream are headers that an upstream may add, as versitygw does. A pending object does not
// have them yet (docs/contract.md).
var ofTheUpstream = map[string]bool{"X-Amz-Storage-Class": true, "X-Amz-Checksum-Crc64nvme": true, "X-Amz-Checksum-Type": true}

// TestReadsDoNotDependOnTheTier: the reads of the transparency run get the same responses while an
// object is pending, flushed, in memory, and not cached, in front of real upstreams.
func TestReadsDoNotDependOnTheTier(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(testing.TB) upstream{"embedded": embedded, "versitygw": versity} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			plan := writeFile(t, filepath.Join(t.TempDir(), "plan.toml"), []byte(holdWrites))
			g := startGateway(t, options{plain: true, upstream: start(t), config: "[[rule]]\nwrite = \"back\"\n", env: []string{"AKIGW_ENABLE_FAULTS=true", "AKIGW_FAULT_PLAN=" + plan}})
			g.operator()
			e := endpointOf{g.endpoint, accessKey, secretKey, map[string]string{}, false}
			e.do(t, step{name: "CreateBucket", method: "PUT", path: "/tier-bucket"})
			writes, reads := tierSteps()
			for _, s := range writes {
				if a := e.do(t, s); a.StatusCode != 200 || a.Header.Get("X-Akigw-Commit") != "journal" {
					t.Fatalf("%s: %d %v %s", s.name, a.StatusCode, a.Header, a.body)
				}
			}
			if len(reads) < 60 {
				t.Fatalf("only %d reads", len(reads))
			}
			first := map[int]answerOf{}
			see := func(state, cache string, before func()) {
				for i, s := range reads {
					before()
					a := e.do(t, s)
					if got := a.Header.Get("X-Akigw-Cache"); cache != "" && a.StatusCode < 300 && got != cache {
						t.Errorf("%s: %s came from %q", state, s.name, got)
					}
					if _, known := first[i]; !known {
						first[i] = a
						continue
					}
					for _, d := range compare(first[i], a) {
						made := state == "flushed" && ofTheUpstream[d] && first[i].of(d) == ""
						if hopHeaders[d] == "" && !made {
							t.Errorf("%s differs in %s:\n  before %d %.300q\n  %s %d %.300q", s.name, d, first[i].StatusCode, first[i].of(d), state, a.StatusCode, a.of(d))
						}
					}
					first[i] = a
				}
			}
			see("pending", "overlay", func() {})
			g.mustAkigw("faults", "clear")
			for _, s := range writes {
				for deadline := time.Now().Add(2 * time.Minute); e.do(t, readOf(s)).Header.Get("X-Akigw-Cache") == "overlay"; time.Sleep(50 * time.Millisecond) {
					if time.Now().After(deadline) {
						t.Fatalf("%s is not upstream", s.path)
					}
				}
			}
			see("flushed", "", func() {})
			see("hot", "hot", func() {})
			see("cold", "cold", g.purgeTierBucket)
		})
	}
}

// readOf returns the read of what a step writes.
func readOf(s step) step { return step{name: "read of " + s.name, method: "GET", path: s.path} }

// purgeTierBucket purges the bucket of tierSteps from the cache.
func (g *gateway) purgeTierBucket() {
	g.t.Helper()
	r, err := http.NewRequest("POST", g.admin+"/api/v1/purge?bucket=tier-bucket", nil)
	if err != nil {
		g.t.Fatal(err)
	}
	r.SetBasicAuth(g.key.AccessKeyId, g.key.SecretAccessKey)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		g.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 {
		g.t.Fatalf("purge: %d", resp.StatusCode)
	}
}
