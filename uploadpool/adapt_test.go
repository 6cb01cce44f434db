package uploadpool

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

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
	const width, height, left, top = 700.0, 220.0, 50.0, 30.0
	most := 1.0
	for _, v := range pending {
		most = max(most, v)
	}
	x := func(at float64) float64 { return left + width*at/float64(len(limits)) }
	line := func(values []float64, scale float64, color string) string {
		var points []string
		for i, v := range values {
			points = append(points, fmt.Sprintf("%.1f,%.1f", x(float64(i)), top+height*(1-v/scale)))
		}
		return fmt.Sprintf(`<polyline fill="none" stroke="%s" stroke-width="1.5" points="%s"/>`+"\n", color, strings.Join(points, " "))
	}
	var b strings.Builder
	text := func(at, y float64, anchor, color, s string) {
		fmt.Fprintf(&b, `<text x="%.1f" y="%.1f" text-anchor="%s" fill="%s">%s</text>`+"\n", at, y, anchor, color, s)
	}
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%.0f" height="%.0f" font-family="sans-serif" font-size="12">`+"\n", width+2*left, height+2*top+30)
	b.WriteString(`<rect width="100%" height="100%" fill="white"/>` + "\n")
	start, stop := x(from.Seconds()*2), x(to.Seconds()*2)
	fmt.Fprintf(&b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="#f6e3d6"/>`+"\n", start, top, stop-start, height)
	text((start+stop)/2, top+height+32, "middle", "#884422", "the upstream refuses half of all requests")
	b.WriteString(line(pending, most, "#b0b0b0") + line(limits, 10, "#1f5fa8"))
	fmt.Fprintf(&b, `<path d="M%.1f %.1f V%.1f H%.1f V%.1f" fill="none" stroke="#444444"/>`+"\n", left, top, top+height, left+width, top)
	for _, v := range []float64{0, 5, 10} {
		text(left-6, top+height*(1-v/10)+4, "end", "#1f5fa8", fmt.Sprint(v))
		text(left+width+6, top+height*(1-v/10)+4, "start", "#777777", fmt.Sprint(int(v/10*most)))
	}
	for s := 0; s <= len(limits)/2; s += 20 {
		text(x(float64(2*s)), top+height+16, "middle", "#444444", fmt.Sprintf("%d s", s))
	}
	text(left, top-10, "start", "#1f5fa8", "uploads that may run at a time")
	text(left+width, top-10, "end", "#777777", "writes that wait")
	b.WriteString("</svg>\n")
	return b.String()
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
