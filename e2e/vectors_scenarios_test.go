package e2e

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3vectors"
	"github.com/aws/aws-sdk-go-v2/service/s3vectors/document"
	vectortypes "github.com/aws/aws-sdk-go-v2/service/s3vectors/types"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/admin"
	"github.com/akidb/akigw/vectors/segment"
	"github.com/akidb/akigw/vectors/store"
)

// The 15 scenarios of the original list, by their names, on vector collections, through the running gateway.

const scenarioBucket = "scenarios"

// scenarioRig is a gateway with vector collections, its operator, and the upstream, in memory.
type scenarioRig struct {
	*gateway
	up *slowMemory
	s3 *s3vectors.Client
}

// startScenarioRig starts one. Nothing is uploaded unless a test asks for it.
func startScenarioRig(t *testing.T, config string) *scenarioRig {
	t.Helper()
	up, behind := startMemory(t, 0, 64)
	g := startGateway(t, options{upstream: behind, plain: true, env: []string{"AKIGW_ENABLE_FAULTS=true"}, config: "[vectors]\nbucket = \"collections\"\nflush_secs = 3600\n" + config})
	g.operator()
	r := &scenarioRig{gateway: g, up: up, s3: vectorsClient(g.endpoint, accessKey, secretKey)}
	r.served(t)
	if _, err := r.s3.CreateVectorBucket(t.Context(), &s3vectors.CreateVectorBucketInput{VectorBucketName: new(scenarioBucket)}); err != nil {
		t.Fatal(err)
	}
	return r
}

// served waits until collections are served.
func (r *scenarioRig) served(t *testing.T) {
	t.Helper()
	eventually(t, "vector collections are not served", func() bool {
		_, err := r.s3.ListVectorBuckets(t.Context(), &s3vectors.ListVectorBucketsInput{})
		return err == nil
	})
}

// ask sends a request of the operator to the admin listener.
func (r *scenarioRig) ask(t testing.TB, method, path, body string) (status int, text string) {
	t.Helper()
	q, err := http.NewRequestWithContext(context.Background(), method, r.admin+path, strings.NewReader(body))
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	q.SetBasicAuth(r.key.AccessKeyId, r.key.SecretAccessKey)
	resp, err := (&http.Client{Timeout: time.Minute}).Do(q)
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	return resp.StatusCode, string(raw)
}

// done is ask for what has to succeed.
func (r *scenarioRig) done(t testing.TB, method, path, body string) {
	t.Helper()
	if status, text := r.ask(t, method, path, body); status/100 != 2 {
		t.Errorf("%s %s %s: %d %s", method, path, body, status, text)
	}
}

func (r *scenarioRig) flush(t testing.TB) {
	t.Helper()
	r.done(t, "POST", "/api/v1/vectors/flush", "")
}

// faults puts a plan in force until the end of the test, and returns how many faults have occurred since,
// and what ends them earlier.
func (r *scenarioRig) faults(t *testing.T, plan string) (hits func() float64, clear func()) {
	t.Helper()
	before := r.metric("akigw_faults_hits_total")
	r.done(t, "POST", "/api/v1/faults", plan)
	clear = func() { r.done(t, "DELETE", "/api/v1/faults", "") }
	t.Cleanup(clear)
	return func() float64 { return r.metric("akigw_faults_hits_total") - before }, clear
}

// overview is what the operator sees of all collections.
func (r *scenarioRig) overview(t testing.TB) (v admin.Vectors) {
	t.Helper()
	status, text := r.ask(t, "GET", "/api/v1/vectors", "")
	if err := json.Unmarshal([]byte(text), &v); status != 200 || err != nil {
		t.Fatalf("%d %v %s", status, err, text)
	}
	return v
}

// scenarioIndex is a collection, and the vectors that were acknowledged.
type scenarioIndex struct {
	*scenarioRig
	t         *testing.T
	name      string
	dimension int

	mu   sync.Mutex
	want map[string][]float32 // guarded by mu
}

func (r *scenarioRig) newIndex(t *testing.T, name string, dimension int) *scenarioIndex {
	t.Helper()
	if err := r.createIndex(name, dimension); err != nil {
		t.Fatal(err)
	}
	return &scenarioIndex{scenarioRig: r, t: t, name: name, dimension: dimension, want: map[string][]float32{}}
}

func (r *scenarioRig) createIndex(name string, dimension int) error {
	_, err := r.s3.CreateIndex(context.Background(), &s3vectors.CreateIndexInput{VectorBucketName: new(scenarioBucket), IndexName: &name, DataType: vectortypes.DataTypeFloat32, Dimension: new(int32(dimension)), DistanceMetric: vectortypes.DistanceMetricEuclidean})
	return err
}

