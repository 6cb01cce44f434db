package bench

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/akidb/akigw/internal/testing/testkit"
)

// exactVectors is a service of vector collections in memory, with their tiers.
type exactVectors struct {
	mu      sync.Mutex
	buckets map[string]bool
	indexes map[string]map[string][]float32 // by index and key
	tiers   map[string]string
	pins    map[string]string
	lose    bool // searches overlook the nearest vector
	busy    int  // how many of the next puts are refused
	failing bool // puts are stored, but fail
	service string
}

func startVectors(t *testing.T) (*exactVectors, *VectorLoad) {
	s := &exactVectors{buckets: map[string]bool{}, indexes: map[string]map[string][]float32{}, tiers: map[string]string{}, pins: map[string]string{}}
	e := &Endpoint{URL: testkit.Serve(t, s).URL, AccessKey: "key", SecretKey: "secret-of-the-test", Region: "us-east-1"}
	c := LoadConfig{Workload: Vectors, DurationSecs: 2, QPS: 150, SearchPct: 0.5, InsertPct: 0.3, TierControlPct: 0.2, Collections: 10, Items: 200, Dimension: 8, Skew: 0.9, Bucket: "bench-bucket"}
	return s, &VectorLoad{Load: Load{Endpoint: e, Seed: 1, Config: c}, Control: s}
}

// Close implements io.Closer.
func (s *exactVectors) Close() error { return nil }

// ServeHTTP implements http.Handler.
func (s *exactVectors) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, s.service, _ = strings.Cut(r.Header.Get("Authorization"), "us-east-1/")
	var in struct {
		VectorBucketName, IndexName string
		Vectors                     []struct {
			Key  string
			Data struct{ Float32 []float32 }
		}
		QueryVector struct{ Float32 []float32 }
		TopK        int
	}
	refuse := func(status int, code string) {
		w.Header().Set("X-Amzn-Errortype", code)
		w.WriteHeader(status)
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		refuse(400, "ValidationException")
		return
	}
	index := s.indexes[in.IndexName]
	switch op := r.URL.Path; {
	case op == "/CreateVectorBucket" && s.buckets[in.VectorBucketName], op == "/DeleteVectorBucket" && len(s.indexes) > 0:
		refuse(409, "ConflictException")
	case op == "/CreateVectorBucket":
		s.buckets[in.VectorBucketName] = true
	case op == "/DeleteVectorBucket":
		delete(s.buckets, in.VectorBucketName)
	case op == "/CreateIndex":
		s.indexes[in.IndexName], s.tiers[in.IndexName] = map[string][]float32{}, "hot"
	case index == nil:
		refuse(404, "NotFoundException")
	case op == "/DeleteIndex":
		delete(s.indexes, in.IndexName)
	case op == "/PutVectors" && s.busy > 0:
		s.busy--
		refuse(429, "TooManyRequestsException")
	case op == "/PutVectors":
		for _, v := range in.Vectors {
			index[v.Key] = v.Data.Float32
		}
		if s.failing {
			refuse(500, "InternalServerException")
		}
	case op == "/QueryVectors":
		_ = json.NewEncoder(w).Encode(map[string]any{"vectors": s.nearest(index, in.QueryVector.Float32, in.TopK)})
	}
}

func (s *exactVectors) nearest(index map[string][]float32, sought []float32, k int) []hit {
	var all []hit
	for key, v := range index {
		all = append(all, hit{key, float64(float32(1 - product(sought, v)/math.Sqrt(product(v, v)*product(sought, sought))))})
	}
	slices.SortFunc(all, func(a, b hit) int { return cmp.Compare(a.Distance, b.Distance) })
	if s.lose {
		all = all[1:]
	}
	return all[:min(k, len(all))]
}

