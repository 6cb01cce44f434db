package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/akidb/akigw/internal/testing/s3client"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/tiers/cold"
)

// previousRelease is the commit of the release that made the fixture. For a new release, run:
//
//	cd e2e && go test -run TestMakeUpgradeFixture -make-fixture .
const previousRelease = "f40da671413455e71d2c0d3a3ca63b326fc3d058"

// upgradeFixture holds data directories of the previous release, and what that release promised.
const upgradeFixture = "testdata/previous-release.tar.gz"

// mostFixture is the largest size of the fixture in bytes.
const mostFixture = 300 << 10

var makeFixture = flag.Bool("make-fixture", false, "build the previous release from the history and have it make "+upgradeFixture)

// upgradeUpstream is the address of the upstream in the fixture. Cached data belongs to an address,
// so it must be the same whenever the fixture is used. It is not an ephemeral port, and FreeAddr
// returns others.
const upgradeUpstream = "127.0.0.1:31924"

// upgradeConfig has no settings that depend on the age of the fixture.
const upgradeConfig = `
[cache]
hot_bytes = "16MiB"
warm_bytes = "64MiB"
[write_back]
min_free_bytes = 0
inline_bytes = "1KiB"
segment_bytes = "1MiB"
drain_timeout_secs = 1
max_pending_secs = 31536000
max_upload_secs = 0
[snapshot]
interval_secs = 0
[tiering.policy]
worker_interval_secs = 0
[storage.batch_upload]
flush_interval_secs = 0
[[rule]]
bucket = "still"
freshness = "immutable"
[[rule]]
bucket = "packs"
write = "back"
pack_bytes = "64KiB"
[[rule]]
bucket = "back*"
write = "back"
`

// The data directories of the fixture.
const (
	fullData     = "data"     // everything, before an upstream in memory
	mirroredData = "mirrored" // a journal with a second directory
	secondDir    = "second"   // the second directory
	embeddedData = "embedded" // before the embedded upstream
	promisesFile = "promises.json"
)

// promises are what a gateway promised its clients, and the rest of its state.
type promises struct {
	Release  string // commit
	Made     time.Time
	Objects  map[string]*promisedObject // by bucket/key
	Uploads  map[string]*promisedUpload // open uploads, by bucket/key
	Pending  int
	Dead     int
	Packed   int
	Warm     []string // bucket/key of objects on disk
	Operator pair
	Reader   pair     // may read back/*
	Pins     []string // "s3://BUCKET/PREFIX"
	Upstream s3mem.State
}

// promisedObject is what a key holds.
type promisedObject struct {
	Size     int
	ETag     string      // "" for a deleted object
	Modified string      `json:",omitempty"` // Last-Modified, "" if no client was told
	Header   http.Header `json:",omitempty"`
	Dead     bool        `json:",omitempty"` // the upstream refuses it
	Upstream bool        `json:",omitempty"` // it exists only upstream, and cannot be read without it

	whole []byte // the body, if it is not upgradeBody
}

// promisedUpload is an open multipart upload. Part 1 is still missing, and part 2 is the last one.
type promisedUpload struct {
	ID, ETag string // of part 2
	Moved    bool   // it continues at the upstream
}

// upgradeBody is the body of an object of the fixture, which compresses well.
func upgradeBody(path string, size int) []byte {
	return bytes.Repeat([]byte(path+"\n"), size/(len(path)+1)+1)[:size]
}

// upgradeClient writes through a gateway and records what it is promised.
type upgradeClient struct {
	t      testing.TB
	client *s3client.Client
	*promises
	undated bool // Last-Modified is not checked
	// noBlocks means that the release does not know the files in which blocks are stored.
	noBlocks bool
}

func newUpgradeClient(t testing.TB, g *gateway, p *promises) *upgradeClient {
	return &upgradeClient{t: t, client: &s3client.Client{Endpoint: g.endpoint}, promises: p}
}

