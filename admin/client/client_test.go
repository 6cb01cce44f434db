package client

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/admin"
	"github.com/akidb/akigw/cost"
	"github.com/akidb/akigw/faults"
	"github.com/akidb/akigw/internal/logtail"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/internal/testing/storekit"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/placement"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/sigv4"
	"github.com/akidb/akigw/snapshot"
	"github.com/akidb/akigw/tiers"
	"github.com/akidb/akigw/uploadpool"
	"github.com/akidb/akigw/writeback"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, testkit.BadgerLeaks()...) }

// catalog is the catalog of a gateway as package snapshot reads it.
type catalog struct{ *placement.Catalog }

func (c catalog) Entries(ctx context.Context, yield func(*akigw.CatalogEntry) bool) error {
	return c.Each(ctx, akigw.Pattern{}, yield)
}

var key = Key{"operator", "secret-of-the-operator"}

// gateway returns an admin listener, whose upstream has one object, bucket/dir/key, and a client.
func gateway(t *testing.T, change func(*Options)) *Client {
	t.Helper()
	log := slog.New(slog.NewJSONHandler(io.Discard, nil))
	tail := logtail.New(io.Discard)
	slog.New(slog.NewJSONHandler(tail, nil)).Info("a record")
	up := s3mem.New()
	up.Put(akigw.Key{Bucket: "bucket", Name: "dir/key"}, []byte("body"))
	book := rules.NewSet(nil, rules.Settings{Freshness: rules.Exclusive, Memory: true, Disk: true, Block: 64 << 10})
	dir := t.TempDir()
	accesses, pins := placement.NewAccesses(), placement.OpenPins(filepath.Join(dir, "tiers"), log)
	kit, err := storekit.Open(storekit.Options{
		Cache:    tiers.Config{HotBytes: 1 << 20, WarmBytes: 64 << 20, BlockBytes: 64 << 10, SmallBytes: 4 << 10, MD5ETags: true, FillBytes: 16 << 20},
		Back:     writeback.Config{Dir: filepath.Join(dir, "journal"), MaxPendingBytes: 1 << 30, MaxPending: 1000, MaxPendingSecs: 3600, InlineBytes: 16 << 10, SegmentBytes: 1 << 20, SyncTimeoutSecs: 10},
		Parallel: uploadpool.ParallelConfig{Enabled: true, Concurrency: 2, MaxRetries: 1, BackoffBaseMs: 1, MaxAgeSecs: 3600},
		Batch:    uploadpool.BatchConfig{BatchSize: 1},
		WarmDir:  filepath.Join(dir, "warm"), Rules: book, Upstream: up, Pins: pins, Observers: []tiers.Observer{accesses}, Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kit.Close() })
	place := placement.New(placement.Options{Dir: filepath.Join(dir, "tiers"), Store: kit.Store, Pins: pins, Accesses: accesses, Rules: book, Upstream: up, Writes: kit.Writes, Log: log})
	snapshots := snapshot.Open(snapshot.Options{Config: snapshot.Config{MaxBytes: 1 << 30}, Dir: filepath.Join(dir, "snapshots"), Gateway: "gw-test", Catalog: catalog{place.Catalog}, Log: log})
	audit := admin.OpenAudit(filepath.Join(dir, "audit.jsonl"))
	t.Cleanup(func() { audit.Close() })
	handler := admin.New(admin.Options{
		Config: admin.Config{Listen: "127.0.0.1:9001"}, Store: kit.Store, Writes: kit.Writes, Placement: place, Snapshots: snapshots, Rules: book,
		Costs: cost.Open(cost.Default(), filepath.Join(dir, "cost.json"), log), Logs: tail, Audit: audit, Faults: &faults.Layer{},
		Keys: sigv4.StaticKeys{key.AccessKey: key.SecretKey}, Region: "us-east-1", Version: "test", Log: log,
	})
	server := httptest.NewUnstartedServer(nil)
	server.Config = admin.HTTP(handler, log)
	server.Start()
	t.Cleanup(server.Close)
	o := Options{Address: server.Listener.Addr().String(), Key: func() (Key, error) { return key, nil }, HTTP: server.Client()}
	if change != nil {
		change(&o)
	}
	return New(o)
}