// Move implements VectorControl.
func (s *exactVectors) Move(_ context.Context, action, _, index, tier string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.indexes[index] == nil:
		return errors.New("no such index")
	case (action == "pin") != (tier != ""):
		return errors.New("a tier goes with a pin")
	case action == "pin":
		s.pins[index] = tier
	case action == "unpin":
		delete(s.pins, index)
	default:
		s.tiers[index] = action[strings.LastIndexByte(action, '_')+1:]
	}
	return nil
}

// Tiers implements VectorControl.
func (s *exactVectors) Tiers(context.Context, string) (map[string]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	tiers := map[string]string{}
	for index, tier := range s.tiers {
		tiers[index] = tier
	}
	return tiers, nil
}

// Flush implements VectorControl.
func (s *exactVectors) Flush(context.Context) error { return nil }

// TestVectorLoad: a correct service causes no errors, every class of operation occurs, and nothing is
// left of the collections.
func TestVectorLoad(t *testing.T) {
	s, l := startVectors(t)
	s.busy = 1
	if err := l.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for index, tier := range s.tiers {
		count[tier]++
		if len(s.indexes[index]) != 20 {
			t.Errorf("%s has %d vectors", index, len(s.indexes[index]))
		}
	}
	if count["hot"] != 2 || count["warm"] != 5 || count["cold"] != 3 {
		t.Errorf("tiers: %v", count)
	}
	if err := l.Prepare(t.Context()); err != nil { // the collections of an interrupted run are replaced
		t.Fatal(err)
	}
	r, err := l.Run(t.Context())
	if err != nil || r.Errors > 0 || r.Requests < 200 || r.Warmer == nil || r.Warmer.Requests >= r.Requests {
		t.Fatalf("%+v, %v", r, err)
	}
	var ops []string
	for op := range r.Ops {
		ops = append(ops, op)
	}
	for _, want := range []string{"QueryVectors, hot", "QueryVectors, warm", "QueryVectors, cold", "PutVectors (new), hot", "PutVectors (update), hot", "tier promote_to_hot", "tier promote_to_warm", "tier demote_to_warm", "tier demote_to_cold", "tier pin", "tier unpin", "tier status"} {
		if !slices.Contains(ops, want) {
			t.Errorf("no %s in %q", want, ops)
		}
	}
	if last := r.Samples[len(r.Samples)-1]; last.Inserted == 0 || last.Inserted%(4*8+8) != 0 {
		t.Errorf("%d bytes were inserted", last.Inserted)
	}
	if len(s.indexes) > 0 || len(s.buckets) > 0 || len(s.pins) > 0 || !strings.HasPrefix(s.service, "s3vectors/") {
		t.Errorf("left: %v %v %v; signed for %s", s.indexes, s.buckets, s.pins, s.service)
	}
}

// TestVectorLoadFindsWhatIsWrong: a search that overlooks a vector is wrong, a failed write is counted by
// its code, and the searches after it may see either state.
func TestVectorLoadFindsWhatIsWrong(t *testing.T) {
	s, l := startVectors(t)
	l.Control, l.Config.DurationSecs = nil, 1
	if err := l.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.failing = true
	r, err := l.Run(t.Context())
	if err != nil || r.Wrong > 0 || r.Errors == 0 || r.Codes["InternalServerException"] != r.Errors {
		t.Errorf("failing writes: %+v, %v", r, err)
	}
	s.failing = false
	if err := l.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.lose = true
	r, err = l.Run(t.Context())
	if err != nil || r.Wrong == 0 || r.Wrong != r.Errors || r.Codes["wrong response"] != r.Wrong || r.Ops["QueryVectors"].Errors != r.Wrong {
		t.Errorf("lost vectors: %+v, %v", r, err)
	}
}

