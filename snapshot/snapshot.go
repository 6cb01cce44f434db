// Package snapshot writes the catalog of the tiers to Parquet files and reads it back: which
// objects there are, in which tier their bytes are, and how they are used. Operators query such
// files with their own tools, and a new gateway can start warm from one.
//
// It promises that a file is complete: it gets its name, which contains the digest of all its
// bytes, after it is synced; that damage is detected before anything of a file is used; and that
// freeing space never removes the last valid one. Neither writing nor reading takes memory in
// proportion to the number of objects. A snapshot is not a backup: it does not contain the bytes of
// objects.
package snapshot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/parquet-go/parquet-go"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/checksum"
	"github.com/akidb/akigw/internal/failpoint"
	"github.com/akidb/akigw/internal/size"
	"github.com/akidb/akigw/internal/vfs"
)

// Config says when snapshots are created and where they are kept: [snapshot].
type Config struct {
	Dir          string     `toml:"dir" help:"directory of snapshots of the catalog; empty: snapshots in the data directory"`
	IntervalSecs int64      `toml:"interval_secs" help:"seconds between snapshots; 0: only on request"`
	MaxBytes     size.Bytes `toml:"max_bytes" help:"disk space for snapshots: the oldest are removed, never the last valid one"`
	Upload       string     `toml:"upload" help:"s3://BUCKET/PREFIX to which each snapshot is uploaded as well, within max_bytes; empty: none is uploaded"`
	RestoreRate  size.Bytes `toml:"restore_rate" help:"bytes per second at which the most used objects are fetched after a start with --restore"`
}

// Check reports every impossible value by its key.
func (c *Config) Check(report func(key, problem string)) {
	if c.IntervalSecs < 0 || c.IntervalSecs > 0 && c.IntervalSecs < 10 {
		report("interval_secs", "must be 0 or at least 10")
	}
	if c.MaxBytes < 1<<20 {
		report("max_bytes", "must be at least 1MiB")
	}
	if c.RestoreRate < 1<<10 {
		report("restore_rate", "must be at least 1KiB")
	}
	if c.Upload != "" {
		if _, _, err := Place(c.Upload); err != nil {
			report("upload", err.Error())
		}
	}
}

var placePattern = regexp.MustCompile(`^s3://([^/]+)(?:/(.*))?$`)

// Place splits s3://BUCKET/PREFIX.
func Place(url string) (bucket, prefix string, err error) {
	m := placePattern.FindStringSubmatch(url)
	if m == nil || akigw.CheckBucketName(m[1]) != nil || akigw.CheckKeyName(m[2]) != nil {
		return "", "", fmt.Errorf("must be written as s3://BUCKET/PREFIX, not %q", url)
	}
	return m[1], m[2], nil
}

// Catalog is the source of a snapshot.
type Catalog interface {
	// Entries calls yield with each object until yield returns false. The argument is valid until
	// yield returns.
	Entries(ctx context.Context, yield func(*akigw.CatalogEntry) bool) error
	// Ordered reports whether Entries yields them in the order of bucket, key and version.
	Ordered() bool
}

// Remote is a second place where snapshots are kept.
type Remote interface {
	Put(ctx context.Context, name string, body io.ReaderAt, size int64) error
	// List calls yield with the name and size of each file.
	List(ctx context.Context, yield func(name string, size int64)) error
	Get(ctx context.Context, name string) (io.ReadCloser, error)
	Delete(ctx context.Context, name string) error
}

// counters are the metrics of a Store.
type counters struct {
	created, failed, damaged *metrics.Counter
	seconds                  *metrics.PrometheusHistogram
}

func newCounters(set *metrics.Set) counters {
	set = cmp.Or(set, metrics.NewSet())
	return counters{
		created: set.NewCounter("akigw_snapshot_created_total"),
		failed:  set.NewCounter("akigw_snapshot_failed_total"),
		damaged: set.NewCounter("akigw_snapshot_damaged_total"),
		seconds: set.NewPrometheusHistogram("akigw_snapshot_seconds"),
	}
}

// Options configure a Store.
type Options struct {
	Config  Config
	Dir     string // need not exist
	Gateway string // ID of this gateway
	Catalog Catalog
	Remote  Remote // nil for none
	Log     *slog.Logger
	// Metrics receives the metrics; nil discards them.
	Metrics *metrics.Set
}