// TestMethods calls each method with the real handler.
func TestMethods(t *testing.T) {
	c, ctx := gateway(t, nil), t.Context()
	all, one := Objects{Bucket: "bucket"}, Objects{"bucket", "dir/key", true}
	check := func(what string, ok bool, err error) {
		t.Helper()
		if !ok || err != nil {
			t.Errorf("%s: %t, %v", what, ok, err)
		}
	}
	var progress placement.PrefetchProgress
	err := c.Warm(ctx, Prefetch{Objects: all, Tier: "hot", Rate: 1 << 20}, func(p placement.PrefetchProgress) { progress = p })
	check("Warm", progress.Done && progress.Fetched == 1, err)
	status, err := c.Status(ctx)
	check("Status", status.Version == "test" && status.HotBytes > 0, err)
	state, err := c.State(ctx, all)
	check("State", state.Objects == 1 && state.Bytes == 4, err)
	object, err := c.Object(ctx, "bucket", "dir/key")
	check("Object", object.Size == 4, err)
	listed, err := c.List(ctx, all, 5)
	check("List", len(listed) == 1 && listed[0].Key == "dir/key", err)
	prefixes, err := c.Prefixes(ctx, "bucket", "")
	check("Prefixes", len(prefixes) == 1 && prefixes[0].Prefix == "dir/", err)
	prefixes, err = c.Prefixes(ctx, "", "")
	check("Prefixes of all", len(prefixes) == 1 && prefixes[0].Bucket == "bucket", err)
	moved, err := c.Move(ctx, placement.PinObjects, one, "warm")
	check("Move", moved.Moved+moved.Already == 1, err)
	pins, err := c.Pins(ctx)
	check("Pins", len(pins) == 1 && pins[0].Exactly && pins[0].Prefix == "dir/key", err)
	full, err := c.TierMetrics(ctx)
	check("TierMetrics", full.Pins == 1, err)
	settings, err := c.Explain(ctx, "bucket", "dir/key")
	check("Explain", len(settings) > 5, err)
	costs, err := c.Cost(ctx)
	check("Cost", costs.Prices.Currency == "USD", err)

	first, err := c.CreateSnapshot(ctx)
	check("CreateSnapshot", first.ID != "", err)
	moved, err = c.Move(ctx, placement.UnpinObjects, one, "")
	check("Move, unpin", moved.Moved == 1, err)
	purged, err := c.Purge(ctx, all)
	check("Purge", purged == 1, err)
	second, err := c.CreateSnapshot(ctx)
	check("CreateSnapshot again", second.ID > first.ID, err)
	snapshots, err := c.Snapshots(ctx)
	check("Snapshots", len(snapshots) == 2, err)
	details, err := c.Snapshot(ctx, snapshot.Latest)
	check("Snapshot", details.ID == second.ID && details.Gateway == "gw-test", err)
	diff, err := c.DiffSnapshots(ctx, first.ID, second.ID)
	check("DiffSnapshots", diff != nil, err)
	var changes []snapshot.Change
	err = ReadChanges(diff, func(c snapshot.Change) { changes = append(changes, c) })
	check("ReadChanges", len(changes) == 1 && changes[0].Key == "dir/key", errors.Join(err, diff.Close()))
	check("DeleteSnapshot", true, c.DeleteSnapshot(ctx, first.ID, false))
	check("DeleteSnapshot, the last", true, c.DeleteSnapshot(ctx, second.ID, true))

	report, err := c.SetFaults(ctx, []byte(`{"fault": [{"effect": "slow_sync", "latency_ms": 1}]}`))
	check("SetFaults", report != nil && len(report.Faults) == 1, err)
	report, err = c.SetFaultPreset(ctx, "slowdown")
	check("SetFaultPreset", report != nil && report.Faults[0].Effect == faults.SlowDown, err)
	report, err = c.Faults(ctx)
	check("Faults", report != nil, err)
	check("ClearFaults", true, c.ClearFaults(ctx))
	report, err = c.Faults(ctx)
	check("Faults, none", report == nil, err)

	letters, err := c.DeadLetters(ctx)
	check("DeadLetters", len(letters) == 0, err)
	for what, do := range map[string]func(context.Context, uint64) error{"retry": c.RetryDeadLetter, "drop": c.DropDeadLetter, "export": func(ctx context.Context, id uint64) error { _, err := c.ExportDeadLetter(ctx, id); return err }} {
		err := do(ctx, 7)
		check(what, err != nil && err.Error() == writeback.ErrNoDeadLetter.Error(), nil)
	}
	_, err = c.ArchiveDeadLetters(ctx, "bucket", "archive")
	check("ArchiveDeadLetters", true, ignore(err, "no such dead letter"))
	unpacked, err := c.Unpack(ctx, "bucket")
	check("Unpack", unpacked == 0, err)
	check("ResumeUploads", true, ignore(c.ResumeUploads(ctx, "bucket", true), "nothing"))
	check("AcceptDamage", true, ignore(c.AcceptDamage(ctx), "damage"))

	raw, err := c.Profile(ctx, "goroutine", 0)
	check("Profile", len(raw) > 100, err)
	compared, err := c.Compared(ctx)
	check("Compared", !compared.Since.IsZero(), err)
	audited, err := c.Audit(ctx, 100)
	check("Audit", len(audited) > 5 && audited[0].AccessKey == key.AccessKey, err)
}

