package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/akidb/akigw/internal/testing/s3client"
)

// vectorObjects is the bucket of the upstream that has the objects of vector collections.
const vectorObjects = "collections"

// vectorsUnderKills has vectors flushed and merged several times a second.
const vectorsUnderKills = `
[vectors]
bucket = "` + vectorObjects + `"
flush_secs = 1
segment_bytes = "8KiB"
`

// vectorsBucket is the vector bucket of the rig.
const vectorsBucket = "killed-bucket"

// vectorRig writes to vector collections, one writer for each. So at most one call of a collection has an
// unknown outcome, and the collection must be as it was acknowledged last, or as that call leaves it.
type vectorRig struct {
	shelves []*shelf

	mu        sync.Mutex
	acked     int // acknowledged calls; guarded by mu
	recreated int // indexes that were created under the name of a deleted one; guarded by mu
	kinds     map[string]int
}

// shelf is one index as its writer knows it.
type shelf struct {
	name    string
	acked   content
	unknown *vectorCall // nil: none
	serial  int         // of the content that was written last
}

// content is what an index holds: the serial numbers of the vectors, by key.
type content struct {
	exists  bool
	tag     string
	vectors map[string]int
}

// equal reports whether two contents are the same.
func (c content) equal(other content) bool {
	return c.exists == other.exists && c.tag == other.tag && maps.Equal(c.vectors, other.vectors)
}

// vectorCall is a call and what it does.
type vectorCall struct {
	method, path string // the path is encoded
	body         string
	after        content
	already      string // the error that says that the call was carried out before
}

func newVectorRig() *vectorRig {
	v := &vectorRig{kinds: map[string]int{}}
	for n := range 3 {
		v.shelves = append(v.shelves, &shelf{name: fmt.Sprintf("index-%d", n)})
	}
	return v
}

// vectorDo sends a call of S3 Vectors. err is a response that did not arrive.
func vectorDo(client *http.Client, endpoint, method, path, body string) (status int, answer []byte, header http.Header, err error) {
	r, err := http.NewRequest(method, endpoint, nil)
	if err != nil {
		return 0, nil, nil, err
	}
	r.URL.Path = path // outside S3 the signature encodes the path twice
	s3client.Signing{AccessKey: accessKey, Secret: secretKey, Service: "s3vectors", Body: []byte(body)}.Sign(r)
	r.URL.RawPath = path
	if r.URL.Path, err = url.PathUnescape(path); err != nil {
		return 0, nil, nil, err
	}
	resp, err := client.Do(r)
	if err != nil {
		return 0, nil, nil, err
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(resp.Body)
	return resp.StatusCode, answer, resp.Header, err
}

// served waits until vector collections are served, and reports whether they are. A gateway that is gone
// serves none.
func (v *vectorRig) served(g *gateway, limit time.Duration) bool {
	if v == nil {
		return true
	}
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		status, _, _, err := vectorDo(client, g.endpoint, "POST", "/ListVectorBuckets", "{}")
		if err != nil || status == http.StatusOK {
			return err == nil
		}
	}
	return false
}

// begin starts the writers.
func (v *vectorRig) begin(k *killRig, writers *sync.WaitGroup, until time.Time) {
	if v == nil {
		return
	}
	for _, s := range v.shelves {
		writers.Go(func() { v.write(k, s, until) })
	}
}

// write sends calls until the gateway is gone or the time is over. A call that was refused for the moment,
// or has an unknown outcome, is repeated before any other.
func (v *vectorRig) write(k *killRig, s *shelf, until time.Time) {
	client := k.client().HTTP
	defer client.CloseIdleConnections()
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), uint64(len(s.name))))
	for time.Now().Before(until) {
		if s.unknown == nil {
			s.unknown = s.next(random)
		}
		c := s.unknown
		status, answer, header, err := vectorDo(client, k.g.endpoint, c.method, c.path, c.body)
		if err != nil && status == 0 {
			return // killed
		}
		switch {
		case status == http.StatusOK, c.already != "" && header.Get("X-Amzn-Errortype") == c.already:
			v.acknowledged(s, c)
		case status >= http.StatusInternalServerError || status == http.StatusTooManyRequests:
			time.Sleep(20 * time.Millisecond)
		case status == http.StatusNotFound && c.path == "/CreateIndex": // the first start has no vector bucket yet
			vectorDo(client, k.g.endpoint, "POST", "/CreateVectorBucket", `{"vectorBucketName":"`+vectorsBucket+`"}`)
		default:
			k.t.Errorf("%s of %s: %d %s", c.path, s.name, status, answer)
			return
		}
	}
}

// acknowledged records that a call was carried out.
func (v *vectorRig) acknowledged(s *shelf, c *vectorCall) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.acked++
	v.kinds[strings.SplitN(c.path[1:], "/", 2)[0]]++
	if c.path == "/CreateIndex" && s.serial > 0 {
		v.recreated++
	}
	s.acked, s.unknown = c.after, nil
}

