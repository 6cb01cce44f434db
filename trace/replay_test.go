package trace

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/internal/testing/tiertest"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers"
)

// record writes down what do does, as the admin listener does it.
func record(t *testing.T, r *Recorder, nameless bool, do func()) []byte {
	t.Helper()
	recording, err := r.Start(nameless)
	if err != nil {
		t.Fatal(err)
	}
	defer recording.Close()
	if _, err := r.Start(false); err != ErrRecording {
		t.Errorf("a second trace at a time: %v", err)
	}
	do()
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	lines := []any{Header{Version: Version}}
	for len(recording.Accesses()) > 0 {
		lines = append(lines, <-recording.Accesses())
	}
	lost := recording.Lost()
	for _, line := range append(lines, Header{Version: Version, Lost: &lost}) {
		if err := e.Encode(line); err != nil {
			t.Fatal(err)
		}
	}
	return out.Bytes()
}

// TestReplayIsLikeTheTiers: a trace of a real store, played against tiers of the sizes that it
// has, ends about as it ended there; and a larger memory hits more.
func TestReplayIsLikeTheTiers(t *testing.T) {
	random := testkit.Random(t)
	const objects, reads = 400, 3000
	config := tiertest.Config("ttl")
	config.TTLSecs = 3600
	memory, disk := int64(config.HotBytes), int64(config.WarmBytes)
	up := s3mem.New()
	sizes := make([]int64, objects)
	for i := range sizes {
		sizes[i] = 1 + random.Int64N(3*tiertest.Block)
		up.Put(tiertest.Key(fmt.Sprint("object-", i)), testkit.Bytes(uint64(i), int(sizes[i])))
	}
	var r Recorder
	s := tiertest.Open(t, tiers.Options{Config: config, Upstream: up, Observers: []tiers.Observer{&r}})
	defer tiertest.Close(t, s)
	recorded := record(t, &r, true, func() {
		for _, n := range zipfTrace(random, reads, objects) {
			if _, _, err := tiertest.Read(s, tiertest.Key(fmt.Sprint("object-", n)), ""); err != nil {
				t.Fatal(err)
			}
		}
	})
	if bytes.Contains(recorded, []byte("object-")) {
		t.Error("a trace without names has one")
	}
	p, err := Read(bytes.NewReader(recorded))
	if err != nil {
		t.Fatal(err)
	}
	if p.Recorded.Reads != reads || p.Lost != 0 || p.Recorded.Hot == 0 || p.Recorded.Warm == 0 || p.Recorded.Cold == 0 {
		t.Fatalf("recorded %+v of %d reads", p.Recorded, reads)
	}
	same, err := p.Replay("akigw", memory, disk, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("recorded %+v, played %+v", p.Recorded, same)
	for _, c := range []struct {
		name         string
		real, played int
	}{{"hot", p.Recorded.Hot, same.Hot}, {"warm", p.Recorded.Warm, same.Warm}, {"cold", p.Recorded.Cold, same.Cold}} {
		if math.Abs(float64(c.real-c.played)) > 0.05*reads {
			t.Errorf("%s: %d reads of %d, played %d", c.name, c.real, reads, c.played)
		}
	}
	if larger, _ := p.Replay("akigw", 4*memory, disk, 0); larger.Hot <= same.Hot {
		t.Errorf("four times the memory hits %d, before %d", larger.Hot, same.Hot)
	}
	all, _ := p.Replay("optimum", 1<<30, 1<<30, 0)
	if all.UpstreamBytes != p.Bytes || all.Cold != p.Objects {
		t.Errorf("with room for everything %d reads fetch %d bytes, of %d objects and %d bytes", all.Cold, all.UpstreamBytes, p.Objects, p.Bytes)
	}
	best, _ := p.Replay("optimum", memory, disk, 0)
	if simple, _ := p.Replay("lru", memory, disk, 0); simple.Hot > best.Hot || same.Hot > best.Hot {
		t.Errorf("hits of memory: %d lru, %d akigw, %d optimum", simple.Hot, same.Hot, best.Hot)
	}
}

// TestReplayKnowsVersions: a new version is fetched, the part of it that is asked for, and what
// is written through the gateway is not.
func TestReplayKnowsVersions(t *testing.T) {
	line := func(version string, start, length int64, more string) string {
		return fmt.Sprintf(`{"at":1,"bucket":"b","key":"k","version":%q,"size":250,"block":100,"start":%d,"length":%d%s}`, version, start, length, more)
	}
	const head, tail = `{"akigw_trace":1}`, `{"akigw_trace":1,"lost":0}`
	for _, c := range []struct {
		name  string
		lines []string
		want  Result
	}{
		{"read twice", []string{line("1", 0, 250, ""), line("1", 50, 100, "")}, Result{Reads: 2, Hot: 1, Cold: 1, UpstreamBytes: 250, UpstreamReads: 1, Bytes: 350}},
		{"another version", []string{line("1", 0, 250, ""), line("2", 240, 10, ""), line("1", 0, 1, "")}, Result{Reads: 3, Cold: 3, UpstreamBytes: 400, UpstreamReads: 3, Bytes: 261}},
		{"around what is there", []string{line("1", 150, 1, ""), line("1", 0, 250, "")}, Result{Reads: 2, Cold: 2, UpstreamBytes: 250, UpstreamReads: 3, Bytes: 251}},
		{"written", []string{line("1", 0, 250, `,"write":true`), line("1", 0, 250, "")}, Result{Reads: 1, Hot: 1, Bytes: 250}},
		{"not in memory", []string{line("1", 0, 250, `,"no_memory":true`), line("1", 0, 250, `,"no_memory":true`)}, Result{Reads: 2, Warm: 1, Cold: 1, UpstreamBytes: 250, UpstreamReads: 1, Bytes: 500}},
		{"nowhere", []string{line("1", 0, 50, `,"no_memory":true,"no_disk":true`), line("1", 0, 50, `,"no_memory":true,"no_disk":true`)}, Result{Reads: 2, Cold: 2, UpstreamBytes: 200, UpstreamReads: 2, Bytes: 100}},
		{"empty", []string{`{"at":1,"key":"e","version":"1","size":0,"block":100,"start":0,"length":0}`}, Result{Reads: 1, Cold: 1, UpstreamReads: 1}},
	} {
		p, err := Read(strings.NewReader(head + "\n" + strings.Join(c.lines, "\n") + "\n" + tail))
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		for _, policy := range Policies() {
			if policy == "optimum" && (c.name == "not in memory" || c.name == "another version") {
				continue // it does not even take what is not needed again, and needs no disk
			}
			if got, err := p.Replay(policy, 1<<20, 1<<20, 0); err != nil || got != c.want {
				t.Errorf("%s, %s: %+v, %v; want %+v", c.name, policy, got, err, c.want)
			}
		}
	}
	for name, c := range map[string]struct{ text, want string }{
		"nothing":       {"", "cut off"},
		"something":     {`{"a":1}`, "not a trace"},
		"not JSON":      {"a,b", "not a trace"},
		"no more JSON":  {head + "\na,b", "line 2"},
		"later format":  {`{"akigw_trace":9}`, "format 9"},
		"cut off":       {head + "\n" + line("1", 0, 1, ""), "cut off"},
		"behind an end": {head + "\n" + line("1", 200, 51, ""), "line 2"},
		"no block":      {head + "\n" + `{"size":1,"length":1}`, "line 2"},
	} {
		if _, err := Read(strings.NewReader(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := (&Trace{}).Replay("best", 1, 1, 0); err == nil {
		t.Error("a policy that does not exist is played")
	}
}

// TestNobodyWaitsForATrace: who records too slowly loses accesses, and is told so.
func TestNobodyWaitsForATrace(t *testing.T) {
	var r Recorder
	recording, err := r.Start(false)
	if err != nil {
		t.Fatal(err)
	}
	a := tiers.Access{Object: &akigw.Object{Key: tiertest.Key("a"), Size: 1}, Settings: &rules.Settings{}, Range: akigw.Range{Length: 1}, Outcome: akigw.Hot}
	for range queued + 3 {
		r.Accessed(a)
	}
	if got := recording.Lost(); got != 3 {
		t.Errorf("%d are lost", got)
	}
	recording.Close()
	if again, err := r.Start(false); err != nil {
		t.Error(err)
	} else {
		again.Close()
	}
}