// TestVectorModel: which responses are right, while a write is under way and after it.
func TestVectorModel(t *testing.T) {
	at := func(x, y float32) []float32 { return []float32{x, y} }
	s := newShelf("i", "hot")
	put := func(n int, v []float32) {
		_, _, end := s.write(n, v)
		end(true)
	}
	put(-1, at(1, 0))  // distance 0
	put(-1, at(0, 1))  // 1
	put(-1, at(-1, 0)) // 2
	sought := at(1, 0)
	zero, one, two, same := hit{"v0000000", 0}, hit{"v0000001", 1}, hit{"v0000002", 2}, hit{"v0000003", 0}
	check := func(what string, seen view, k int, right bool, hits ...hit) {
		t.Helper()
		if err := seen.verify(sought, k, hits); (err == nil) != right || err != nil && !errors.Is(err, errWrong) {
			t.Errorf("%s: %v", what, err)
		}
	}
	quiet := s.search()()
	check("all", quiet, 5, true, zero, one, two)
	check("the nearest", quiet, 1, true, zero)
	check("not the nearest", quiet, 1, false, one)
	check("one is missing", quiet, 5, false, zero, two)
	check("too many", quiet, 1, false, zero, one)
	check("twice", quiet, 5, false, zero, zero, one, two)
	check("order", quiet, 5, false, one, zero, two)
	check("distance", quiet, 5, false, zero, hit{one.Key, 1.1}, two)
	check("unknown key", quiet, 5, false, zero, one, two, hit{"v0000009", 2})

	during := s.search()
	_, update, endNew := s.write(-1, at(2, 0))
	if update {
		t.Error("a new key is an update")
	}
	_, update, endUpdate := s.write(1, at(-2, 0))
	if !update {
		t.Error("an update is a new key")
	}
	if key, update, end := s.write(1, at(3, 3)); update || key != "v0000004" {
		t.Errorf("an update beside another one: %s", key)
	} else {
		end(false)
	}
	endNew(true)
	endUpdate(true)
	seen := during()
	moved := hit{one.Key, 2}
	check("the new key is not seen", seen, 5, true, zero, one, two)
	check("it is seen", seen, 5, true, zero, same, one, two)
	check("with the update", seen, 5, true, zero, same, moved, two)
	check("without both states of the update", seen, 5, false, zero, same, two)
	after := s.search()()
	check("after", after, 5, true, zero, same, moved, two)
	check("after: the old state", after, 5, false, zero, same, one, two)
	check("after: the new key is missing", after, 5, false, zero, moved, two)
	check("after: the failed write is seen", after, 5, true, zero, same, hit{"v0000004", 1 - math.Sqrt2/2}, moved, two)
}

// TestBegin: a move leads from the initial tier and back to it, and only one is under way.
func TestBegin(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	for range 1000 {
		s := newShelf("i", []string{"hot", "warm", "cold"}[random.IntN(3)])
		s.tier = []string{"hot", "warm", "cold"}[random.IntN(3)]
		from := s.tier
		action, to := s.begin(random)
		if action == "" {
			continue
		}
		if again, _ := s.begin(random); again != "" {
			t.Fatalf("%s beside %s", again, action)
		}
		if action == "pin" {
			if to != from || to == "cold" {
				t.Fatalf("pin of %s to %s", from, to)
			}
		} else if from != s.home && to != s.home || from == to {
			t.Fatalf("%s from %s, which began in %s", action, from, s.home)
		}
		s.finish(action, to, nil)
		if s.tier != to || s.pinned != (action == "pin") {
			t.Fatalf("%+v after %s", s, action)
		}
	}
}

// TestLoadCheck: impossible values of a load on vectors are named.
func TestLoadCheck(t *testing.T) {
	good := LoadConfig{Workload: Vectors, DurationSecs: 1, QPS: 1, SearchPct: 1, Collections: 1, Items: 1, Dimension: 1, Bucket: "b"}
	for key, change := range map[string]func(*LoadConfig){
		"": func(*LoadConfig) {}, "workload": func(c *LoadConfig) { c.Workload = "other" }, "dimension": func(c *LoadConfig) { c.Dimension = 4097 }, "items": func(c *LoadConfig) { c.Items = mostExact + 1 },
	} {
		c, got := good, ""
		change(&c)
		if c.Check(func(key, _ string) { got += key }); got != key {
			t.Errorf("%q was reported instead of %q", got, key)
		}
	}
}
