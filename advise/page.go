package advise

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"math"
	"strings"

	"github.com/akidb/akigw/internal/size"
)

//go:embed page.html
var page string

// WriteHTML writes the report as one page with plots, which needs no network and no scripts.
func (r *Report) WriteHTML(w io.Writer) error {
	t, err := template.New("advice").Funcs(template.FuncMap{"bytes": size.Human, "sentence": r.sentence, "then": r.then}).Parse(page)
	if err != nil {
		return err
	}
	return t.Execute(w, struct {
		*Report
		About string
		Plots []plot
	}{r, r.about(), r.plots()})
}

// plot is a line chart over the size of a tier.
type plot struct {
	Title  string
	Lines  []plotLine
	Across []mark // of the y axis
	Along  []mark // of the x axis, where lines do not reach
	Knees  []mark // the proposed sizes
}

// plotLine is a line of a plot.
type plotLine struct{ Name, Class, Points string }

// mark is a labelled position in pixels.
type mark struct {
	At   float64
	Text string
}

// The area of a plot that lines are drawn in, in pixels, as in page.html.
const (
	plotLeft, plotRight = 70., 505.
	plotTop, plotBottom = 12., 190.
)

// plots returns the plots of the curves, none without curves.
func (r *Report) plots() []plot {
	if len(r.Memory) == 0 {
		return nil
	}
	missed := func(p Point) float64 { return 100 * (1 - p.HitRatio) }
	saved := func(p Point) float64 { return p.Saved }
	return []plot{
		r.plot("Reads that miss, %", 100, missed),
		r.plot("Saved in 30 days, "+r.Facts.Prices.Currency, r.highest(saved), saved),
	}
}

// highest returns the highest value of both curves, at least a little.
func (r *Report) highest(value func(Point) float64) float64 {
	high := 1e-6
	for _, p := range append(append([]Point(nil), r.Memory...), r.Disk...) {
		high = max(high, value(p))
	}
	return high
}

// plot draws a value of both curves over the logarithm of the size.
func (r *Report) plot(title string, high float64, value func(Point) float64) plot {
	least, most := r.Memory[0].Bytes, r.Memory[len(r.Memory)-1].Bytes
	if n := len(r.Disk); n > 0 {
		least, most = min(least, r.Disk[0].Bytes), max(most, r.Disk[n-1].Bytes)
	}
	steps := max(math.Log2(float64(most)/float64(least)), 1)
	x := func(bytes int64) float64 {
		return plotLeft + (plotRight-plotLeft)*min(max(math.Log2(float64(bytes)/float64(least))/steps, 0), 1)
	}
	y := func(v float64) float64 { return plotBottom - (plotBottom-plotTop)*min(max(v/high, 0), 1) }
	p := plot{Title: title, Lines: []plotLine{{"memory alone", "hot", points(r.Memory, x, y, value)}}}
	if len(r.Disk) > 0 {
		p.Lines = append(p.Lines, plotLine{"disk, below the proposed memory", "warm", points(r.Disk, x, y, value)})
	}
	for i := range 5 {
		v := high * float64(i) / 4
		p.Across = append(p.Across, mark{y(v), figure(v)})
	}
	for bytes, every := least, max(1, int(math.Ceil(steps/5))); bytes <= most; bytes <<= every {
		p.Along = append(p.Along, mark{x(bytes), size.Human(bytes)})
	}
	if r.Sizes != nil {
		p.Knees = append(p.Knees, mark{x(r.Sizes.Memory), "memory"})
		if len(r.Disk) > 0 {
			p.Knees = append(p.Knees, mark{x(r.Sizes.Disk), "disk"})
		}
	}
	return p
}

// figure formats a value of an axis with about three digits.
func figure(v float64) string {
	if v >= 100 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.3g", v)
}

// points are the points of an SVG polyline.
func points(curve []Point, x func(int64) float64, y func(float64) float64, value func(Point) float64) string {
	var all []string
	for _, p := range curve {
		all = append(all, fmt.Sprintf("%.1f,%.1f", x(p.Bytes), y(value(p))))
	}
	return strings.Join(all, " ")
}
