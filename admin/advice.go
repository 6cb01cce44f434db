package admin

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/advise"
	"github.com/akidb/akigw/cost"
)

// advice answers with proposals for the configuration. With seconds, it records the accesses for that
// long first; nothing is stored.
func (s *Server) advice(w http.ResponseWriter, r *http.Request) {
	seconds := 0.0
	if text := r.URL.Query().Get("seconds"); text != "" {
		var err error
		if seconds, err = strconv.ParseFloat(text, 64); err != nil || !(seconds >= 0 && seconds <= mostTraceSeconds) {
			http.Error(w, "seconds must be a number up to "+strconv.Itoa(mostTraceSeconds), http.StatusBadRequest)
			return
		}
	}
	if seconds == 0 {
		writeJSON(w, advise.New(s.facts(nil), nil))
		return
	}
	seen, err := s.observe(r.Context(), time.Duration(seconds*float64(time.Second)))
	if err != nil {
		answer(w, err) // a client that has disconnected does not see it
		return
	}
	writeJSON(w, advise.New(s.facts(seen.Buckets()), seen))
}

// observe records the accesses to the tiers for a time. It returns the error of ctx if that ends
// before.
func (s *Server) observe(ctx context.Context, d time.Duration) (*advise.Observed, error) {
	recording, err := s.Traces.Start(false)
	if err != nil {
		return nil, err
	}
	defer recording.Close()
	end := time.NewTimer(d)
	defer end.Stop()
	seen := advise.NewObservation()
	for {
		select {
		case a := <-recording.Accesses():
			seen.Add(&a)
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-end.C:
			for n := len(recording.Accesses()); n > 0; n-- {
				a := <-recording.Accesses()
				seen.Add(&a)
			}
			return seen.End(recording.Lost()), nil
		}
	}
}

// facts returns what the gateway has measured, about the given buckets among others.
func (s *Server) facts(buckets []string) advise.Facts {
	usage, now := s.Store.Usage(), s.countedNow()
	f := advise.Facts{
		Memory: now.tier("hot", usage.HotQuota, usage.HotBytes), Disk: now.tier("warm", usage.WarmQuota, usage.WarmBytes),
		Reads: map[string]int64{}, Latency: map[string]advise.Latency{}, Prices: cost.Default(),
	}
	for _, o := range []akigw.Outcome{akigw.Hot, akigw.Warm, akigw.Cold, akigw.Overlay, akigw.Stale} {
		f.Reads[string(o)] = int64(now.values[fmt.Sprintf("akigw_tiers_reads_total{outcome=%q}", string(o))])
		f.Latency[string(o)] = now.mean("akigw_gateway_get_seconds", "outcome", string(o))
	}
	for _, commit := range []string{"journal", "upstream"} {
		f.Latency[commit] = now.mean("akigw_gateway_put_seconds", "commit", commit)
	}
	validated := map[string]advise.Validated{}
	if s.Validations != nil {
		f.Since, validated = s.Validations.Since, s.Validations.Counts()
	}
	if s.Costs != nil {
		report := s.Costs.Report()
		f.Prices = report.Prices
		for _, line := range report.Buckets {
			buckets = append(buckets, line.Bucket)
		}
	}
	for name := range validated {
		buckets = append(buckets, name)
	}
	slices.Sort(buckets)
	for _, name := range slices.Compact(buckets) {
		if name != cost.Others {
			f.Buckets = append(f.Buckets, s.measuredOf(name, validated[name]))
		}
	}
	return f
}

// measuredOf returns the settings of a bucket for keys that no rule names, and its validations.
func (s *Server) measuredOf(bucket string, validated advise.Validated) advise.Measured {
	m := advise.Measured{Bucket: bucket, Validated: validated}
	if s.Rules == nil {
		return m
	}
	for _, e := range s.Rules.Explain(bucket, "") {
		switch value := strings.Trim(e.Value, `"`); e.Field {
		case "freshness":
			m.Freshness = value
		case "ttl_secs":
			m.TTLSecs, _ = strconv.ParseInt(value, 10, 64) // it is a number
		case "write":
			m.Write = value
		case "pack_bytes":
			m.Packs = value != "0"
		case "shadow":
			m.Shadow = value != "off"
		}
	}
	return m
}

// tier returns the counters of a tier.
func (c counted) tier(name string, quota, used int64) advise.Tier {
	value := func(what string) int64 {
		return int64(c.values[fmt.Sprintf("akigw_tiers_lookups%s_total{tier=%q}", what, name)])
	}
	return advise.Tier{Quota: quota, Used: used, Lookups: value(""), Missed: value("_missed"), MissedAtDouble: value("_missed_at_double_size")}
}

// mean returns the mean of a histogram of seconds with a label.
func (c counted) mean(family, label, value string) advise.Latency {
	labels := fmt.Sprintf("{%s=%q}", label, value)
	n := c.values[family+"_count"+labels]
	return advise.Latency{Requests: int64(n), Mean: 1000 * c.values[family+"_sum"+labels] / max(n, 1)}
}