// ignore drops an expected error.
func ignore(err error, text string) error {
	var answered *Error
	if errors.As(err, &answered) && strings.Contains(answered.Text, text) {
		return nil
	}
	return err
}

// TestStreams: the log and a trace continue until their context is done, which is not an error.
func TestStreams(t *testing.T) {
	c := gateway(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	var records [][]byte
	err := c.Logs(ctx, func(record []byte) error {
		records = append(records, bytes.Clone(record))
		cancel()
		return nil
	})
	if err != nil || len(records) != 1 || !bytes.Contains(records[0], []byte(`"msg":"a record"`)) {
		t.Errorf("%v, %s", err, records)
	}
	if err := c.Logs(t.Context(), func([]byte) error { return io.ErrShortWrite }); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("an error of the reader: %v", err)
	}
	began := time.Now()
	body, err := c.Trace(t.Context(), 0.1, true)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if raw, err := io.ReadAll(body); err != nil || !bytes.HasPrefix(raw, []byte(`{"akigw_trace"`)) || time.Since(began) < 100*time.Millisecond {
		t.Errorf("%v %s", err, raw)
	}
}

// TestAdvice: advice comes with a trace and without one. A gateway that nobody uses gets none, and the
// report says why.
func TestAdvice(t *testing.T) {
	c := gateway(t, nil)
	for seconds, want := range map[float64]string{0: "No trace was recorded", 0.1: "too little data"} {
		r, err := c.Advice(t.Context(), seconds)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(strings.Join(r.Notes, "\n"), want) || r.Sizes != nil || r.TOML != "" || r.Facts.Memory.Quota != 1<<20 || r.Facts.Disk.Quota != 64<<20 || r.Facts.Prices != cost.Default() {
			t.Errorf("%g seconds: %+v", seconds, r)
		}
	}
	var refused *Error
	if _, err := c.Advice(t.Context(), -1); !errors.As(err, &refused) || refused.Status != 400 {
		t.Errorf("-1 seconds: %v", err)
	}
}

// TestKeys: a key is presented only where it is required, and errors say what to do.
func TestKeys(t *testing.T) {
	asked := 0
	counting := func() (Key, error) { asked++; return key, nil }
	c, ctx := gateway(t, func(o *Options) { o.Key = counting }), t.Context()
	if _, err := c.Status(ctx); err != nil || asked != 0 {
		t.Errorf("reading asked for the key %d times: %v", asked, err)
	}
	if _, err := c.Audit(ctx, 1); err != nil || asked != 1 {
		t.Errorf("what is private asked for it %d times: %v", asked, err)
	}
	if _, err := c.Purge(ctx, Objects{Bucket: "bucket"}); err != nil || asked != 2 {
		t.Errorf("a change asked for it %d times: %v", asked, err)
	}
	c.o.AlwaysKey = true
	if _, err := c.Status(ctx); err != nil || asked != 3 {
		t.Errorf("a gateway with keys only asked for it %d times: %v", asked, err)
	}
	var answered *Error
	c.o.Key = nil
	if _, err := c.Purge(ctx, Objects{Bucket: "bucket"}); !errors.As(err, &answered) || answered.Status != 401 || !strings.Contains(err.Error(), "requires an admin key") {
		t.Errorf("no key: %v", err)
	}
	none := errors.New("there is none")
	c.o.Key = func() (Key, error) { return Key{}, none }
	if _, err := c.Purge(ctx, Objects{Bucket: "bucket"}); err != none {
		t.Errorf("no key to be had: %v", err)
	}
	if _, err := New(Options{Address: "127.0.0.1:1"}).Status(ctx); err == nil || !strings.Contains(err.Error(), "no response from a gateway at 127.0.0.1:1") {
		t.Errorf("no gateway: %v", err)
	}
}