// tryPut puts n vectors whose keys are numbered from first, with values that depend on seed.
func (x *scenarioIndex) tryPut(first, n int, seed uint64) error {
	random, vectors, added := rand.New(rand.NewPCG(seed, uint64(first))), []vectortypes.PutInputVector(nil), map[string][]float32{}
	for i := range n {
		key, data := fmt.Sprintf("key-%05d", first+i), make([]float32, x.dimension)
		for d := range data {
			data[d] = random.Float32()
		}
		added[key] = data
		vectors = append(vectors, vectortypes.PutInputVector{Key: &key, Data: &vectortypes.VectorDataMemberFloat32{Value: data}, Metadata: document.NewLazyDocument(map[string]any{"n": first + i})})
	}
	_, err := x.s3.PutVectors(context.Background(), &s3vectors.PutVectorsInput{VectorBucketName: new(scenarioBucket), IndexName: &x.name, Vectors: vectors})
	if err == nil {
		x.mu.Lock()
		defer x.mu.Unlock()
		maps.Copy(x.want, added)
	}
	return err
}

func (x *scenarioIndex) put(first, n int) {
	x.t.Helper()
	if err := x.tryPut(first, n, 1); err != nil {
		x.t.Fatal(err)
	}
}

// remove deletes vectors by the numbers in their keys.
func (x *scenarioIndex) remove(first, n int) {
	x.t.Helper()
	var keys []string
	for i := range n {
		keys = append(keys, fmt.Sprintf("key-%05d", first+i))
	}
	if _, err := x.s3.DeleteVectors(x.t.Context(), &s3vectors.DeleteVectorsInput{VectorBucketName: new(scenarioBucket), IndexName: &x.name, Keys: keys}); err != nil {
		x.t.Fatal(err)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, key := range keys {
		delete(x.want, key)
	}
}

// neighbour is a result of a search.
type neighbour struct {
	key      string
	distance float64
}

// nearest is what a search has to find, as computed here.
func (x *scenarioIndex) nearest(query []float32, k int) (all []neighbour) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for key, data := range x.want {
		sum := 0.0
		for d := range data {
			sum += math.Pow(float64(data[d])-float64(query[d]), 2)
		}
		all = append(all, neighbour{key, math.Sqrt(sum)})
	}
	slices.SortFunc(all, func(a, b neighbour) int { return cmp.Compare(a.distance, b.distance) })
	return all[:min(k, len(all))]
}

func (x *scenarioIndex) search(query []float32, k int) (found []neighbour, err error) {
	out, err := x.s3.QueryVectors(context.Background(), &s3vectors.QueryVectorsInput{VectorBucketName: new(scenarioBucket), IndexName: &x.name, TopK: new(int32(k)), QueryVector: &vectortypes.VectorDataMemberFloat32{Value: query}, ReturnDistance: true})
	if err != nil {
		return nil, err
	}
	for _, v := range out.Vectors {
		found = append(found, neighbour{*v.Key, float64(*v.Distance)})
	}
	return found, nil
}

// query is a vector to search for: always the same one for the same seed.
func (x *scenarioIndex) query(seed uint64) []float32 {
	random, query := rand.New(rand.NewPCG(seed, 77)), make([]float32, x.dimension)
	for d := range query {
		query[d] = random.Float32()
	}
	return query
}

// same says how results differ, "" if they do not.
func same(got, want []neighbour) string {
	if !slices.EqualFunc(got, want, func(a, b neighbour) bool { return a.key == b.key && math.Abs(a.distance-b.distance) < 1e-5 }) {
		return fmt.Sprintf("found %v, want %v", got, want)
	}
	return ""
}

// verify checks that exactly the acknowledged vectors are listed, with their values, and that searches
// find the nearest of them.
func (x *scenarioIndex) verify(when string) {
	x.t.Helper()
	got := map[string][]float32{}
	pages := s3vectors.NewListVectorsPaginator(x.s3, &s3vectors.ListVectorsInput{VectorBucketName: new(scenarioBucket), IndexName: &x.name, ReturnData: true, MaxResults: new(int32(700))})
	for pages.HasMorePages() {
		// As the SDK does by default: its transport closes a connection under a large answer now and then.
		page, err := pages.NextPage(x.t.Context(), func(o *s3vectors.Options) { o.RetryMaxAttempts = 3 })
		if err != nil {
			x.t.Fatalf("%s: %v", when, err)
		}
		for _, v := range page.Vectors {
			if got[*v.Key] != nil {
				x.t.Errorf("%s: %s is listed twice", when, *v.Key)
			}
			got[*v.Key] = v.Data.(*vectortypes.VectorDataMemberFloat32).Value
		}
	}
	if !maps.EqualFunc(got, x.want, slices.Equal) {
		x.t.Errorf("%s: %s has %d vectors, %d were acknowledged", when, x.name, len(got), len(x.want))
	}
	for seed := range uint64(3) {
		found, err := x.search(x.query(seed), 10)
		if diff := same(found, x.nearest(x.query(seed), 10)); err != nil || diff != "" {
			x.t.Errorf("%s: %v %s", when, err, diff)
		}
	}
}