// Store holds the snapshots of a gateway. All methods may be called from any goroutine; Run is
// called once.
type Store struct {
	Options
	counters counters

	making  sync.Mutex // serialises the creation of snapshots
	problem atomic.Pointer[error]
}

// temporary is the prefix of the names of files that are being written.
const temporary = ".new-"

// Open opens a directory of snapshots. It creates the directory if need be and removes unfinished
// files of an earlier epoch. If that fails, the log and Problem say why, and the Store creates no
// snapshots until the disk is repaired. Nothing else depends on snapshots.
func Open(o Options) *Store {
	s := &Store{Options: o, counters: newCounters(o.Metrics)}
	if err := s.prepare(); err != nil {
		s.Log.Error("no snapshot of the catalog can be created until the disk is repaired", "dir", s.Dir, "error", err)
		s.note(err)
	}
	return s
}

func (s *Store) prepare() error {
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return fmt.Errorf("snapshots: %w", err)
	}
	left, err := filepath.Glob(filepath.Join(s.Dir, temporary+"*"))
	if err != nil {
		return fmt.Errorf("snapshots: %w", err)
	}
	for _, file := range left {
		if err := os.Remove(file); err != nil {
			return fmt.Errorf("snapshots: %w", err)
		}
	}
	return nil
}

// note remembers the result of the last use of the directory.
func (s *Store) note(err error) { s.problem.Store(&err) }

// Problem returns why the last snapshot could not be created, nil if it was created.
func (s *Store) Problem() error {
	if err := s.problem.Load(); err != nil {
		return *err
	}
	return nil
}

// Run creates a snapshot at each interval until ctx ends.
func (s *Store) Run(ctx context.Context) error {
	if s.Config.IntervalSecs == 0 || !s.Catalog.Ordered() {
		return nil
	}
	every := time.Duration(s.Config.IntervalSecs) * time.Second
	next := every
	if all, err := s.List(); err == nil && len(all) > 0 {
		next = max(time.Second, min(every, every-time.Since(all[0].Created)))
	}
	for {
		select {
		case <-time.After(next):
		case <-ctx.Done():
			return nil
		}
		next = every
		if _, err := s.Create(ctx); err != nil && ctx.Err() == nil {
			s.Log.Error("no snapshot could be created", "error", err)
		}
	}
}

// List returns the snapshots in the directory, newest first. It does not read them.
func (s *Store) List() ([]Info, error) {
	files, err := os.ReadDir(s.Dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("snapshots: %w", err)
	}
	all := []Info{}
	for _, f := range files {
		i, ok := parseName(f.Name())
		if !ok {
			continue
		}
		if info, err := f.Info(); err == nil { // otherwise the file has just been removed
			i.Bytes = info.Size()
			all = append(all, i)
		}
	}
	slices.SortFunc(all, func(a, b Info) int { return cmp.Compare(b.ID, a.ID) })
	return all, nil
}

// Find returns a snapshot by its ID, or the newest valid one for "latest".
func (s *Store) Find(id string) (Info, error) {
	if id == Latest {
		return s.latest()
	}
	all, err := s.List()
	if err != nil {
		return Info{}, err
	}
	for _, i := range all {
		if i.ID == id {
			return i, nil
		}
	}
	return Info{}, fmt.Errorf("%w: %q", ErrNone, id)
}

// Latest stands for the newest valid snapshot wherever an ID is expected.
const Latest = "latest"

// latest returns the newest valid snapshot. Damaged ones are logged.
func (s *Store) latest() (Info, error) {
	all, err := s.List()
	if err != nil {
		return Info{}, err
	}
	for _, i := range all {
		if _, err = s.Verify(i); err == nil {
			return i, nil
		}
		s.Log.Error("a snapshot is damaged; the previous one is used", "id", i.ID, "file", filepath.Join(s.Dir, i.File), "error", err)
	}
	if len(all) > 0 {
		return Info{}, fmt.Errorf("%w: all %d of them", ErrDamaged, len(all))
	}
	return Info{}, ErrNone
}

