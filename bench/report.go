package bench

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"maps"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
)

// Report is the result of a run. "akigw bench" writes its JSON form.
type Report struct {
	Kind     string    `json:"kind"` // load, load-vectors, get, put, mixed, upload
	Endpoint string    `json:"endpoint"`
	Began    time.Time `json:"began"`
	Seconds  float64   `json:"seconds"`
	Cores    int       `json:"cores"` // of the measuring machine
	Version  string    `json:"version,omitempty"`
	Seed     uint64    `json:"seed,omitempty"`
	Config   any       `json:"config"`

	Requests  int64              `json:"requests"`
	Errors    int64              `json:"errors"`
	ErrorRate float64            `json:"error_rate"`
	Wrong     int64              `json:"wrong_answers"` // among the errors
	PerSec    float64            `json:"requests_per_sec"`
	All       Latency            `json:"all"`
	Ops       map[string]Latency `json:"operations"`
	Tiers     map[string]Latency `json:"tiers,omitempty"` // reads by the tier that served them; moves from or to cold count as cold
	Warmer    *Latency           `json:"all_but_cold,omitempty"`
	Codes     map[string]int64   `json:"errors_by_code,omitempty"`
	Problems  []string           `json:"problems,omitempty"`
	Samples   []Sample           `json:"samples"`
	Server    *ServerSummary     `json:"server,omitempty"`
}

// ServerSummary summarises the resource usage of the server's process over a run.
type ServerSummary struct {
	CPUPercent    float64 `json:"cpu_percent"`        // of one core
	CPUMachine    float64 `json:"cpu_of_machine"`     // of all cores, percent
	CPUPerRequest float64 `json:"cpu_us_per_request"` // microseconds
	RSSMost       int64   `json:"rss_most_bytes"`
	FDsMost       int64   `json:"fds_most"`
	GCPauseShare  float64 `json:"gc_pause_share"` // share of the run's duration
	// The means over the second and the last third of the run; nil if the run is shorter than two
	// minutes. Growth between them may be a leak.
	SecondThird *Process `json:"second_third,omitempty"`
	LastThird   *Process `json:"last_third,omitempty"`
	// Inserted is how many bytes of new vectors were acknowledged between the middles of these thirds.
	Inserted int64 `json:"inserted_bytes,omitempty"`
	// Growth is by which share of the second third's anonymous memory it grew until the last, without
	// Inserted. It is 0 if no vectors were inserted.
	Growth float64 `json:"growth_without_inserted,omitempty"`
}

func newReport(kind, endpoint string, config any) *Report {
	return &Report{Kind: kind, Endpoint: endpoint, Began: time.Now().UTC().Truncate(time.Second), Cores: runtime.NumCPU(), Config: config}
}

// fill adds the counts to the report.
func (r *Report) fill(m *meter, samples []Sample) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r.Seconds = time.Since(m.began).Seconds()
	r.All, r.Ops, r.Tiers, r.Problems, r.Wrong = m.all.latency(), latencies(m.ops), latencies(m.tiers), m.problems, m.wrong
	r.Codes = m.codes
	if r.Tiers["cold"].Requests > 0 {
		warmer := m.warmer.latency()
		r.Warmer = &warmer
	}
	r.Requests, r.Errors = r.All.Requests, r.All.Errors
	r.ErrorRate, r.PerSec = float64(r.Errors)/float64(max(r.Requests, 1)), float64(r.Requests)/r.Seconds
	r.Samples = samples
	r.summarize()
}

func (r *Report) summarize() {
	var known []Sample
	for _, s := range r.Samples {
		if s.Server != nil {
			known = append(known, s)
		}
	}
	if len(known) < 2 {
		return
	}
	first, last := known[0], known[len(known)-1]
	spent, lasted := last.Server.CPUSecs-first.Server.CPUSecs, last.At-first.At
	var requests int64
	for _, s := range known[1:] {
		requests += s.Requests
	}
	sum := &ServerSummary{CPUPercent: 100 * spent / lasted, CPUMachine: 100 * spent / lasted / float64(r.Cores), CPUPerRequest: 1e6 * spent / float64(max(requests, 1)), GCPauseShare: (last.Server.GCPause - first.Server.GCPause) / lasted}
	for _, s := range known {
		sum.RSSMost, sum.FDsMost = max(sum.RSSMost, s.Server.RSS), max(sum.FDsMost, s.Server.FDs)
	}
	if third := len(known) / 3; r.Seconds >= leastTrend {
		sum.SecondThird, sum.LastThird = average(known[third:2*third]), average(known[2*third:])
		if sum.Inserted = insertedMean(known[2*third:]) - insertedMean(known[third:2*third]); sum.Inserted > 0 {
			sum.Growth = float64(sum.LastThird.Anonymous-sum.SecondThird.Anonymous-sum.Inserted) / float64(max(sum.SecondThird.Anonymous, 1))
		}
	}
	r.Server = sum
}