// move asks for a move.
func (x *scenarioIndex) move(action string) (status int, text string) {
	return x.ask(x.t, "POST", "/api/v1/vectors/move", fmt.Sprintf(`{"action": %q, "bucket": %q, "index": %q}`, action, scenarioBucket, x.name))
}

// to moves the collection, and checks that it is there.
func (x *scenarioIndex) to(action string, tier store.Tier) {
	x.t.Helper()
	if status, text := x.move(action); status != 200 || x.status().Tier != tier {
		x.t.Fatalf("%s: %d %s, it is %s", action, status, text, x.status().Tier)
	}
}

func (x *scenarioIndex) status() store.Status {
	x.t.Helper()
	for _, s := range x.overview(x.t).Collections {
		if s.Index == x.name {
			return s
		}
	}
	x.t.Fatalf("no status of %s", x.name)
	return store.Status{}
}

// objects returns the keys of the collection's segments in the upstream, its manifest, and the names in
// that and in the copies of earlier ones.
func (x *scenarioIndex) objects() (segments []string, current *segment.Manifest, named []string) {
	x.t.Helper()
	for _, name := range x.up.KeysOf("collections") {
		if !strings.HasPrefix(name, "vectors/"+scenarioBucket+"/"+x.name+"/") {
			continue
		}
		if strings.HasSuffix(name, ".parquet") {
			segments = append(segments, name)
			continue
		}
		stored, _ := x.up.Get(akigw.Key{Bucket: "collections", Name: name})
		m, err := segment.ParseManifest(stored.Body)
		if err != nil {
			x.t.Fatalf("%s: %v", name, err)
		}
		if named = append(named, m.Names()...); strings.HasSuffix(name, "/manifest.json") {
			current = m
		}
	}
	slices.Sort(named)
	return segments, current, slices.Compact(named)
}

// noOrphans checks that the upstream has the segments that the manifests name, and no others.
func (x *scenarioIndex) noOrphans() {
	x.t.Helper()
	segments, current, named := x.objects()
	var have []string
	for _, name := range segments {
		have = append(have, name[strings.LastIndex(name, "/")+1:])
	}
	if slices.Sort(have); current == nil || !slices.Equal(have, named) {
		x.t.Errorf("the upstream has %v, the manifests name %v", have, named)
	}
}

// damage flips a bit of an object in the upstream.
func (x *scenarioIndex) damage(name string) {
	key := akigw.Key{Bucket: "collections", Name: name}
	stored, _ := x.up.Get(key)
	body := slices.Clone(stored.Body)
	body[len(body)/2] ^= 1
	x.up.Put(key, body)
}

// loading reports whether a search was refused because the collection is being loaded.
func loading(err error) bool {
	var unavailable *vectortypes.ServiceUnavailableException
	return errors.As(err, &unavailable)
}

// TestVectorScenarios are those about races and about failures of the upstream and the disk, on one
// gateway, each on a collection of its own.
//
// Scenarios: A1, A3, A8, B5, C1, D8.
func TestVectorScenarios(t *testing.T) {
	t.Parallel()
	r := startScenarioRig(t, "")
	for _, s := range []struct {
		name string
		run  func(*scenarioIndex)
	}{
		{"ConcurrentDemotionsSameCollection", (*scenarioIndex).concurrentDemotions}, {"ConcurrentPromotionAndSearch", (*scenarioIndex).concurrentPromotionAndSearch}, {"ConcurrentSnapshotAndRestore", (*scenarioIndex).concurrentSnapshotAndRestore},
		{"RaceConditionTierState", (*scenarioIndex).raceConditionTierState}, {"WarmTierDiskFull", (*scenarioIndex).warmTierDiskFull}, {"S3RateLimit503", (*scenarioIndex).s3RateLimit}, {"S3ConnectionTimeout", (*scenarioIndex).s3ConnectionTimeout},
		{"PartialSnapshotUpload", (*scenarioIndex).partialSnapshotUpload}, {"CorruptedParquet", (*scenarioIndex).corruptedParquet}, {"TierDemotionRollback", (*scenarioIndex).tierDemotionRollback},
	} {
		t.Run(s.name, func(t *testing.T) { s.run(r.newIndex(t, strings.ToLower(s.name), 16)) })
	}
}

