package uploadpool

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/akidb/akigw/internal/testing/chart"
	"github.com/akidb/akigw/tiers/cold"
)

// TestConcurrencyAdapts: while an upstream refuses half of all requests, fewer are sent
// concurrently. After it has recovered, the concurrency returns to its old value. AKIGW_PLOT names
// a file for a plot of it (SVG).
//
// Scenarios: A1.
func TestConcurrencyAdapts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		const from, to, end = 20 * time.Second, 80 * time.Second, 140 * time.Second
		started := time.Now()
		random := rand.New(rand.NewPCG(1, 2))
		r.answers(func(*cold.Request) (*http.Response, error) {
			if at := time.Since(started); at >= from && at < to && random.IntN(2) == 0 {
				return respond(503, "SlowDown")
			}
			return nil, nil
		})
		r.run()
		var limits, pending []float64
		n := 0
		for at := time.Duration(0); at < end; at += 500 * time.Millisecond {
			for range 10 {
				r.put(fmt.Sprint(n), "body")
				n++
			}
			time.Sleep(500 * time.Millisecond)
			limits = append(limits, r.pool.Progress().Limit)
			pending = append(pending, float64(r.j.Stats().Pending))
		}
		r.drained(time.Hour)
		second := func(s []float64, from, to time.Duration) []float64 {
			return s[from/(500*time.Millisecond) : to/(500*time.Millisecond)]
		}
		before, during, after := second(limits, 0, from), second(limits, from+5*time.Second, to), second(limits, end-5*time.Second, end)
		t.Logf("at most %.1f at a time before, %.1f in the mean while half is refused, %.1f a minute later", mean(before), mean(during), mean(after))
		if mean(before) != 10 || mean(during) > 8 || mean(after) != 10 {
			t.Error("the concurrency does not adapt")
		}
		if file := os.Getenv("AKIGW_PLOT"); file != "" {
			if err := os.WriteFile(file, []byte(plot(limits, pending, from, to)), 0o644); err != nil {
				t.Error(err)
			}
		}
		r.close()
	})
}

func mean(values []float64) (sum float64) {
	for _, v := range values {
		sum += v / float64(len(values))
	}
	return sum
}

// plot draws samples of every half second, each on its own scale: how many uploads may run, and how
// many writes wait.
func plot(limits, pending []float64, from, to time.Duration) string {
	c := chart.New(len(limits), 30)
	most := 1.0
	for _, v := range pending {
		most = max(most, v)
	}
	start, stop := c.X(from.Seconds()*2), c.X(to.Seconds()*2)
	c.Add(`<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="#f6e3d6"/>`, start, chart.Top, stop-start, chart.Bottom-chart.Top)
	c.Text((start+stop)/2, chart.Bottom+32, "middle", "#884422", "the upstream refuses half of all requests")
	c.Line(pending, most, "#b0b0b0")
	c.Line(limits, 10, "#1f5fa8")
	c.Add(`<path d="M%.1f %.1f V%.1f H%.1f V%.1f" fill="none" stroke="#444444"/>`, chart.Left, chart.Top, chart.Bottom, chart.Right, chart.Top)
	for _, v := range []float64{0, 5, 10} {
		c.Text(chart.Left-6, c.Y(v/10)+4, "end", "#1f5fa8", fmt.Sprint(v))
		c.Text(chart.Right+6, c.Y(v/10)+4, "start", "#777777", fmt.Sprint(int(v/10*most)))
	}
	for s := 0; s <= len(limits)/2; s += 20 {
		c.Text(c.X(float64(2*s)), chart.Bottom+16, "middle", "#444444", fmt.Sprintf("%d s", s))
	}
	c.Text(chart.Left, chart.Top-10, "start", "#1f5fa8", "uploads that may run at a time")
	c.Text(chart.Right, chart.Top-10, "end", "#777777", "writes that wait")
	return c.String()
}

// TestRates: what was done in the last minute counts; anything older does not.
func TestRates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m meter
		for range 120 {
			m.add(600)
			m.add(0)
			time.Sleep(time.Second)
		}
		time.Sleep(30 * time.Second)
		if count, bytes := m.rates(); count < 0.9 || count > 1.1 || bytes < 270 || bytes > 330 {
			t.Errorf("%.2f a second, %.0f bytes", count, bytes)
		}
		time.Sleep(time.Minute)
		if count, bytes := m.rates(); count != 0 || bytes != 0 {
			t.Errorf("%.2f a second, %.0f bytes, a minute later", count, bytes)
		}
	})
}