// Create creates a snapshot of the catalog. The snapshot is not a single point in time: each object is
// as it was at some moment while Create ran.
func (s *Store) Create(ctx context.Context) (i Info, err error) {
	s.making.Lock()
	defer s.making.Unlock()
	if !s.Catalog.Ordered() {
		return Info{}, ErrUnordered
	}
	started := time.Now()
	defer func() {
		if ctx.Err() == nil {
			s.note(err)
		}
		if err != nil {
			s.counters.failed.Inc()
			return
		}
		s.counters.created.Inc()
		s.counters.seconds.UpdateDuration(started)
	}()
	at := started.UTC()
	if all, err := s.List(); err == nil && len(all) > 0 && !at.Truncate(time.Millisecond).After(all[0].Created) {
		at = all[0].Created.Add(time.Millisecond) // IDs increase even if the clock is set back
	}
	i = Info{ID: at.Format(idLayout), Created: at.Truncate(time.Millisecond)}
	if err := os.MkdirAll(s.Dir, 0o700); err != nil { // the directory could not be created at the start, or has been removed
		return Info{}, fmt.Errorf("snapshot: %w", err)
	}
	path := filepath.Join(s.Dir, temporary+i.ID)
	if i.Digest, i.Bytes, err = s.write(ctx, path, i); err != nil {
		return Info{}, errors.Join(fmt.Errorf("snapshot: %w", err), vfs.Remove(vfs.Disk{}, path))
	}
	i.File = i.ID + "-" + i.Digest + ".parquet"
	failpoint.Here("snapshot.beforeRename")
	if err := vfs.Rename(vfs.Disk{}, path, filepath.Join(s.Dir, i.File)); err != nil {
		return Info{}, errors.Join(fmt.Errorf("snapshot: %w", err), vfs.Remove(vfs.Disk{}, path))
	}
	s.Log.Info("created a snapshot of the catalog", "id", i.ID, "bytes", i.Bytes, "seconds", time.Since(started).Seconds())
	if err := s.makeRoom(i); err != nil {
		s.Log.Warn("old snapshots could not be removed", "error", err)
	}
	if s.Remote != nil {
		if err := s.upload(ctx, i); err != nil {
			return i, fmt.Errorf("the snapshot %s was created, but could not be uploaded: %w", i.ID, err)
		}
	}
	return i, nil
}

// write writes the file and syncs it.
func (s *Store) write(ctx context.Context, path string, i Info) (digest string, bytes int64, err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return "", 0, err
	}
	sum := checksum.NewSumming(f)
	err = writeRows(sum, s.metadata(i), func(yield func(*akigw.CatalogEntry) bool) error { return s.Catalog.Entries(ctx, yield) })
	err = errors.Join(err, f.Sync(), f.Close())
	return shortDigest(sum.SHA256()), sum.Bytes(), err
}

// Delete removes a snapshot. It removes the last valid one only with force.
func (s *Store) Delete(i Info, force bool) error {
	s.making.Lock()
	defer s.making.Unlock()
	if !force {
		last, err := s.lastGood(i)
		if err != nil {
			return err
		}
		if last {
			return ErrLast
		}
	}
	return errors.Join(os.Remove(filepath.Join(s.Dir, i.File)), vfs.Disk{}.SyncDir(s.Dir))
}

// lastGood reports whether i is the only valid snapshot.
func (s *Store) lastGood(i Info) (bool, error) {
	all, err := s.List()
	if err != nil {
		return false, err
	}
	for _, other := range all {
		if other.ID == i.ID {
			continue
		}
		if _, err := s.Verify(other); err == nil {
			return false, nil
		}
	}
	_, err = s.Verify(i)
	return err == nil, nil
}

// makeRoom removes the oldest snapshots until the rest fit into the limit. newest, which was just
// created and is valid, stays.
func (s *Store) makeRoom(newest Info) error {
	all, err := s.List()
	if err != nil {
		return err
	}
	for _, i := range s.excess(all, newest) {
		if err := os.Remove(filepath.Join(s.Dir, i.File)); err != nil {
			return err
		}
		s.Log.Info("removed an old snapshot to stay within snapshot.max_bytes", "id", i.ID)
	}
	return vfs.Disk{}.SyncDir(s.Dir)
}