// concurrentDemotions: ten requests demote a collection at a time, while it is written to.
func (x *scenarioIndex) concurrentDemotions() {
	x.put(0, 400)
	x.flush(x.t)
	x.to("promote_to_hot", store.Hot)
	x.put(300, 200)
	var tasks sync.WaitGroup
	for range 10 {
		tasks.Go(func() {
			if status, text := x.move("demote_to_cold"); status != 200 {
				x.t.Errorf("%d %s", status, text)
			}
		})
	}
	tasks.Go(func() {
		for i := range 10 {
			if err := x.tryPut(450+10*i, 20, 2); err != nil {
				x.t.Error(err)
			}
		}
	})
	tasks.Wait()
	if tier := x.status().Tier; tier != store.Cold {
		x.t.Errorf("it is %s", tier)
	}
	x.verify("after the demotions")
	x.noOrphans()
}

// concurrentPromotionAndSearch: searches of a collection that is promoted and demoted all the time find all,
// or are told to try again.
func (x *scenarioIndex) concurrentPromotionAndSearch() {
	x.put(0, 500)
	x.flush(x.t)
	x.to("demote_to_cold", store.Cold)
	x.faults(x.t, "[[fault]]\nop = \"GetObject\"\nkey = \"*/"+x.name+"/*\"\neffect = \"latency\"\nlatency_ms = 10\n")
	want := x.nearest(x.query(0), 10)
	over := make(chan struct{})
	var tasks sync.WaitGroup
	found := make([]int, 4)
	for i := range found {
		tasks.Go(func() {
			for {
				select {
				case <-over:
					return
				default:
				}
				got, err := x.search(x.query(0), 10)
				switch diff := same(got, want); {
				case loading(err):
				case err != nil || diff != "":
					x.t.Errorf("%v %s", err, diff)
					return
				default:
					found[i]++
				}
			}
		})
	}
	for range 15 {
		for _, action := range []string{"promote_to_warm", "demote_to_cold", "promote_to_hot", "demote_to_cold"} {
			if status, text := x.move(action); status != 200 {
				x.t.Errorf("%s: %d %s", action, status, text)
			}
		}
	}
	close(over)
	tasks.Wait()
	if slices.Min(found) < 5 {
		x.t.Errorf("searches that succeeded: %v", found)
	}
	x.verify("after the moves")
}

// concurrentSnapshotAndRestore: a collection is uploaded, dropped locally and loaded again, while vectors are
// put, which can be read at once.
func (x *scenarioIndex) concurrentSnapshotAndRestore() {
	x.put(0, 200)
	over := make(chan struct{})
	var tasks sync.WaitGroup
	for _, repeat := range []func(){
		func() { x.done(x.t, "POST", "/api/v1/vectors/flush", "") },
		func() {
			if status, text := x.move("demote_to_cold"); status != 200 {
				x.t.Errorf("%d %s", status, text)
			}
		},
		func() {
			if found, err := x.search(x.query(0), 10); err == nil && len(found) != 10 || err != nil && !loading(err) {
				x.t.Errorf("%d %v", len(found), err)
			}
		},
	} {
		tasks.Go(func() {
			for {
				select {
				case <-over:
					return
				default:
					repeat()
				}
			}
		})
	}
	for i := range 40 {
		if err := x.tryPut(150+5*i, 10, uint64(i)); err != nil {
			x.t.Error(err)
		}
		key := fmt.Sprintf("key-%05d", 150+5*i)
		got, err := x.s3.GetVectors(context.Background(), &s3vectors.GetVectorsInput{VectorBucketName: new(scenarioBucket), IndexName: &x.name, Keys: []string{key}, ReturnData: true})
		switch {
		case loading(err):
		case err != nil || len(got.Vectors) != 1 || !slices.Equal(got.Vectors[0].Data.(*vectortypes.VectorDataMemberFloat32).Value, x.want[key]):
			x.t.Errorf("%s was put, and is not found: %v %v", key, got, err)
		}
	}
	close(over)
	tasks.Wait()
	x.verify("after snapshots and restores")
	x.to("demote_to_cold", store.Cold)
	x.verify("from the upstream")
}

