package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/akidb/akigw/access"
	"github.com/akidb/akigw/admin"
	"github.com/akidb/akigw/cost"
	"github.com/akidb/akigw/faults"
	"github.com/akidb/akigw/gateway"
	"github.com/akidb/akigw/gateway/limits"
	"github.com/akidb/akigw/internal/embedded"
	"github.com/akidb/akigw/internal/logtail"
	"github.com/akidb/akigw/internal/memlimit"
	"github.com/akidb/akigw/internal/s3err"
	"github.com/akidb/akigw/internal/vfs"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/sigv4"
	"github.com/akidb/akigw/tiers"
	"github.com/akidb/akigw/tiers/cold"
)

// serveCommand is "akigw serve". Its flags are the settings that people change
// on the spot; they reach the configuration by their keys.
type serveCommand struct {
	Config          string `help:"TOML configuration file." placeholder:"FILE" env:"AKIGW_CONFIG"`
	Listen          string `help:"Address of the S3 listener (default 127.0.0.1:9000)." placeholder:"ADDR" env:"AKIGW_LISTEN"`
	AdminListen     string `help:"Address of the admin listener (default 127.0.0.1:9001)." placeholder:"ADDR" env:"AKIGW_ADMIN_LISTEN"`
	Data            string `help:"Directory for everything that the gateway keeps (default ./data)." placeholder:"DIR" env:"AKIGW_DATA"`
	Upstream        string `help:"Endpoint of the S3 service behind the gateway. Without it an embedded one is started, for trials." placeholder:"URL" env:"AKIGW_UPSTREAM"`
	Restore         string `help:"Start with the catalog of a snapshot, by its id or latest: nothing of it is served before it was validated, and what was used most is fetched again." placeholder:"ID" env:"AKIGW_RESTORE"`
	EnableFaults    bool   `help:"Let an operator break the way to the upstream, and the disk, on purpose (akigw faults): to rehearse outages, not in production." env:"AKIGW_ENABLE_FAULTS"`
	FaultPlan       string `help:"File with a plan of faults that is in force from the start." placeholder:"FILE" env:"AKIGW_FAULT_PLAN"`
	AllowPlaintext  bool   `help:"Listen beyond loopback without TLS: everybody on the path can read and change what is transferred." env:"AKIGW_ALLOW_PLAINTEXT"`
	AllowTrialKeys  bool   `help:"Listen beyond loopback with the generated trial key pair: who has seen the console output or can read the data directory has full access." env:"AKIGW_ALLOW_TRIAL_KEYS"`
	AllowOpenFaults bool   `help:"Enable faults though a listener is open beyond loopback." env:"AKIGW_ALLOW_OPEN_FAULTS"`
	AllowOpenAdmin  bool   `help:"Open the admin listener beyond loopback: whoever reaches it can read metrics and memory profiles." env:"AKIGW_ALLOW_OPEN_ADMIN"`
}

func (s *serveCommand) flags() map[string]string {
	flags := map[string]string{}
	for key, value := range map[string]string{"listen": s.Listen, "admin_listen": s.AdminListen, "data": s.Data, "upstream.url": s.Upstream, "fault_plan": s.FaultPlan} {
		if value != "" {
			flags[key] = value
		}
	}
	for key, value := range map[string]bool{"allow_plaintext": s.AllowPlaintext, "allow_trial_keys": s.AllowTrialKeys, "allow_open_admin": s.AllowOpenAdmin, "allow_open_faults": s.AllowOpenFaults, "enable_faults": s.EnableFaults} {
		if value {
			flags[key] = strconv.FormatBool(value)
		}
	}
	return flags
}

// Run runs the gateway until SIGTERM or SIGINT.
func (s *serveCommand) Run() error {
	c, err := load(s.Config, os.Environ(), s.flags())
	if err != nil {
		return err
	}
	c.restore = s.Restore
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	return serve(ctx, c, os.Stdout, os.Stderr)
}

func logLevel(name string) (slog.Level, error) {
	var level slog.Level
	err := level.UnmarshalText([]byte(name))
	return level, err
}

const (
	// finishTimeout is how long requests under way may take at shutdown.
	finishTimeout = 30 * time.Second
	// spareMemory is what the process may use besides its budgets before
	// the garbage collector works harder.
	spareMemory = 112 << 20
	// pendingMemory is what a pending write takes besides its body, about.
	pendingMemory = 2 << 10
)

