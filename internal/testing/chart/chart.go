// Package chart draws line charts of what tests measure, as SVG documents. It is for the figures of
// the documentation, and knows nothing of what they show.
package chart

import (
	"fmt"
	"strings"
)

// Left, Right, Top and Bottom are the edges of the area that lines are drawn in, in pixels.
const (
	Left, Right = 50.0, 750.0
	Top, Bottom = 30.0, 250.0
)

// Chart is a line chart. New makes one.
type Chart struct {
	samples, below float64
	content        strings.Builder
}

// New returns an empty chart whose lines have a number of samples. It is taller by below pixels than
// the labels of one axis need, for text at the bottom.
func New(samples int, below float64) *Chart {
	return &Chart{samples: float64(samples), below: below}
}

// X returns the position of a sample, in pixels.
func (c *Chart) X(sample float64) float64 { return Left + (Right-Left)*sample/c.samples }

// Y returns the position of a share of the height, from 0 at the bottom to 1 at the top, in pixels.
func (*Chart) Y(share float64) float64 { return Top + (Bottom-Top)*(1-share) }

// Line draws a line through values, of which full is as high as the drawing area.
func (c *Chart) Line(values []float64, full float64, color string) {
	var points []string
	for i, v := range values {
		points = append(points, fmt.Sprintf("%.1f,%.1f", c.X(float64(i)), c.Y(v/full)))
	}
	c.Add(`<polyline fill="none" stroke="%s" stroke-width="1.5" points="%s"/>`, color, strings.Join(points, " "))
}

// Text writes text at a position; anchor is start, middle or end.
func (c *Chart) Text(x, y float64, anchor, color, text string) {
	c.Add(`<text x="%.1f" y="%.1f" text-anchor="%s" fill="%s">%s</text>`, x, y, anchor, color, text)
}

// Add adds an SVG element.
func (c *Chart) Add(format string, args ...any) {
	fmt.Fprintf(&c.content, format+"\n", args...)
}

// String returns the document.
func (c *Chart) String() string {
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" width="%.0f" height="%.0f" font-family="sans-serif" font-size="12">`+"\n", Left+Right, Top+Bottom+c.below) +
		`<rect width="100%" height="100%" fill="white"/>` + "\n" + c.content.String() + "</svg>\n"
}