// raceConditionTierState: requests for all tiers compete. Afterwards the collection is in the tier that it
// says: a cold one is fetched by a search, a warm or a hot one is not.
func (x *scenarioIndex) raceConditionTierState() {
	x.put(0, 300)
	x.flush(x.t)
	var tasks sync.WaitGroup
	fetches, _ := x.faults(x.t, "[[fault]]\nop = \"GetObject\"\nkey = \"*/"+x.name+"/*.parquet\"\neffect = \"latency\"\nlatency_ms = 1\n")
	actions := []string{"promote_to_hot", "promote_to_warm", "demote_to_warm", "demote_to_cold"}
	for i := range 6 {
		tasks.Go(func() {
			for n := range 8 {
				if status, text := x.move(actions[(i+n)%len(actions)]); status != 200 {
					x.t.Errorf("%d %s", status, text)
				}
			}
		})
	}
	tasks.Wait()
	for _, last := range []string{"", "promote_to_hot", "demote_to_warm", "demote_to_cold"} {
		if last != "" {
			if status, text := x.move(last); status != 200 {
				x.t.Errorf("%s: %d %s", last, status, text)
			}
		}
		tier, before := x.status().Tier, fetches()
		x.verify("as " + tier.String())
		if fetched := fetches() > before; fetched != (tier == store.Cold) {
			x.t.Errorf("it says that it is %s, fetched from the upstream: %t", tier, fetched)
		}
	}
}

// warmTierDiskFull: a warm collection that does not fit on the disk any more becomes cold. Writes, and
// searches of hot collections, go on. Once there is room, everything is found.
func (x *scenarioIndex) warmTierDiskFull() {
	x.put(0, 300)
	x.flush(x.t)
	x.to("demote_to_warm", store.Warm)
	hot := x.newIndex(x.t, x.name+"-hot", 16)
	hot.put(0, 300)
	hot.flush(x.t)
	if tier := hot.status().Tier; tier != store.Hot {
		x.t.Errorf("a new collection is %v", tier)
	}
	hits, clear := x.faults(x.t, "[[fault]]\ntier = \"warm\"\neffect = \"enospc\"\n")
	x.put(300, 100)
	x.flush(x.t)
	if tier := x.status().Tier; tier != store.Cold || hits() == 0 {
		x.t.Errorf("it is %s, %.0f faults", tier, hits())
	}
	x.put(400, 10)
	hot.put(300, 10)
	hot.flush(x.t)
	hot.verify("while the disk is full")
	if _, err := x.search(x.query(0), 10); !loading(err) {
		x.t.Errorf("a search without room on the disk: %v", err)
	}
	clear()
	eventually(x.t, "it is not loaded again", func() bool { _, err := x.search(x.query(0), 10); return err == nil })
	x.verify("with room again")
}

// uploads puts vectors while a plan is in force, and uploads them, which may take several attempts. They are
// then found from the upstream alone, through the same faults.
func (x *scenarioIndex) uploads(plan string) {
	x.t.Helper()
	hits, clear := x.faults(x.t, plan)
	for i := range 4 {
		x.put(80*i, 100)
		eventually(x.t, "the upload did not succeed", func() bool {
			status, _ := x.ask(x.t, "POST", "/api/v1/vectors/flush", "")
			return status == 200
		})
	}
	x.verify("under the faults")
	if hits() < 3 {
		x.t.Errorf("%.0f faults occurred", hits())
	}
	x.to("demote_to_cold", store.Cold)
	eventually(x.t, "it is not loaded", func() bool { _, err := x.search(x.query(0), 10); return err == nil })
	x.verify("from the upstream")
	clear()
	x.flush(x.t)
	x.done(x.t, "POST", "/api/v1/vectors/sweep", "")
	x.noOrphans()
}

// s3RateLimit: half of the requests get 503 SlowDown.
func (x *scenarioIndex) s3RateLimit() {
	x.uploads("seed = 5\n[[fault]]\nop = \"PutObject,GetObject,HeadObject\"\nkey = \"*/" + x.name + "/*\"\neffect = \"slow_down\"\nprobability = 0.25\n")
}

// s3ConnectionTimeout: requests get no response, although some were carried out.
func (x *scenarioIndex) s3ConnectionTimeout() {
	x.uploads(fmt.Sprintf(`
seed = 6
[[fault]]
op = "PutObject,GetObject"
key = "*/%s/*"
effect = "timeout_before"
latency_ms = 20
probability = 0.3
[[fault]]
op = "PutObject"
key = "*/%[1]s/*"
effect = "timeout_after"
latency_ms = 20
probability = 0.3
`, x.name))
}