// mostMemory is what the process may take when all of its budgets are used.
func (c *config) mostMemory() int64 {
	return int64(c.Cache.HotBytes+c.Cache.ReadAheadBytes+c.Cache.FillBytes+c.Gateway.RequestMemory) + spareMemory + pendingMemory*int64(c.Back.MaxPending)
}

// serve wires the rooms together, opens the listeners, and takes everything
// down in the opposite order when ctx ends.
func serve(ctx context.Context, c *config, stdout, stderr io.Writer) (err error) {
	level, err := logLevel(c.Process.LogLevel)
	if err != nil {
		return err
	}
	tail := logtail.New(stderr)
	log := slog.New(slog.NewJSONHandler(tail, &slog.HandlerOptions{Level: level}))
	d := &teardown{}
	defer func() { err = errors.Join(err, d.run()) }()
	if os.Getenv("GOMEMLIMIT") == "" {
		d.background(func(ctx context.Context) error {
			return memlimit.Run(ctx, int64(c.Cache.HotBytes+c.Cache.ReadAheadBytes)+spareMemory, c.mostMemory())
		})
	}

	release, err := lockData(c.Process.Data)
	if err != nil {
		return err
	}
	d.add(release)
	trial, err := rootKeys(c)
	if err != nil {
		return err
	}
	if err := startEmbedded(c, log, d); err != nil {
		return err
	}
	layer, err := c.Faults.open(c.Gateway.Listen, c.Admin.Listen)
	if err != nil {
		return err
	}
	costs := cost.Open(c.Cost, filepath.Join(c.Process.Data, "cost.json"), log)
	wrap := costs.Upstream.Wrap
	if layer != nil {
		wrap = func(t http.RoundTripper) http.RoundTripper { return costs.Upstream.Wrap(layer.Wrap(t)) }
		c.Cache.WarmFault, c.Cache.JournalFault = layer.Disk(faults.Warm), layer.Disk(faults.Journal)
	}
	var around func(http.Handler) http.Handler
	spans, err := c.Tracing.open(ctx)
	if err != nil {
		return err
	}
	if spans != nil {
		d.add(spans.close)
		counted := wrap
		wrap, around = func(t http.RoundTripper) http.RoundTripper { return spans.client(counted(t)) }, spans.server
	}
	c.Upstream.Log = log
	for i := range c.Further {
		c.Further[i].Log = log
	}
	upstream, err := cold.NewUpstreams(c.Upstream, c.Further, c.Storage.Pool, wrap)
	if err != nil {
		return err
	}
	d.add(upstream.Close)
	clocks := upstream.CheckClock(ctx) // while the rest is opened
	book, err := rules.Open(c.file, c.settings(), c.classes(), log)
	if err != nil {
		return err
	}
	d.background(book.Run)
	store, err := tiers.New(c.Cache, book, filepath.Join(c.Process.Data, "warm"), upstream, log)
	if err != nil {
		return err
	}
	d.add(store.Close)
	c.Back.FactsFile = c.factsFile()
	if err := store.WriteBack(c.Back, c.Back.Place(c.Process.Data), c.Storage.Parallel, c.Storage.Batch, upstream); err != nil {
		return err
	}
	reportSuspicion(upstream, store, log)
	if err := store.Control(c.Tiering.Policy, filepath.Join(c.Process.Data, "tiers")); err != nil {
		return err
	}
	snapshots, err := openSnapshots(c, store, log)
	if err != nil {
		return err
	}
	refetch := func(context.Context) error { return nil }
	if c.restore != "" {
		if refetch, err = restore(ctx, c.restore, snapshots, store, int64(c.Snapshot.RestoreRate), log); err != nil {
			return err
		}
	}
	if err := clocks(); err != nil {
		return err
	}
	d.background(costs.Run)
	d.background(store.Run)
	d.background(refetch)
	d.background(snapshots.Run)
	d.add(func() error { return drain(store, c.Back.DrainTimeout(), stderr, log) })

	keyring, err := accessStore(c).Open(log)
	if err != nil {
		return err
	}
	d.background(keyring.Run)
	qos, err := limits.NewQoS(c.QoS, book, metrics.GetDefaultSet())
	if err != nil {
		return err
	}
	accessLog := gateway.OpenAccessLog(c.Access)
	if accessLog != nil {
		d.add(accessLog.Close)
	}
	audit := admin.OpenAudit(filepath.Join(c.Process.Data, "audit.jsonl"))
	d.add(audit.Close)
	memory := gateway.NewMemory(int64(c.Gateway.RequestMemory), metrics.GetDefaultSet(), upstream.Names()...)
	front := gateway.New(gateway.Options{
		Verifier: &sigv4.Verifier{Region: c.Gateway.Region, Keys: keyring}, Memory: memory,
		FaultsEnabled: layer != nil, Policies: keyring, QoS: qos, Store: store, Upstream: upstream, Log: log, Costs: &costs.Clients, AccessLog: accessLog, Domains: c.Gateway.DomainList(), FailuresPerMinute: c.Gateway.FailuresPerMinute,
		MaxBuckets: c.Gateway.MaxBuckets, Quotas: c.Quota, Metrics: metrics.GetDefaultSet(),
	})
	d.background(front.Run)
	users := accessStore(c)
	var trialAdmin *access.Key
	if trial && c.embedded {
		if trialAdmin, err = ensureAdmin(users); err != nil {
			return err
		}
	}
	operator := admin.New(c.Admin, store, snapshots, admin.Parts{Rules: book, Access: &users, Costs: costs, Logs: tail, Audit: audit}, access.Admins{Keyring: keyring}, c.Gateway.Region, version, log)
	if layer != nil {
		operator.EnableFaults(layer)
	}
	adminListener, err := net.Listen("tcp", c.Admin.Listen)
	if err != nil {
		return fmt.Errorf("admin listener: %w; is another process using the port? (--admin-listen)", err)
	}
	d.serve(admin.HTTP(operator, log), adminListener, log)
	listener, err := gateway.Bind(&c.Gateway, metrics.GetDefaultSet(), log)
	if err != nil {
		return err
	}
	d.add(front.Finish)
	d.serve(gateway.Server(front, around, log), listener, log)

	operator.SetReady(true)
	banner(stdout, c, trial, trialAdmin, listener.Addr(), adminListener.Addr())
	log.Info("serving", "version", version, "listen", listener.Addr().String(), "admin_listen", adminListener.Addr().String(), "freshness", c.Cache.Freshness)
	<-ctx.Done()
	operator.SetReady(false)
	log.Info("stopping: finishing requests under way")
	return nil
}

