// Package cost counts, by bucket, the requests of clients and the requests to the upstream. From the
// upstream's price list it computes what both cost, and thus how much the gateway saves.
package cost

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/akidb/akigw/internal/vfs"
)

// Config is the price list: [cost].
type Config struct {
	Currency  string  `toml:"currency" json:"currency" help:"currency of the upstream's prices"`
	Thousands float64 `toml:"per_1000_writes" json:"per_1000_writes" help:"price of 1,000 PUT, COPY, POST and LIST requests"`
	Reads     float64 `toml:"per_1000_reads" json:"per_1000_reads" help:"price of 1,000 GET, HEAD and other requests"`
	GiBOut    float64 `toml:"per_gib_out" json:"per_gib_out" help:"price of a GiB read from the upstream; 0 if the gateway is in the same region"`
}

// Default is the price list of AWS S3 Standard in us-east-1, with reads from outside AWS. For
// another service, configure its prices.
func Default() Config {
	return Config{Currency: "USD", Thousands: 0.005, Reads: 0.0004, GiBOut: 0.09}
}

// Check reports every impossible value by its key.
func (c *Config) Check(report func(key, problem string)) {
	if c.Currency == "" {
		report("currency", "must not be empty")
	}
	for key, price := range map[string]float64{"per_1000_writes": c.Thousands, "per_1000_reads": c.Reads, "per_gib_out": c.GiBOut} {
		if price < 0 || math.IsInf(price, 0) || math.IsNaN(price) {
			report(key, "must not be negative")
		}
	}
}

// Kind is the price class of a request.
type Kind int

// The kinds. S3 charges PUT, COPY, POST and LIST about ten times as much as the rest, and nothing
// for deletions.
const (
	Read Kind = iota
	Write
	Free
)

// KindOf returns the kind of an S3 request. key is true if the request names an object.
func KindOf(method string, key bool, query url.Values) Kind {
	switch method {
	case http.MethodGet:
		_, prefix := query["prefix"]
		_, version2 := query["list-type"]
		if !key && (len(query) == 0 || prefix || version2 || query.Has("versions") || query.Has("uploads") || query.Has("max-keys") || query.Has("delimiter")) || key && query.Has("uploadId") {
			return Write // a listing
		}
		return Read
	case http.MethodHead, http.MethodOptions:
		return Read
	case http.MethodDelete:
		return Free
	case http.MethodPost:
		if query.Has("delete") {
			return Free
		}
	}
	return Write
}

// Counts are numbers of requests and bytes.
type Counts struct {
	Reads  uint64 `json:"reads"`
	Writes uint64 `json:"writes"`
	Free   uint64 `json:"free"`
	// In and Out are the bytes of bodies that the sender of the requests sent and received.
	In  uint64 `json:"in_bytes"`
	Out uint64 `json:"out_bytes"`
}

// Requests returns the number of requests of all kinds.
func (c Counts) Requests() uint64 { return c.Reads + c.Writes + c.Free }

// Add adds other counts.
func (c *Counts) Add(o Counts) {
	c.Reads += o.Reads
	c.Writes += o.Writes
	c.Free += o.Free
	c.In += o.In
	c.Out += o.Out
}

// Price returns what requests and bytes cost, in the currency of the price list.
func (c *Config) Price(n Counts) float64 {
	return float64(n.Reads)/1000*c.Reads + float64(n.Writes)/1000*c.Thousands + float64(n.Out)/(1<<30)*c.GiBOut
}

// Ledger counts by bucket. The zero value is ready; all methods may be called from any
// goroutine.
type Ledger struct {
	buckets sync.Map // of names to *counter
	known   atomic.Int64
}

type counter struct{ kinds, bytes [3]atomic.Uint64 } // bytes: in, out

const (
	// mostBuckets bounds the number of buckets that are counted by name.
	mostBuckets = 10_000
	// Others is the name for requests without a bucket and for buckets beyond mostBuckets.
	Others = ""
)

func (l *Ledger) of(bucket string) *counter {
	if c, ok := l.buckets.Load(bucket); ok {
		return c.(*counter)
	}
	if l.known.Load() >= mostBuckets {
		bucket = Others
	}
	c, known := l.buckets.LoadOrStore(bucket, &counter{})
	if !known {
		l.known.Add(1)
	}
	return c.(*counter)
}

// Named returns the name under which a request is counted: the bucket's name if this request or an
// earlier one of the bucket succeeded, else Others. Otherwise invented bucket names of clients could
// displace real buckets.
func (l *Ledger) Named(bucket string, status int) string {
	if _, known := l.buckets.Load(bucket); known || status < http.StatusBadRequest {
		return bucket
	}
	return Others
}

// Count counts a request of a bucket, and the bytes of its bodies.
func (l *Ledger) Count(bucket string, kind Kind, in, out int64) {
	c := l.of(bucket)
	c.kinds[kind].Add(1)
	c.count(in, out)
}

func (c *counter) count(in, out int64) {
	if in > 0 {
		c.bytes[0].Add(uint64(in))
	}
	if out > 0 {
		c.bytes[1].Add(uint64(out))
	}
}