// excess returns the oldest snapshots that must be removed for the rest to fit into the limit. The
// newest is never among them.
func (s *Store) excess(all []Info, newest Info) (old []Info) {
	var sum int64
	for _, i := range all {
		sum += i.Bytes
	}
	for n := len(all) - 1; n >= 0 && sum > int64(s.Config.MaxBytes); n-- {
		if all[n].ID != newest.ID {
			old = append(old, all[n])
			sum -= all[n].Bytes
		}
	}
	return old
}

// upload uploads a snapshot to the remote and removes old ones there.
func (s *Store) upload(ctx context.Context, i Info) error {
	f, err := os.Open(filepath.Join(s.Dir, i.File))
	if err != nil {
		return err
	}
	defer f.Close()
	if err := s.Remote.Put(ctx, i.File, f, i.Bytes); err != nil {
		return err
	}
	all, err := s.remote(ctx)
	if err != nil {
		return err
	}
	for _, old := range s.excess(all, i) {
		if err := s.Remote.Delete(ctx, old.File); err != nil {
			return err
		}
	}
	return nil
}

// remote returns the snapshots at the remote, newest first.
func (s *Store) remote(ctx context.Context) (all []Info, err error) {
	err = s.Remote.List(ctx, func(name string, size int64) {
		if i, ok := parseName(name); ok {
			i.Bytes = size
			all = append(all, i)
		}
	})
	slices.SortFunc(all, func(a, b Info) int { return cmp.Compare(b.ID, a.ID) })
	return all, err
}

// Fetch downloads a snapshot, by its ID or "latest", from the remote into the directory, unless it is
// there already. A damaged download is not kept.
func (s *Store) Fetch(ctx context.Context, id string) (Info, error) {
	if s.Remote == nil {
		return Info{}, ErrNone
	}
	all, err := s.remote(ctx)
	if err != nil {
		return Info{}, err
	}
	for _, i := range all {
		if id != Latest && i.ID != id {
			continue
		}
		if err = s.fetch(ctx, i); err == nil || ctx.Err() != nil {
			return i, err
		}
		s.Log.Error("a snapshot upstream cannot be used", "id", i.ID, "error", err)
	}
	return Info{}, errors.Join(ErrNone, err)
}

func (s *Store) fetch(ctx context.Context, i Info) error {
	body, err := s.Remote.Get(ctx, i.File)
	if err != nil {
		return err
	}
	defer body.Close()
	path := filepath.Join(s.Dir, temporary+i.ID)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	sum := checksum.NewSumming(f)
	_, err = io.Copy(sum, io.LimitReader(body, i.Bytes+1))
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil && shortDigest(sum.SHA256()) != i.Digest {
		err = ErrDamaged
	}
	if err == nil {
		err = vfs.Rename(vfs.Disk{}, path, filepath.Join(s.Dir, i.File))
	}
	if err != nil {
		return errors.Join(err, vfs.Remove(vfs.Disk{}, path))
	}
	return nil
}

// metadata is the metadata of a snapshot, in the footer.
func (s *Store) metadata(i Info) map[string]string {
	return map[string]string{metaSchema: strconv.Itoa(Schema), metaGateway: s.Gateway, metaCreated: i.Created.Format(time.RFC3339Nano)}
}

// Verify compares a whole snapshot with its digest. The error is ErrDamaged if they differ.
func (s *Store) Verify(i Info) (Details, error) {
	return s.verified(i, func(*parquet.File) error { return nil })
}

// verified calls use with a snapshot that matches its digest, and counts a damaged one, also if
// only use finds the damage.
func (s *Store) verified(i Info, use func(*parquet.File) error) (d Details, err error) {
	defer func() {
		if errors.Is(err, ErrDamaged) {
			s.counters.damaged.Inc()
		}
	}()
	f, err := os.Open(filepath.Join(s.Dir, i.File))
	if err != nil {
		return Details{}, err
	}
	defer f.Close()
	file, err := open(f, i)
	if err != nil {
		return Details{}, err
	}
	if d, err = details(i, file); err != nil {
		return d, err
	}
	return d, use(file)
}

// Read calls yield with each object of a snapshot, in order, until yield returns false. yield may
// keep its argument.
func (s *Store) Read(ctx context.Context, i Info, yield func(akigw.CatalogEntry) bool) error {
	_, err := s.verified(i, func(file *parquet.File) error { return readRows(ctx, file, yield) })
	return err
}