// leastTrend is the minimum duration, in seconds, of a run whose thirds are meaningful.
const leastTrend = 120

// average averages the gauges of at least one sample.
func average(samples []Sample) *Process {
	var m Process
	for _, s := range samples {
		p := s.Server
		m.RSS, m.Anonymous, m.Heap, m.HotTier = m.RSS+p.RSS, m.Anonymous+p.Anonymous, m.Heap+p.Heap, m.HotTier+p.HotTier
		m.FDs, m.Goroutines = m.FDs+p.FDs, m.Goroutines+p.Goroutines
	}
	for _, v := range []*int64{&m.RSS, &m.Anonymous, &m.Heap, &m.HotTier, &m.FDs, &m.Goroutines} {
		*v /= int64(len(samples))
	}
	return &m
}

// insertedMean returns the mean of the inserted bytes of at least one sample.
func insertedMean(samples []Sample) (sum int64) {
	for _, s := range samples {
		sum += s.Inserted
	}
	return sum / int64(len(samples))
}

// watch takes a sample at each interval and passes it to seen. The returned function stops that and
// returns all samples.
func watch(ctx context.Context, m *meter, server Watched, every time.Duration, seen func(*Sample)) func() []Sample {
	ctx, cancel := context.WithCancel(ctx)
	var all []Sample
	var work sync.WaitGroup
	take := func() {
		s := m.sample()
		if server != nil {
			s.Server, _ = server.Sample(context.WithoutCancel(ctx)) // without a sample the usage stays unknown
		}
		all = append(all, s)
		seen(&s)
	}
	work.Go(func() {
		ticks := time.NewTicker(every)
		defer ticks.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticks.C:
				take()
			}
		}
	})
	return func() []Sample {
		cancel()
		work.Wait()
		if m.since() > every/2 { // a shorter interval is not worth a point
			take()
		}
		return all
	}
}

// WriteText prints the report for people.
func (r *Report) WriteText(w io.Writer) error {
	fmt.Fprintf(w, "%s of %s: %d requests in %.0f s, %.1f per second; %d errors (%.3f%%), %d wrong responses\n\n", r.Kind, r.Endpoint, r.Requests, r.Seconds, r.PerSec, r.Errors, 100*r.ErrorRate, r.Wrong)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "\trequests\terrors\tmean ms\tP50\tP95\tP99\tP99.9\tmax\t")
	row := func(name string, l Latency) {
		fmt.Fprintf(table, "%s\t%d\t%d\t%.2f\t%.2f\t%.2f\t%.2f\t%.2f\t%.2f\t\n", name, l.Requests, l.Errors, l.Mean, l.P50, l.P95, l.P99, l.P999, l.Max)
	}
	row("all", r.All)
	if r.Warmer != nil {
		row("all but cold", *r.Warmer)
	}
	for _, name := range slices.Sorted(maps.Keys(r.Ops)) {
		row(name, r.Ops[name])
	}
	for _, name := range slices.Sorted(maps.Keys(r.Tiers)) {
		row("from "+name, r.Tiers[name])
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if s := r.Server; s != nil {
		fmt.Fprintf(w, "\nserver: %.0f%% of a core (%.0f%% of the machine), %.0f us of CPU per request, at most %.0f MiB resident and %d files\n", s.CPUPercent, s.CPUMachine, s.CPUPerRequest, float64(s.RSSMost)/(1<<20), s.FDsMost)
		if then, now := s.SecondThird, s.LastThird; then != nil {
			fmt.Fprintf(w, "from the second to the last third of the run: %d to %d MiB resident, %d to %d MiB anonymous (the memory tier %d to %d), %d to %d goroutines, %d to %d files\n",
				then.RSS>>20, now.RSS>>20, then.Anonymous>>20, now.Anonymous>>20, then.HotTier>>20, now.HotTier>>20, then.Goroutines, now.Goroutines, then.FDs, now.FDs)
			if s.Inserted > 0 {
				fmt.Fprintf(w, "new vectors between them: %.1f MiB; without these, anonymous memory grew by %.1f%%\n", float64(s.Inserted)/(1<<20), 100*s.Growth)
			}
		}
	}
	for _, code := range slices.Sorted(maps.Keys(r.Codes)) {
		fmt.Fprintf(w, "  %d errors: %s\n", r.Codes[code], code)
	}
	for _, p := range r.Problems {
		fmt.Fprintln(w, "  "+p)
	}
	return nil
}

// WriteJSON writes the report as JSON.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

//go:embed report.html
var page string