// reportSuspicion has the log tell when an upstream stops answering and when it is
// back, and what is pending for it taken there at once.
func reportSuspicion(upstream *cold.Upstreams, store *tiers.Store, log *slog.Logger) {
	upstream.OnSuspect(func(name string, suspect bool) {
		if suspect {
			log.Error("the upstream has stopped answering: requests that need it are refused with 503 until it answers a probe; check the service, and the network between here and there", "upstream", name)
			return
		}
		log.Info("the upstream answers again", "upstream", name)
		store.Resume(name)
	})
}

// factsFile is where what is known of the upstreams' buckets is kept.
func (c *config) factsFile() string { return filepath.Join(c.Process.Data, "bucket-facts") }

// drain takes what is pending to the upstream before the process ends, and says how
// far it is. What is left is no error, but has an exit code of its own.
func drain(store *tiers.Store, timeout time.Duration, stderr io.Writer, log *slog.Logger) error {
	st := store.BackStatus()
	if st.Pending == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	log.Info("taking acknowledged writes to the upstream", "pending", st.Pending, "bytes", st.Bytes)
	stop := make(chan struct{})
	var shown sync.WaitGroup
	shown.Go(func() { showDrain(store, stderr, stop) })
	store.DrainAll(ctx)
	close(stop)
	shown.Wait()
	if st = store.BackStatus(); st.Pending > 0 {
		log.Warn("acknowledged writes are not upstream yet; they are kept, and taken there by the next start", "pending", st.Pending, "bytes", st.Bytes)
		return exitPending
	}
	return nil
}

// exitPending says that the process ended with writes that are not upstream yet.
const exitPending = exitCode(75)

// teardown undoes what serve set up, last things first.
type teardown struct {
	steps []func() error
}

func (t *teardown) add(step func() error) { t.steps = append(t.steps, step) }

// background runs work until the teardown reaches it.
func (t *teardown) background(work func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- work(ctx) }()
	t.add(func() error {
		cancel()
		return <-done
	})
}

func (t *teardown) serve(s *http.Server, l net.Listener, log *slog.Logger) {
	var wait sync.WaitGroup
	wait.Go(func() {
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("a listener ended", "address", l.Addr().String(), "error", err)
		}
	})
	t.add(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), finishTimeout)
		defer cancel()
		err := s.Shutdown(ctx)
		if errors.Is(err, context.DeadlineExceeded) {
			log.Warn("cut off requests that did not finish in time", "seconds", finishTimeout.Seconds())
			err = s.Close()
		}
		wait.Wait()
		return err
	})
}