// Counts returns all counts by bucket.
func (l *Ledger) Counts() map[string]Counts {
	all := map[string]Counts{}
	for name, c := range l.buckets.Range {
		c := c.(*counter)
		all[name.(string)] = Counts{c.kinds[Read].Load(), c.kinds[Write].Load(), c.kinds[Free].Load(), c.bytes[0].Load(), c.bytes[1].Load()}
	}
	return all
}

// restore adds the counts of earlier epochs.
func (l *Ledger) restore(all map[string]Counts) {
	for name, n := range all {
		c := l.of(name)
		c.kinds[Read].Add(n.Reads)
		c.kinds[Write].Add(n.Writes)
		c.kinds[Free].Add(n.Free)
		c.bytes[0].Add(n.In)
		c.bytes[1].Add(n.Out)
	}
}

// Wrap counts the requests that pass a transport to an S3 service in path style.
func (l *Ledger) Wrap(next http.RoundTripper) http.RoundTripper { return &transport{l, next} }

type transport struct {
	ledger *Ledger
	next   http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	resp, err := t.next.RoundTrip(r)
	if err != nil {
		return nil, err // a request that got no response is not charged
	}
	bucket = t.ledger.Named(bucket, resp.StatusCode)
	t.ledger.Count(bucket, KindOf(r.Method, key != "", r.URL.Query()), r.ContentLength, 0)
	resp.Body = &countedBody{resp.Body, t.ledger.of(bucket)}
	return resp, nil
}

// countedBody counts the bytes that are read from a response.
type countedBody struct {
	io.ReadCloser
	counter *counter
}

// Read implements io.Reader.
func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.counter.count(0, int64(n))
	return n, err
}

// Book holds both ledgers and the prices. Its counts survive restarts.
type Book struct {
	Clients, Upstream Ledger

	prices Config
	path   string
	since  time.Time
	log    *slog.Logger
}

// stored is the content of the file.
type stored struct {
	Version  int               `json:"version"`
	Since    time.Time         `json:"since"`
	Clients  map[string]Counts `json:"clients"`
	Upstream map[string]Counts `json:"upstream"`
}

const (
	storedVersion = 1
	saveEvery     = time.Minute
)

// Open loads the counts from a file. If the file cannot be read, counting starts from zero.
func Open(prices Config, path string, log *slog.Logger) *Book {
	b := &Book{prices: prices, path: path, since: time.Now().UTC().Truncate(time.Second), log: log}
	raw, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return b
	}
	var s stored
	if err == nil {
		err = json.Unmarshal(raw, &s)
	}
	if err == nil && s.Version != storedVersion {
		err = fmt.Errorf("unknown format %d", s.Version)
	}
	if err != nil {
		log.Warn("the counts of the cost report cannot be read; counting starts from zero", "file", path, "error", err)
		return b
	}
	b.since = s.Since
	b.Clients.restore(s.Clients)
	b.Upstream.restore(s.Upstream)
	return b
}

// Run saves the counts regularly until ctx ends, and then once more.
func (b *Book) Run(ctx context.Context) error {
	ticker := time.NewTicker(saveEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			b.save()
		case <-ctx.Done():
			b.save()
			return nil
		}
	}
}

func (b *Book) save() {
	raw, err := json.Marshal(stored{storedVersion, b.since, b.Clients.Counts(), b.Upstream.Counts()})
	if err == nil {
		err = vfs.Replace(vfs.Disk{}, b.path, raw)
	}
	if err != nil {
		b.log.Warn("the counts of the cost report could not be saved", "file", b.path, "error", err)
	}
}

// Line is the report for one bucket, or the total.
type Line struct {
	Bucket string `json:"bucket"`
	// Clients counts the requests of clients, Upstream those of the gateway to the upstream.
	Clients  Counts `json:"clients"`
	Upstream Counts `json:"upstream"`
	// Without is what the clients' requests would have cost at the upstream. With is what the
	// gateway's requests cost. Saved is the difference.
	Without float64 `json:"without"`
	With    float64 `json:"with"`
	Saved   float64 `json:"saved"`
}

// Report lists requests, costs and savings by bucket.
type Report struct {
	Since   time.Time `json:"since"`
	Prices  Config    `json:"prices"`
	Total   Line      `json:"total"`
	Buckets []Line    `json:"buckets"` // largest saving first
}

// Report computes the report for all buckets.
func (b *Book) Report() Report {
	r := Report{Since: b.since, Prices: b.prices, Buckets: []Line{}}
	lines := map[string]*Line{}
	line := func(name string) *Line {
		if lines[name] == nil {
			lines[name] = &Line{Bucket: name}
		}
		return lines[name]
	}
	for name, n := range b.Clients.Counts() {
		line(name).Clients = n
	}
	for name, n := range b.Upstream.Counts() {
		line(name).Upstream = n
	}
	price := func(l *Line) {
		l.Without, l.With = b.prices.Price(l.Clients), b.prices.Price(l.Upstream)
		l.Saved = l.Without - l.With
	}
	for _, l := range lines {
		price(l)
		r.Total.Clients.Add(l.Clients)
		r.Total.Upstream.Add(l.Upstream)
		r.Buckets = append(r.Buckets, *l)
	}
	price(&r.Total)
	slices.SortFunc(r.Buckets, func(a, b Line) int {
		if a.Saved != b.Saved {
			return map[bool]int{true: -1, false: 1}[a.Saved > b.Saved]
		}
		return strings.Compare(a.Bucket, b.Bucket)
	})
	return r
}