// partialSnapshotUpload: the connection breaks while a segment is uploaded; then a segment is uploaded, and
// the gateway is killed before the manifest names it. Nothing of that remains in the upstream.
func (x *scenarioIndex) partialSnapshotUpload() {
	x.put(0, 300)
	hits, clear := x.faults(x.t, fmt.Sprintf("[[fault]]\nop = \"PutObject\"\nkey = \"*/%s/*.parquet\"\neffect = \"reset_before\"\nfirst = 1\n[[fault]]\nop = \"PutObject\"\nkey = \"*/%[1]s/*.parquet\"\neffect = \"reset_after\"\nskip = 1\nfirst = 1\n", x.name))
	x.flush(x.t)
	if hits() == 0 {
		x.t.Error("no faults occurred")
	}
	clear()
	x.noOrphans()
	x.put(300, 50)
	x.faults(x.t, "[[fault]]\nop = \"PutObject\"\nkey = \"*/"+x.name+"/*/manifest.json\"\neffect = \"internal_error\"\n")
	if status, text := x.ask(x.t, "POST", "/api/v1/vectors/flush", ""); status == 200 {
		x.t.Errorf("an upload without its manifest succeeded: %s", text)
	}
	if segments, m, _ := x.objects(); len(segments) != 2 || len(m.Parts) != 1 {
		x.t.Fatalf("%d segments, of which the manifest names %d: the scenario did not happen", len(segments), len(m.Parts))
	}
	x.kill()
	x.start()
	x.served(x.t)
	x.put(320, 60)
	x.verify("after the restart")
	x.flush(x.t)
	x.done(x.t, "POST", "/api/v1/vectors/sweep", "")
	x.noOrphans()
	x.to("demote_to_cold", store.Cold)
	x.verify("from the upstream")
}

// corruptedParquet: the inputs of the last merge stand in for a damaged segment. If they are damaged too,
// the previous snapshot is served, read-only.
func (x *scenarioIndex) corruptedParquet() {
	x.put(0, 300)
	x.flush(x.t)
	x.put(200, 200)
	x.flush(x.t) // and merge
	segments, m, _ := x.objects()
	inputs, ok := m.Inputs(m.Parts[0].Name)
	if len(m.Parts) != 1 || !ok || len(segments) != 3 {
		x.t.Fatalf("%+v", m)
	}
	x.to("demote_to_cold", store.Cold)
	dir := segments[0][:strings.LastIndex(segments[0], "/")+1]
	x.damage(dir + m.Parts[0].Name)
	x.verify("with the inputs of the merge")
	if s := x.status(); s.Degraded != "" {
		x.t.Errorf("%+v", s)
	}
	x.put(400, 5)
	x.to("demote_to_cold", store.Cold)
	x.damage(dir + inputs[1].Name)
	older := &scenarioIndex{scenarioRig: x.scenarioRig, t: x.t, name: x.name, dimension: x.dimension, want: map[string][]float32{}}
	page, err := x.s3.ListVectors(x.t.Context(), &s3vectors.ListVectorsInput{VectorBucketName: new(scenarioBucket), IndexName: &x.name, ReturnData: true, MaxResults: new(int32(1000))})
	if err != nil {
		x.t.Fatal(err)
	}
	for _, v := range page.Vectors {
		older.want[*v.Key] = v.Data.(*vectortypes.VectorDataMemberFloat32).Value
	}
	if len(older.want) < 300 || older.want["key-00007"] == nil || !slices.Equal(older.want["key-00007"], x.want["key-00007"]) {
		x.t.Errorf("the previous snapshot has %d vectors", len(older.want))
	}
	older.verify("in the previous snapshot")
	if s := x.status(); s.Degraded == "" || !strings.Contains(x.overview(x.t).Problem, x.name) {
		x.t.Errorf("the operator is not told: %+v", s)
	}
	if err := x.tryPut(1000, 1, 1); !loading(err) {
		x.t.Errorf("a put into what is read-only: %v", err)
	}
}

// tierDemotionRollback: a collection whose new vectors cannot be uploaded is not demoted.
func (x *scenarioIndex) tierDemotionRollback() {
	x.put(0, 300)
	x.flush(x.t)
	x.to("promote_to_hot", store.Hot)
	x.put(200, 200)
	hits, clear := x.faults(x.t, "[[fault]]\nop = \"PutObject\"\nkey = \"*/"+x.name+"/*\"\neffect = \"internal_error\"\n")
	if status, text := x.move("demote_to_cold"); status/100 == 2 || hits() == 0 {
		x.t.Errorf("%d %s, %.0f faults", status, text, hits())
	}
	if s := x.status(); s.Tier != store.Hot || s.Rows != 200 {
		x.t.Errorf("%+v", s)
	}
	x.verify("after the demotion that failed")
	clear()
	x.to("demote_to_cold", store.Cold)
	if rows := x.status().Rows; rows != 0 {
		x.t.Errorf("%d vectors are not uploaded", rows)
	}
	x.verify("after the demotion")
}