func (t *teardown) run() (err error) {
	for i := len(t.steps) - 1; i >= 0; i-- {
		err = errors.Join(err, t.steps[i]())
	}
	return err
}

// makeData makes the data directory, for this user alone.
func makeData(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	info, err := os.Stat(dir)
	if err == nil && info.Mode()&(os.ModeSticky|0o002) != 0 {
		return fmt.Errorf("data directory %s can be written by others; give akigw a directory of its own with --data", dir)
	}
	if err == nil && info.Mode().Perm() != 0o700 {
		if err = os.Chmod(dir, 0o700); errors.Is(err, syscall.EROFS) {
			err = nil // nothing is written there
		}
	}
	if err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	return nil
}

// lockData makes the data directory and takes it for this process alone.
func lockData(dir string) (release func() error, err error) {
	if err := makeData(dir); err != nil {
		return nil, err
	}
	f, err := vfs.Lock(filepath.Join(dir, "lock"))
	switch {
	case errors.Is(err, syscall.EWOULDBLOCK):
		return nil, fmt.Errorf("data directory %s is in use by another akigw; stop it, or give this one another --data", dir)
	case errors.Is(err, os.ErrPermission):
		return nil, fmt.Errorf("data directory: %w; akigw runs as user %d, whose alone it has to be: chown -R %d %s", err, os.Getuid(), os.Getuid(), dir)
	case err != nil:
		return nil, fmt.Errorf("data directory: %w", err)
	}
	return f.Close, nil
}

// rootKeys makes sure that there is a root key pair: the configured one, or a
// trial pair that is made once and kept in the data directory.
func rootKeys(c *config) (trial bool, err error) {
	if c.Gateway.AccessKey != "" {
		return false, nil
	}
	type pair struct{ AccessKey, SecretKey string }
	path := filepath.Join(c.Process.Data, "trial-keys.json")
	var p pair
	raw, err := os.ReadFile(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		p = pair{"TRIAL" + rand.Text()[:15], rand.Text() + rand.Text()[:14]}
		if raw, err = json.Marshal(p); err == nil {
			err = vfs.Replace(path, raw)
		}
	case err == nil:
		if err = json.Unmarshal(raw, &p); err == nil && (p.AccessKey == "" || p.SecretKey == "") {
			err = errors.New("it has no keys; delete it to get new ones")
		}
	}
	if err != nil {
		return false, fmt.Errorf("trial key pair %s: %w", path, err)
	}
	c.Gateway.AccessKey, c.Gateway.SecretKey = p.AccessKey, p.SecretKey
	return true, nil
}

// ensureAdmin returns an admin key, for a trial, and makes one if there is none.
func ensureAdmin(users access.Store) (*access.Key, error) {
	state, err := users.Read()
	if err != nil {
		return nil, err
	}
	if k := adminKeyIn(state); k != nil {
		return k, nil
	}
	var key access.Key
	err = users.Edit(func(s *access.State) (err error) {
		if err := s.SetUser(access.User{Name: "operator", Admin: true}); err != nil {
			return err
		}
		key, err = s.AddKey(access.Key{User: "operator"}, time.Now())
		return err
	})
	return &key, err
}

// startEmbedded starts the trial upstream if no other is configured. Only this
// process knows its key pair.
func startEmbedded(c *config, log *slog.Logger, d *teardown) error {
	if c.Upstream.URL != "" {
		return nil
	}
	c.embedded = true
	c.Upstream.AccessKey, c.Upstream.SecretKey = "EMBEDDED"+rand.Text()[:12], rand.Text()
	c.Upstream.Credentials = "static"
	c.Upstream.TrailingChecksums = true
	c.Upstream.Identity = "embedded" // its address is another one each time
	own := &sigv4.Verifier{Region: c.Upstream.Region, Keys: sigv4.StaticKeys{c.Upstream.AccessKey: c.Upstream.SecretKey}}
	server, err := embedded.Open(filepath.Join(c.Process.Data, "embedded"), func(r *http.Request) error {
		query, err := sigv4.ParseQuery(r.URL.RawQuery)
		if err != nil {
			return s3err.InvalidURI
		}
		id, payload, err := own.Verify(r, r.URL.Path, query)
		if err == nil && id.Anonymous() {
			err = s3err.AccessDenied
		}
		if err == nil {
			payload.Plain(r)
		}
		return err
	}, log)
	if err != nil {
		return err
	}
	d.add(server.Close)
	c.Upstream.URL, err = server.Listen("127.0.0.1:0")
	return err
}