// next makes a call.
func (s *shelf) next(random *rand.Rand) *vectorCall {
	name := fmt.Sprintf(`"vectorBucketName":%q,"indexName":%q`, vectorsBucket, s.name)
	after := content{exists: true, tag: s.acked.tag, vectors: maps.Clone(s.acked.vectors)}
	key := func() string { return fmt.Sprintf("key-%d", random.IntN(150)) }
	switch n := random.IntN(1000); {
	case !s.acked.exists:
		return &vectorCall{"POST", "/CreateIndex", "{" + name + `,"dataType":"float32","dimension":4,"distanceMetric":"euclidean"}`, content{exists: true, vectors: map[string]int{}}, "ConflictException"}
	case n < 8: // about once a second, so that most flushes are of living indexes
		return &vectorCall{"POST", "/DeleteIndex", "{" + name + "}", content{}, "NotFoundException"}
	case n < 40:
		s.serial++
		after.tag = fmt.Sprint(s.serial)
		arn := url.PathEscape("arn:aws:s3vectors:" + region + ":000000000000:bucket/" + vectorsBucket + "/index/" + s.name)
		return &vectorCall{"POST", "/tags/" + strings.ReplaceAll(arn, ":", "%3A"), `{"tags":{"serial":"` + after.tag + `"}}`, after, ""}
	case n < 300:
		var keys []string
		for range 1 + random.IntN(30) {
			keys = append(keys, key())
			delete(after.vectors, keys[len(keys)-1])
		}
		raw, _ := json.Marshal(keys) // strings always have JSON
		return &vectorCall{"POST", "/DeleteVectors", "{" + name + `,"keys":` + string(raw) + "}", after, ""}
	}
	var put []string
	written := map[string]bool{}
	for range 1 + random.IntN(40) {
		name := key()
		if written[name] {
			continue
		}
		written[name] = true
		s.serial++
		after.vectors[name] = s.serial
		put = append(put, fmt.Sprintf(`{"key":%q,"data":{"float32":[%d,1,2,3]},"metadata":{"serial":%d}}`, name, s.serial, s.serial))
	}
	return &vectorCall{"POST", "/PutVectors", "{" + name + `,"vectors":[` + strings.Join(put, ",") + "]}", after, ""}
}

// read reads what an index holds.
func (s *shelf) read(t *testing.T, g *gateway) (found content) {
	t.Helper()
	ask := func(method, path, body string, into any) bool {
		status, answer, _, err := vectorDo(http.DefaultClient, g.endpoint, method, path, body)
		if status == http.StatusNotFound && err == nil {
			return false
		}
		if err == nil && status == http.StatusOK {
			err = json.Unmarshal(answer, into)
		}
		if err != nil || status != http.StatusOK {
			t.Errorf("%s of %s: %d %s: %v", path, s.name, status, answer, err)
		}
		return true
	}
	found.vectors = map[string]int{}
	for token := ""; ; {
		var page struct {
			NextToken string
			Vectors   []struct {
				Key      string
				Data     struct{ Float32 []float32 }
				Metadata struct{ Serial int }
			}
		}
		if !ask("POST", "/ListVectors", fmt.Sprintf(`{"vectorBucketName":%q,"indexName":%q,"returnData":true,"returnMetadata":true,"maxResults":100%s}`, vectorsBucket, s.name, token), &page) {
			return content{}
		}
		for _, one := range page.Vectors {
			if _, twice := found.vectors[one.Key]; twice || len(one.Data.Float32) != 4 || int(one.Data.Float32[0]) != one.Metadata.Serial {
				t.Errorf("%s of %s is listed as %+v, or twice", one.Key, s.name, one)
			}
			found.vectors[one.Key] = one.Metadata.Serial
		}
		if page.NextToken == "" {
			break
		}
		token = fmt.Sprintf(`,"nextToken":%q`, page.NextToken)
	}
	arn := strings.ReplaceAll(url.PathEscape("arn:aws:s3vectors:"+region+":000000000000:bucket/"+vectorsBucket+"/index/"+s.name), ":", "%3A")
	var tags struct{ Tags map[string]string }
	found.exists = ask("GET", "/tags/"+arn, "", &tags)
	found.tag = tags.Tags["serial"]
	return found
}

// verify compares all indexes with what was acknowledged, and resolves the unknown outcomes.
func (v *vectorRig) verify(k *killRig) {
	if v == nil {
		return
	}
	k.t.Helper()
	if !v.served(k.g, time.Minute) {
		k.t.Fatalf("vector collections are not served: %s", tail(k.g.stderr.String()))
	}
	for _, s := range v.shelves {
		found := s.read(k.t, k.g)
		switch {
		case found.equal(s.acked):
		case s.unknown != nil && found.equal(s.unknown.after):
			s.acked = s.unknown.after
		default:
			k.t.Errorf("LOST: %s is %+v, was acknowledged as %+v, unknown %+v", s.name, found, s.acked, s.unknown)
		}
		s.unknown = nil
	}
}

// startAnew deletes the data directory once everything is in the upstream. A new gateway has all
// collections, after it has taken them over from the one that is gone.
func (v *vectorRig) startAnew(k *killRig) {
	if v == nil {
		return
	}
	k.t.Helper()
	v.verify(k)
	k.g.operator()
	k.g.mustAkigw("vectors", "flush")
	flushes, merges := k.g.metric("akigw_vectors_flushes_total"), k.g.metric("akigw_vectors_merges_total")
	k.g.stop()
	if err := os.RemoveAll(k.g.dir); err != nil {
		k.t.Fatal(err)
	}
	k.g.key = pair{} // it was in the data directory
	k.g.start()
	k.g.operator()
	k.g.mustAkigw("vectors", "takeover")
	v.verify(k)
	k.t.Logf("vectors: %d acknowledged calls (%v), %d indexes created again, none lost; the last start flushed %.0f times and merged %.0f times", v.acked, v.kinds, v.recreated, flushes, merges)
	if v.acked < 50 || v.recreated == 0 && v.acked > 2000 {
		k.t.Error("vector collections were not exercised")
	}
}