// must sends a request that succeeds and, if commit is not "", is acknowledged by it.
func (c *upgradeClient) must(commit, method, path, query string, header http.Header, body []byte) *s3client.Answer {
	c.t.Helper()
	a := c.client.Must(c.t, method, "/"+path, query, header, body)
	if a.Status >= 300 || commit != "" && a.Header.Get("X-Akigw-Commit") != commit {
		c.t.Fatalf("%s %s?%s: %d %v %s", method, path, query, a.Status, a.Header, a.Body)
	}
	return a
}

// put writes an object through the journal.
func (c *upgradeClient) put(path string, size int) {
	c.t.Helper()
	header := http.Header{"Content-Type": {"text/x-upgrade"}, "X-Amz-Meta-Path": {path}}
	a := c.must("journal", "PUT", path, "", header, upgradeBody(path, size))
	o := &promisedObject{Size: size, ETag: a.Header.Get("Etag"), Header: header}
	o.Modified = c.must("", "HEAD", path, "", nil, nil).Header.Get("Last-Modified")
	c.Objects[path] = o
}

// remove deletes an object through the journal.
func (c *upgradeClient) remove(path string) {
	c.t.Helper()
	c.must("journal", "DELETE", path, "", nil, nil)
	c.Objects[path] = &promisedObject{}
}

// begin begins an upload with its last part. A part with an Origin is only for the upstream, so it
// moves the upload there.
func (c *upgradeClient) begin(path string, moved bool) {
	c.t.Helper()
	a := c.must("", "POST", path, "uploads=", nil, nil)
	id := uploadID.FindSubmatch(a.Body)
	if id == nil {
		c.t.Fatalf("%s", a.Body)
	}
	u := &promisedUpload{ID: string(id[1]), Moved: moved}
	header := http.Header{}
	if moved {
		header.Set("Origin", "http://app.example.com")
	}
	u.ETag = c.must("", "PUT", path, "partNumber=2&uploadId="+u.ID, header, upgradeBody(path, 2000)).Header.Get("Etag")
	c.Uploads[path] = u
}

// complete completes an upload of one part, through the journal.
func (c *upgradeClient) complete(path string) {
	c.t.Helper()
	c.begin(path, false)
	u := c.Uploads[path]
	delete(c.Uploads, path)
	document := fmt.Sprintf("<CompleteMultipartUpload><Part><PartNumber>2</PartNumber><ETag>%s</ETag></Part></CompleteMultipartUpload>", u.ETag)
	c.must("journal", "POST", path, "uploadId="+u.ID, nil, []byte(document))
	a := c.must("", "HEAD", path, "", nil, nil)
	c.Objects[path] = &promisedObject{Size: 2000, ETag: a.Header.Get("Etag"), Modified: a.Header.Get("Last-Modified")}
}