// TestVectorScenariosQuotas are the scenarios about limits.
//
// Scenarios: E7, E21.
func TestVectorScenariosQuotas(t *testing.T) {
	t.Parallel()
	r := startScenarioRig(t, "memory_bytes = \"1MiB\"\nstorage_bytes = \"4MiB\"\nkeep_snapshots = 1\n")
	t.Run("MemoryQuota", func(t *testing.T) { r.newIndex(t, "memory", 256).memoryQuota() })
	t.Run("StorageQuota", func(t *testing.T) { r.newIndex(t, "storage", 256).storageQuota() })
	t.Run("CollectionCountLimit", func(t *testing.T) { collectionCountLimit(t, r) })
}

// memoryQuota: what waits to be uploaded and what is hot stay within their limits; a hot collection that
// outgrows it becomes warm.
func (x *scenarioIndex) memoryQuota() {
	const limit = 1 << 20
	within := func() {
		x.t.Helper()
		if pending, hot := x.metric("akigw_vectors_pending_bytes"), x.metric("akigw_vectors_hot_bytes"); pending > limit || hot > limit {
			x.t.Errorf("%.0f bytes wait, %.0f are hot", pending, hot)
		}
	}
	x.put(0, 300)
	x.flush(x.t)
	x.to("promote_to_hot", store.Hot)
	var full *vectortypes.TooManyRequestsException
	n := 300
	for ; n < 3000; n += 100 {
		if err := x.tryPut(n, 100, 1); err != nil {
			if !errors.As(err, &full) || !strings.Contains(err.Error(), "wait to be uploaded") {
				x.t.Fatal(err)
			}
			break
		}
		within()
	}
	if n < 500 || n > 1300 {
		x.t.Errorf("%d vectors of 1 KiB fit", n)
	}
	within()
	x.verify("with the memory full")
	x.flush(x.t)
	if tier := x.status().Tier; tier != store.Warm {
		x.t.Errorf("a collection that is larger than the memory is %s", tier)
	}
	within()
	x.put(n, 100)
	if status, text := x.move("promote_to_hot"); status != http.StatusInsufficientStorage || !strings.Contains(text, "memory_bytes") {
		x.t.Errorf("%d %s", status, text)
	}
	x.verify("as a warm collection")
	within()
}

// storageQuota: puts are refused once the upstream has as much as it may have. Deletions make room, after
// earlier snapshots are forgotten.
func (x *scenarioIndex) storageQuota() {
	const limit = 4 << 20
	stored := func() (n int64) {
		for _, name := range x.up.KeysOf("collections") {
			if strings.HasSuffix(name, ".parquet") {
				o, _ := x.up.Get(akigw.Key{Bucket: "collections", Name: name})
				n += int64(len(o.Body))
			}
		}
		return n
	}
	var full *vectortypes.ServiceQuotaExceededException
	n := 0
	for ; n < 6000; n += 400 {
		if err := x.tryPut(n, 400, 1); err != nil {
			if !errors.As(err, &full) || !strings.Contains(err.Error(), fmt.Sprint(limit)) {
				x.t.Fatal(err)
			}
			break
		}
		x.flush(x.t)
		x.done(x.t, "POST", "/api/v1/vectors/sweep", "")
	}
	if n == 0 || n >= 6000 || stored() > 2*limit {
		x.t.Errorf("refused after %d vectors and %d bytes", n, stored())
	}
	x.verify("with the storage full")
	for at := 0; at < n-300; at += 300 {
		x.remove(at, 300)
		x.flush(x.t)
	}
	x.remove(n-300, 1)
	x.flush(x.t)
	x.done(x.t, "POST", "/api/v1/vectors/sweep", "")
	if got := stored(); got >= limit {
		x.t.Errorf("%d bytes are stored after the deletion", got)
	}
	x.noOrphans()
	x.put(10_000, 50)
	x.flush(x.t)
	x.verify("after the deletion")
}

// collectionCountLimit: the 1001st collection is refused.
func collectionCountLimit(t *testing.T, r *scenarioRig) {
	const limit = 1000
	have := r.overview(t).Totals.Collections
	var tasks sync.WaitGroup
	for worker := range 8 {
		tasks.Go(func() {
			for i := have + worker; i < limit; i += 8 {
				if err := r.createIndex(fmt.Sprintf("count-%04d", i), 4); err != nil {
					t.Error(err)
				}
			}
		})
	}
	tasks.Wait()
	var full *vectortypes.ServiceQuotaExceededException
	if err := r.createIndex("one-too-many", 4); !errors.As(err, &full) || !strings.Contains(err.Error(), "1000") {
		t.Errorf("another one: %v", err)
	}
	if n := r.overview(t).Totals.Collections; n != limit {
		t.Errorf("%d collections", n)
	}
	if _, err := r.s3.DeleteIndex(t.Context(), &s3vectors.DeleteIndexInput{VectorBucketName: new(scenarioBucket), IndexName: new("count-0500")}); err != nil {
		t.Fatal(err)
	}
	x := r.newIndex(t, "another", 4)
	x.put(0, 20)
	x.verify("in place of a deleted one")
}