func pageTemplate() *template.Template {
	return template.Must(template.New("report").Funcs(template.FuncMap{
		"ms":      func(v float64) string { return fmt.Sprintf("%.2f", v) },
		"percent": func(v float64) string { return fmt.Sprintf("%.3f", 100*v) },
		"whole":   func(v float64) string { return fmt.Sprintf("%.0f", v) },
		"mib":     func(v int64) string { return fmt.Sprintf("%.0f", float64(v)/(1<<20)) },
		"pretty": func(v any) string {
			raw, _ := json.MarshalIndent(v, "", "  ") // plain data
			return strings.Trim(strings.ReplaceAll(string(raw), "\"", ""), "{}\n")
		},
	}).Parse(page))
}

// WriteHTML writes the report as one self-contained page with plots.
func (r *Report) WriteHTML(w io.Writer) error {
	return pageTemplate().Execute(w, struct {
		*Report
		Charts []chart
	}{r, r.charts()})
}

// chart is a plot over time.
type chart struct {
	Title string  `json:"title"`
	Unit  string  `json:"unit"`
	Lines []line  `json:"lines"`
	Log   bool    `json:"log"`
	Ideal float64 `json:"ideal,omitempty"` // a horizontal line
}

type line struct {
	Name   string    `json:"name"`
	Values []float64 `json:"values"`
}

// charts returns the charts that have data.
func (r *Report) charts() []chart {
	of := func(value func(s *Sample) float64) []float64 {
		all := make([]float64, len(r.Samples))
		for i := range r.Samples {
			all[i] = math.Round(value(&r.Samples[i])*1000) / 1000
		}
		return all
	}
	server := func(value func(p *Process) float64) []float64 {
		return of(func(s *Sample) float64 {
			if s.Server == nil {
				return 0
			}
			return value(s.Server)
		})
	}
	charts := []chart{
		{Title: "Latency", Unit: "ms", Log: true, Lines: []line{{"P50", of(func(s *Sample) float64 { return s.P50 })}, {"P95", of(func(s *Sample) float64 { return s.P95 })}, {"P99", of(func(s *Sample) float64 { return s.P99 })}}},
		{Title: "Requests", Unit: "per second", Lines: []line{{"completed", of(func(s *Sample) float64 { return s.PerSec })}, {"errors", of(func(s *Sample) float64 { return float64(s.Errors) })}}},
		{Title: "Outstanding requests", Unit: "", Lines: []line{{"outstanding", of(func(s *Sample) float64 { return float64(s.Outstanding) })}}},
	}
	var tiers []line
	for _, name := range slices.Sorted(maps.Keys(r.Tiers)) {
		tiers = append(tiers, line{name, of(func(s *Sample) float64 {
			total := int64(0)
			for _, n := range s.Tiers {
				total += n
			}
			return 100 * float64(s.Tiers[name]) / float64(max(total, 1))
		})})
	}
	if tiers != nil {
		charts = append(charts, chart{Title: "Reads by tier", Unit: "%", Lines: tiers})
	}
	if r.Server == nil {
		return charts
	}
	cpu := make([]float64, len(r.Samples))
	for i := 1; i < len(cpu); i++ {
		if a, b := r.Samples[i-1], r.Samples[i]; a.Server != nil && b.Server != nil {
			cpu[i] = math.Round(1000*(b.Server.CPUSecs-a.Server.CPUSecs)/(b.At-a.At)) / 10
		}
	}
	if len(cpu) > 1 {
		cpu[0] = cpu[1] // there is no earlier sample
	}
	const mib = 1 << 20
	return append(charts,
		chart{Title: "Memory of the server", Unit: "MiB", Lines: []line{{"resident", server(func(p *Process) float64 { return float64(p.RSS) / mib })}, {"anonymous", server(func(p *Process) float64 { return float64(p.Anonymous) / mib })}, {"heap in use", server(func(p *Process) float64 { return float64(p.Heap) / mib })}, {"memory tier", server(func(p *Process) float64 { return float64(p.HotTier) / mib })}}},
		chart{Title: "CPU of the server", Unit: "% of a core", Lines: []line{{"CPU", cpu}}},
		chart{Title: "Goroutines and open files", Unit: "", Lines: []line{{"goroutines", server(func(p *Process) float64 { return float64(p.Goroutines) })}, {"files", server(func(p *Process) float64 { return float64(p.FDs) })}}},
		chart{Title: "Upload pool", Unit: "", Lines: []line{{"parallel uploads", server(func(p *Process) float64 { return p.Uploading })}, {"limit", server(func(p *Process) float64 { return p.UploadLimit })}, {"pending writes", server(func(p *Process) float64 { return p.Pending })}}},
	)
}