// startUpgradeUpstream starts the upstream of the fixture. Another test run on this machine may use
// its address for a while.
func startUpgradeUpstream(t testing.TB, state s3mem.State) (*slowMemory, upstream) {
	t.Helper()
	var l net.Listener
	for deadline := time.Now().Add(3 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		var err error
		if l, err = net.Listen("tcp", upgradeUpstream); err == nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	up, behind := serveMemory(t, l, 0, 64)
	up.Restore(state)
	up.After = func(r *cold.Request, resp *http.Response) { // as KMS does to reads, for one bucket
		if r.Key.Bucket == "backkms" && r.Key.Name != "" && (r.Method == http.MethodGet || r.Method == http.MethodHead) && resp.StatusCode < 300 {
			resp.Header.Set("X-Amz-Server-Side-Encryption", "aws:kms")
		}
	}
	return up, behind
}

// refuseKey makes the upstream refuse an object permanently.
func refuseKey(up *slowMemory, name string) {
	up.Before = func(r *cold.Request) (*http.Response, error) {
		if r.Method == http.MethodPut && r.Key.Name == name {
			return s3mem.Response(400, nil, []byte("<Error><Code>EntityTooLarge</Code></Error>")), nil
		}
		return nil, nil
	}
}

// stopWithPending stops a gateway whose upstream is unavailable.
func (g *gateway) stopWithPending() {
	g.t.Helper()
	g.cmd.Process.Signal(syscall.SIGTERM)
	var exit interface{ ExitCode() int }
	if err := g.cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 75 {
		g.t.Fatalf("stopped with %v, want exit code 75: %s", err, g.stderr)
	}
}

// ending is how gateways end.
type ending struct {
	pending func(*gateway) // with pending writes
	drained func(*gateway) // without pending writes
	crashes bool           // not a clean stop
}

var endings = map[string]ending{
	"stopped": {pending: (*gateway).stopWithPending, drained: (*gateway).stop},
	"killed":  {pending: (*gateway).kill, drained: (*gateway).kill, crashes: true},
}

// crashed says that data on disk has to be validated before use.
func (p *promises) crashed() {
	for _, path := range p.Warm {
		p.Objects[path].Upstream = true
	}
}

// buildPrevious builds the gateway of the previous release. AKIGW_PREVIOUS is the path of its
// binary, if there is one.
func buildPrevious(t testing.TB) (path string) {
	t.Helper()
	if path := os.Getenv("AKIGW_PREVIOUS"); path != "" {
		return path
	}
	return buildRevision(t, previousRelease)
}

// buildOld returns the binary of AKIGW_OLD, which is the absolute path of a binary or a revision.
// Without it the test is skipped.
func buildOld(t testing.TB) (path string) {
	t.Helper()
	old := os.Getenv("AKIGW_OLD")
	if old == "" {
		t.Skip("which other build? make long TEST=BothWays OLD=REVISION, or OLD=/PATH/OF/A/BINARY")
	}
	if filepath.IsAbs(old) {
		return old
	}
	return buildRevision(t, old)
}

// buildRevision builds the gateway of a revision. The test is skipped if the history does not
// contain it.
func buildRevision(t testing.TB, commit string) (path string) {
	t.Helper()
	if err := exec.Command("git", "cat-file", "-e", commit+"^{commit}").Run(); err != nil {
		t.Skipf("the history does not have %s: git fetch --unshallow", commit)
	}
	dir := t.TempDir()
	script := `set -e; git -C .. archive "$1" | tar -x -C "$2"; cd "$2"; CGO_ENABLED=0 go build -o akigw-release ./cmd/akigw`
	if out, err := exec.Command("bash", "-o", "pipefail", "-c", script, "bash", commit, dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return filepath.Join(dir, "akigw-release")
}

// TestMakeUpgradeFixture makes the fixture, if -make-fixture is set.
func TestMakeUpgradeFixture(t *testing.T) {
	if !*makeFixture {
		t.Skip("-make-fixture")
	}
	dir := t.TempDir()
	p, up, _ := makeData(t, buildPrevious(t), dir, endings["stopped"])
	p.Release, p.Upstream = previousRelease, up.State()
	raw, err := json.MarshalIndent(p, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, promisesFile), raw)
	packed := packTree(t, dir)
	if len(packed) > mostFixture {
		t.Errorf("%d bytes", len(packed))
	}
	writeFile(t, upgradeFixture, packed)
	t.Logf("%d bytes", len(packed))
}

// makeData makes all data directories below dir with a release.
func makeData(t *testing.T, release, dir string, ends ending) (p *promises, up *slowMemory, behind upstream) {
	up, behind = startUpgradeUpstream(t, s3mem.State{})
	p = &promises{Made: time.Now().UTC().Truncate(time.Second), Objects: map[string]*promisedObject{}, Uploads: map[string]*promisedUpload{}}
	makeFull(t, ends, options{plain: true, release: release, upstream: behind, dir: filepath.Join(dir, fullData), config: upgradeConfig}, up, p)
	makeMirrored(t, ends, options{plain: true, release: release, upstream: behind, dir: filepath.Join(dir, mirroredData), config: upgradeConfig, env: secondIn(dir)}, up, p)
	makeEmbedded(t, ends, options{plain: true, release: release, dir: filepath.Join(dir, embeddedData), config: upgradeConfig}, p)
	if ends.crashes {
		p.crashed()
	}
	return p, up, behind
}

// makeEmbedded stores some objects and an upload in the embedded upstream.
func makeEmbedded(t *testing.T, ends ending, o options, p *promises) {
	g := startGateway(t, o)
	c := newUpgradeClient(t, g, p)
	c.must("", "PUT", "trial", "", nil, nil)
	for _, name := range []string{"trial/a", "trial/b/c"} {
		header := http.Header{"Content-Type": {"text/x-upgrade"}, "X-Amz-Meta-Path": {name}}
		a := c.must("", "PUT", name, "", header, upgradeBody(name, 3000))
		p.Objects[name] = &promisedObject{Size: 3000, ETag: a.Header.Get("Etag"), Header: header}
	}
	c.begin("trial/upload", false)
	ends.drained(g)
}

// makeMirrored leaves pending writes in a journal with two directories.
func makeMirrored(t *testing.T, ends ending, o options, up *slowMemory, p *promises) {
	g := startGateway(t, o)
	c := newUpgradeClient(t, g, p)
	c.must("", "PUT", "backmirrored", "", nil, nil)
	c.put("backmirrored/flushed", 100)
	waitDrained(t, g, 10*time.Second)
	up.down.Store(true)
	c.put("backmirrored/inline", 300)
	c.put("backmirrored/spooled", 5000)
	c.remove("backmirrored/flushed")
	c.complete("backmirrored/completed")
	c.begin("backmirrored/upload", false)
	ends.pending(g)
}

// makeFull leaves some data of every kind.
func makeFull(t *testing.T, ends ending, o options, up *slowMemory, p *promises) {
	g := startGateway(t, o)
	c := newUpgradeClient(t, g, p)
	for _, bucket := range []string{"back", "backkms", "packs", "still", "strict"} {
		c.must("", "PUT", bucket, "", nil, nil)
	}
	g.operator()
	p.Operator = g.key
	c.addReader(g, "reader")
	up.KMS.Store(true)
	c.put("backkms/translated", 100)
	waitDrained(t, g, 10*time.Second)
	up.KMS.Store(false)
	c.makePacks(g)
	for _, name := range []string{"overwritten", "deleted", "flushed"} {
		c.put("back/"+name, 200)
	}
	refuseKey(up, "refused")
	c.put("back/refused", 400)
	p.Objects["back/refused"].Dead = true
	waitDrained(t, g, 10*time.Second)
	c.flushed()
	c.warm(up, g)
	c.pin(g, "s3://still/small")
	c.pin(g, "s3://back/")
	c.begin("back/moved", true)
	// The words before the name differ between releases.
	if out := g.mustAkigw("snapshot", "create"); !strings.Contains(out, "snapshot 20") {
		t.Fatal(out)
	}
	up.down.Store(true)
	for name, size := range map[string]int{"back/inline": 300, "back/spooled": 5000, "back/empty": 0, "back/overwritten": 250, "packs/pending": 500} {
		c.put(name, size)
	}
	c.remove("back/deleted")
	c.remove("packs/1")
	c.complete("back/completed")
	c.begin("back/upload", false)
	st := g.status()
	p.Pending, p.Dead, p.Packed = st.Pending, st.Dead, st.Packed
	ends.pending(g)
	up.down.Store(false)
	if p.Pending < 8 || p.Dead != 1 || p.Packed == 0 {
		t.Fatalf("%+v", st)
	}
}

// flushed records that everything written is upstream now, with the upstream's dates. Objects in
// packs and those with translated ETags keep their own dates in every release.
func (c *upgradeClient) flushed() {
	for path, o := range c.Objects {
		bucket, _, _ := strings.Cut(path, "/")
		o.Upstream = !o.Dead && bucket != "still"
		if o.Upstream && bucket != "packs" && bucket != "backkms" {
			o.Modified = ""
		}
	}
}

// pin pins a prefix.
func (c *upgradeClient) pin(g *gateway, what string) {
	c.t.Helper()
	g.mustAkigw("tier", "pin", what)
	c.Pins = append(c.Pins, what)
}

// addReader adds a user, which becomes the Reader.
func (c *upgradeClient) addReader(g *gateway, name string) {
	c.t.Helper()
	policy := writeFile(c.t, filepath.Join(c.t.TempDir(), "policy"), []byte(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::back/*"}]}`))
	g.mustAkigw("users", "set", name, "--policy", policy)
	c.Reader = g.newKey("--user", name)
}

// makePacks writes objects that are flushed in packs.
func (c *upgradeClient) makePacks(g *gateway) {
	c.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); g.status().Packed < 3; {
		for i := range 4 {
			c.put(fmt.Sprintf("packs/%d", i), 100+i)
		}
		waitDrained(c.t, g, 10*time.Second)
		if time.Now().After(deadline) {
			c.t.Fatalf("%+v", g.status())
		}
	}
}

// warm reads objects through a gateway until they are on its disk.
func (c *upgradeClient) warm(up *slowMemory, g *gateway) {
	c.t.Helper()
	for name, size := range map[string]int{"still/small": 1000, "still/large": 300_000, "strict/small": 1000, "strict/large": 300_000} {
		bucket, key, _ := strings.Cut(name, "/")
		etag := up.Put(keyIn(bucket, key), upgradeBody(name, size))
		c.Objects[name] = &promisedObject{Size: size, ETag: etag, Upstream: bucket == "strict"}
		c.must("", "GET", name, "", nil, nil)
		g.mustAkigw("tier", "promote", "--to", "warm", "--exactly", "s3://"+name)
		if o := g.tier(bucket, key); o.WarmBytes == 0 {
			c.t.Fatalf("%s is not on disk: %+v", name, o)
		}
		c.Warm = append(c.Warm, name)
	}
	slices.Sort(c.Warm)
}

// uselessInFixture are files that every start creates again.
var uselessInFixture = regexp.MustCompile(`(^|/)(lock|LOCK|BALLAST)$`)

// packTree packs the files of a directory.
func packTree(t testing.TB, dir string) []byte {
	t.Helper()
	var b bytes.Buffer
	zipped, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	out := tar.NewWriter(zipped)
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		name, _ := filepath.Rel(dir, path) // the file is below the directory
		if err != nil || name == "." || uselessInFixture.MatchString(name) {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		head := &tar.Header{Name: name, Mode: int64(info.Mode().Perm()), Size: info.Size(), Typeflag: tar.TypeReg, ModTime: info.ModTime().Truncate(time.Second)}
		if d.IsDir() {
			head.Size, head.Typeflag = 0, tar.TypeDir
			return out.WriteHeader(head)
		}
		if err := out.WriteHeader(head); err != nil {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(out, f)
		return err
	})
	if err := errors.Join(err, out.Close(), zipped.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// unpackFixture returns a directory with the data of the previous release, and its promises.
func unpackFixture(t testing.TB) (dir string, p *promises) {
	t.Helper()
	dir = t.TempDir()
	zipped, err := gzip.NewReader(bytes.NewReader(readFile(t, upgradeFixture)))
	if err != nil {
		t.Fatal(err)
	}
	in := tar.NewReader(zipped)
	for {
		head, err := in.Next()
		if err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, filepath.FromSlash(head.Name))
		if head.Typeflag == tar.TypeDir {
			err = os.MkdirAll(path, fs.FileMode(head.Mode))
		} else {
			err = unpackFile(path, head, in)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	p = &promises{}
	if err := json.Unmarshal(readFile(t, filepath.Join(dir, promisesFile)), p); err != nil {
		t.Fatal(err)
	}
	return dir, p
}

func unpackFile(path string, head *tar.Header, in io.Reader) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_EXCL, fs.FileMode(head.Mode))
	if err != nil {
		return err
	}
	_, err = io.Copy(f, in)
	return errors.Join(err, f.Close())
}

// among returns the promises for some buckets. It shares the objects with p.
func (p *promises) among(buckets ...string) *promises {
	some := *p
	other := func(path string) bool {
		bucket, _, _ := strings.Cut(path, "/")
		return !slices.Contains(buckets, bucket)
	}
	some.Objects, some.Uploads = maps.Clone(p.Objects), maps.Clone(p.Uploads)
	maps.DeleteFunc(some.Objects, func(path string, _ *promisedObject) bool { return other(path) })
	maps.DeleteFunc(some.Uploads, func(path string, _ *promisedUpload) bool { return other(path) })
	some.Warm = slices.DeleteFunc(slices.Clone(p.Warm), other)
	return &some
}