// TestVectorScenariosWorker are the scenarios about the worker that applies the tiering policy.
//
// Scenarios: B20, D8.
func TestVectorScenariosWorker(t *testing.T) {
	t.Parallel()
	r := startScenarioRig(t, "[tiering.policy]\nhot_tier_ttl_hours = 0.0003\nwarm_tier_ttl_days = 0.000012\nhot_promotion_threshold = 5\naccess_window_hours = 0.0003\nworker_interval_secs = 1\n")
	t.Run("BackgroundWorkerConcurrentWithAPI", func(t *testing.T) { backgroundWorker(t, r) })
	t.Run("WorkerRestartMidCycle", func(t *testing.T) { workerRestart(t, r) })
}

// backgroundWorker: collections are written, searched, uploaded and moved by hand while the worker moves them.
func backgroundWorker(t *testing.T, r *scenarioRig) {
	moved, end := r.metric("akigw_vectors_policy_moves_total"), time.Now().Add(4*time.Second)
	var tasks sync.WaitGroup
	var all []*scenarioIndex
	for n := range 3 {
		x := r.newIndex(t, fmt.Sprintf("worked-%d", n), 16)
		x.put(0, 100)
		all = append(all, x)
		tasks.Go(func() {
			for i := 0; time.Now().Before(end); i++ {
				if err := x.tryPut(5*i, 10, uint64(i)); err != nil {
					t.Error(err)
				}
				if found, err := x.search(x.query(uint64(i)), 10); err != nil || same(found, x.nearest(x.query(uint64(i)), 10)) != "" {
					t.Errorf("%v %s", err, same(found, x.nearest(x.query(uint64(i)), 10)))
				}
				if i%10 == 5 {
					r.done(t, "POST", "/api/v1/vectors/flush", "")
				}
				if status, text := x.move([]string{"promote_to_hot", "demote_to_warm", "demote_to_cold"}[i%3]); status != 200 {
					t.Errorf("%d %s", status, text)
				}
				time.Sleep(time.Duration(10+100*n) * time.Millisecond)
			}
		})
	}
	tasks.Wait()
	for _, x := range all {
		x.verify("beside the worker")
	}
	eventually(t, "the worker moved nothing", func() bool { return r.metric("akigw_vectors_policy_moves_total") > moved })
}

// workerRestart: the gateway is killed while the worker demotes collections, some of which are cold by then.
// After the restart the worker demotes the others, and touches those no more.
func workerRestart(t *testing.T, r *scenarioRig) {
	const collections = 6
	r.faults(t, "[[fault]]\nop = \"PutObject\"\nkey = \"*/cycle-*/*.parquet\"\neffect = \"latency\"\nlatency_ms = 300\n")
	var all []*scenarioIndex
	for n := range collections {
		x := r.newIndex(t, fmt.Sprintf("cycle-%d", n), 16)
		x.put(0, 100)
		if _, err := x.search(x.query(0), 1); err != nil { // it is warm from now on
			t.Fatal(err)
		}
		all = append(all, x)
	}
	etags := map[string]string{}
	eventually(t, "the worker did not begin", func() bool {
		clear(etags)
		for _, x := range all {
			if _, m, _ := x.objects(); m != nil && x.status().Tier == store.Cold {
				etags[x.name] = fmt.Sprint(m.Generation, m.Names())
			}
		}
		return len(etags) > 0
	})
	r.kill()
	if len(etags) == collections {
		t.Fatal("the worker was quicker than the test")
	}
	r.start()
	r.served(t)
	eventually(t, "the worker does not go on", func() bool {
		return !slices.ContainsFunc(all, func(x *scenarioIndex) bool { return x.status().Tier != store.Cold || x.status().Rows > 0 })
	})
	for _, x := range all {
		_, m, _ := x.objects()
		if before := etags[x.name]; before != "" && before != fmt.Sprint(m.Generation, m.Names()) {
			t.Errorf("%s was demoted twice: %s, now %d %v", x.name, before, m.Generation, m.Names())
		}
		x.verify("after the restart")
	}
	r.done(t, "POST", "/api/v1/vectors/sweep", "")
	for _, x := range all {
		x.noOrphans()
	}
}
