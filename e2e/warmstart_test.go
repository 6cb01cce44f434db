package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/chart"
	"github.com/akidb/akigw/internal/testing/s3client"
	"github.com/akidb/akigw/internal/testing/testkit"
)

// zipfLoad reads objects at a fixed rate, popular ones more often, and counts hits.
type zipfLoad struct {
	objects, rate int
	window        time.Duration
}

// run reads for a while and returns the hit ratio of each window.
func (z zipfLoad) run(t *testing.T, g *gateway, seed uint64, long time.Duration) (ratios []float64) {
	client := &s3client.Client{Endpoint: g.endpoint, HTTP: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}}
	defer client.HTTP.CloseIdleConnections()
	random := rand.New(rand.NewPCG(seed, 0))
	zipf := rand.NewZipf(random, 1.1, 8, uint64(z.objects-1))
	var mu sync.Mutex
	hits, reads := map[int]int{}, map[int]int{}
	started, every := time.Now(), time.Second/time.Duration(z.rate)
	var work sync.WaitGroup
	slots := make(chan struct{}, 64)
	for n := 0; time.Duration(n)*every < long; n++ {
		time.Sleep(time.Until(started.Add(time.Duration(n) * every)))
		// Popular keys are spread over the order of names.
		i := zipf.Uint64() * 7919 % uint64(z.objects)
		window := int(time.Duration(n) * every / z.window)
		slots <- struct{}{}
		work.Go(func() {
			defer func() { <-slots }()
			a := client.Must(t, "GET", fmt.Sprintf("/zipf/%d", i), "", nil, nil)
			from := a.Header.Get("X-Akigw-Cache")
			mu.Lock()
			defer mu.Unlock()
			reads[window]++
			if from == "hot" || from == "warm" {
				hits[window]++
			}
		})
	}
	work.Wait()
	for w := range len(reads) {
		ratios = append(ratios, float64(hits[w])/float64(max(1, reads[w])))
	}
	return ratios
}

// reaches returns the first window from which the mean of two windows reaches a ratio, -1 if none
// does.
func reaches(ratios []float64, want float64) int {
	for i := 0; i+1 < len(ratios); i++ {
		if (ratios[i]+ratios[i+1])/2 >= want {
			return i
		}
	}
	return -1
}

// TestLongWarmStart: a gateway restored from a snapshot reaches 90% of the old hit ratio in a tenth
// of the time that an empty one takes.
func TestLongWarmStart(t *testing.T) {
	long(t)
	const objects, size = 30_000, 16 << 10
	up, behind := startMemory(t, 3*time.Millisecond, 64)
	for i := range objects {
		up.Put(akigw.Key{Bucket: "zipf", Name: fmt.Sprint(i)}, testkit.Bytes(uint64(i), size))
	}
	config := "[cache]\nhot_bytes = \"32MiB\"\nwarm_bytes = \"320MiB\"\nfreshness = \"exclusive\"\n[snapshot]\nupload = \"s3://snapshots/here\"\n"
	load := zipfLoad{objects: objects, rate: 150, window: 2 * time.Second}
	old := startGateway(t, options{upstream: behind, plain: true, config: config})
	old.operator()
	empty := load.run(t, old, 1, 4*time.Minute) // the first time, it is empty
	steady := 0.0
	for _, r := range empty[len(empty)-10:] {
		steady += r / 10
	}
	if out := old.says("snapshot", "create"); !strings.Contains(out, "created snapshot") {
		t.Fatal(out)
	}
	old.stop()
	fresh := startGateway(t, options{upstream: behind, plain: true, config: config, env: []string{"AKIGW_RESTORE=latest"}})
	restored := load.run(t, fresh, 2, time.Minute)
	slow, fast := reaches(empty, 0.9*steady), reaches(restored, 0.9*steady)
	t.Logf("hit ratio %.3f in the end; 90%% of it after %ds empty, %ds restored", steady, slow*2, fast*2)
	if fast < 0 || slow < 0 || fast*10 > slow {
		t.Errorf("empty %.2f\nrestored %.2f", empty, restored)
	}
	if file := os.Getenv("AKIGW_PLOT"); file != "" {
		writeFile(t, file, []byte(hitPlot(empty, restored, steady, load.window)))
	}
}

// hitPlot plots hit ratios over time.
func hitPlot(empty, restored []float64, steady float64, window time.Duration) string {
	n := max(len(empty), len(restored))
	c := chart.New(n, 10)
	goal := c.Y(0.9 * steady)
	c.Add(`<path d="M%.1f %.1f H%.1f" stroke="#cccccc" stroke-dasharray="4 3"/>`, chart.Left, goal, chart.Right)
	c.Text(chart.Right, goal+14, "end", "#777777", "90% of the hit ratio before")
	c.Line(empty, 1, "#b06020")
	c.Line(restored, 1, "#1f5fa8")
	c.Add(`<path d="M%.1f %.1f V%.1f H%.1f" fill="none" stroke="#444444"/>`, chart.Left, chart.Top, chart.Bottom, chart.Right)
	for _, v := range []float64{0, 0.25, 0.5, 0.75, 1} {
		c.Text(chart.Left-6, c.Y(v)+4, "end", "#444444", fmt.Sprintf("%.0f%%", 100*v))
	}
	for s := 0; s <= int(float64(n)*window.Seconds()); s += 30 {
		c.Text(c.X(float64(s)/window.Seconds()), chart.Bottom+16, "middle", "#444444", fmt.Sprintf("%d s", s))
	}
	c.Text(chart.Left, chart.Top-10, "start", "#1f5fa8", "restored from a snapshot")
	c.Text(chart.Right, chart.Top-10, "end", "#b06020", "empty")
	return c.String()
}
