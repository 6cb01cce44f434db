package e2e

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/akidb/akigw/cost"
	"github.com/akidb/akigw/internal/testing/testkit"
)

// TestUpgrade: a gateway opens data directories of the previous release. Pending writes can be read
// at once and are flushed as promised. Open uploads continue, packs are read, pins and users are
// kept, and data on disk is used.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	dir, p := unpackFixture(t)
	up, behind := startUpgradeUpstream(t, p.Upstream)
	t.Run("full", func(t *testing.T) {
		g := newGateway(t, options{plain: true, upstream: behind, dir: filepath.Join(dir, fullData), config: upgradeConfig})
		takeOverFull(t, g, up, p.among("back", "backkms", "packs", "still", "strict"))
		g.stop()
	})
	t.Run("two directories", func(t *testing.T) {
		g := newGateway(t, options{plain: true, upstream: behind, dir: filepath.Join(dir, mirroredData), config: upgradeConfig, env: secondIn(dir)})
		takeOverMirrored(t, g, up, p.among("backmirrored"))
		g.stop()
		sameJournals(t, dir)
	})
	t.Run("embedded", func(t *testing.T) {
		g := startGateway(t, options{plain: true, dir: filepath.Join(dir, embeddedData), config: upgradeConfig})
		c := newUpgradeClient(t, g, p.among("trial"))
		c.holds()
		c.finishUploads()
		c.holds()
		c.lists("trial")
		g.stop()
	})
}

func secondIn(dir string) []string {
	return []string{"AKIGW_WRITE_BACK_SECOND_DIR=" + filepath.Join(dir, secondDir)}
}

// takeOverFull starts a gateway on the full data directory, at first without an upstream.
func takeOverFull(t *testing.T, g *gateway, up *slowMemory, p *promises) {
	refuseKey(up, "refused")
	up.down.Store(true)
	g.start()
	c := newUpgradeClient(t, g, p)
	if st := g.status(); st.Pending != p.Pending || st.Dead != p.Dead || st.Packed != p.Packed || st.Problem != "" {
		t.Errorf("%+v, promised %d pending, %d dead, %d packed", st, p.Pending, p.Dead, p.Packed)
	}
	c.holdsLocally()
	c.operates(g)
	c.counts(g)
	up.down.Store(false)
	g.recovered(p.Warm...)
	c.holdsOnDisk(g)
	waitDrained(t, g, 20*time.Second)
	c.holds()
	c.finishUploads()
	waitDrained(t, g, 20*time.Second)
	c.holds()
	for _, bucket := range []string{"back", "backkms", "packs"} {
		c.lists(bucket)
	}
	c.isUpstream(up)
	c.retryDead(g, up)
	c.holds()
	c.isUpstream(up)
}

// takeOverMirrored starts a gateway on the two directories of a journal.
func takeOverMirrored(t *testing.T, g *gateway, up *slowMemory, p *promises) {
	up.down.Store(true)
	g.start()
	c := newUpgradeClient(t, g, p)
	c.holdsLocally()
	if out := g.says("status"); strings.Contains(out, "repaired") && !strings.Contains(out, "0 repaired") {
		t.Errorf("intact copies were repaired: %s", out)
	}
	up.down.Store(false)
	g.recovered("backmirrored/none")
	c.finishUploads()
	waitDrained(t, g, 20*time.Second)
	c.holds()
	c.lists("backmirrored")
	c.isUpstream(up)
}

// recovered waits until reads of some keys reach the upstream again.
func (g *gateway) recovered(paths ...string) {
	g.t.Helper()
	c := newUpgradeClient(g.t, g, nil)
	for _, path := range paths {
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
			if a := c.client.Must(g.t, "HEAD", "/"+path, "", nil, nil); a.Status < 500 {
				break
			} else if time.Now().After(deadline) {
				g.t.Fatalf("HEAD %s: %d", path, a.Status)
			}
		}
	}
}

// hold checks that a key holds what was promised.
func (c *upgradeClient) hold(path string) {
	c.t.Helper()
	o := c.Objects[path]
	for _, method := range []string{"GET", "HEAD"} {
		a := c.client.Must(c.t, method, "/"+path, "", nil, nil)
		if o.ETag == "" {
			if a.Status != 404 {
				c.t.Errorf("%s %s: %d, it was deleted", method, path, a.Status)
			}
			continue
		}
		body, length := upgradeBody(path, o.Size), a.Header.Get("Content-Length")
		if o.whole != nil {
			body = o.whole
		}
		if a.Status != 200 || a.Header.Get("Etag") != o.ETag || method == "GET" && !bytes.Equal(a.Body, body) || length != fmt.Sprint(len(body)) {
			c.t.Errorf("%s %s: %d, %d bytes of %d, ETag %s, promised %s", method, path, a.Status, len(a.Body), len(body), a.Header.Get("Etag"), o.ETag)
		}
		if o.Modified != "" && !c.undated && a.Header.Get("Last-Modified") != o.Modified {
			c.t.Errorf("%s %s: Last-Modified %s, promised %s", method, path, a.Header.Get("Last-Modified"), o.Modified)
		}
		for name, want := range o.Header {
			if a.Header.Get(name) != want[0] {
				c.t.Errorf("%s %s: %s %q, promised %q", method, path, name, a.Header.Get(name), want[0])
			}
		}
	}
}

// holds is hold for all keys.
func (c *upgradeClient) holds() {
	c.t.Helper()
	for _, path := range slices.Sorted(maps.Keys(c.Objects)) {
		c.hold(path)
	}
}

// holdsLocally checks what a gateway has without an upstream.
func (c *upgradeClient) holdsLocally() {
	c.t.Helper()
	for _, path := range slices.Sorted(maps.Keys(c.Objects)) {
		if !c.Objects[path].Upstream && !c.fetches(path) {
			c.hold(path)
		}
	}
	for path, u := range c.Uploads {
		if !u.Moved {
			c.hasPart(path)
		}
	}
}

// fetches reports whether the release does not find an object on disk that another one has stored there.
func (c *upgradeClient) fetches(path string) bool {
	const largestRecord = 64 << 10
	o := c.Objects[path]
	return c.noBlocks && max(o.Size, len(o.whole)) > largestRecord
}

// holdsOnDisk checks that data on disk is read from there, or from memory, which is empty after a
// start.
func (c *upgradeClient) holdsOnDisk(g *gateway) {
	c.t.Helper()
	gets := g.objectGets()
	for _, path := range c.Warm {
		if c.fetches(path) {
			continue
		}
		a := c.must("", "GET", path, "", nil, nil)
		if tier := a.Header.Get("X-Akigw-Cache"); tier != "warm" && tier != "hot" {
			c.t.Errorf("GET %s: answered by %q, it is on disk", path, tier)
		}
		c.hold(path)
	}
	if n := g.objectGets() - gets; n != 0 {
		c.t.Errorf("%d GETs upstream for objects on disk", n)
	}
}

// retryDead makes the upstream accept what it refused, and retries it.
func (c *upgradeClient) retryDead(g *gateway, up *slowMemory) {
	c.t.Helper()
	up.Before = nil
	g.mustAkigw("dead-letters", "retry", "--all")
	c.Objects["back/refused"].Dead = false
	waitDrained(c.t, g, 20*time.Second)
}

// counts checks that requests have been counted since the data was made.
func (c *upgradeClient) counts(g *gateway) {
	c.t.Helper()
	var costs cost.Report
	if raw := fetchJSON(c.t, g, "/api/v1/cost", &costs); costs.Since.After(c.Made.Add(time.Minute)) || costs.Total.Clients.Writes < 10 {
		c.t.Errorf("costs: %s", raw)
	}
}

// operates checks that the operator and a user have their old rights, and finds pins, dead letters
// and snapshots.
func (c *upgradeClient) operates(g *gateway) {
	c.t.Helper()
	g.key = c.Operator
	out := g.mustAkigw("tier", "pins")
	for _, pin := range c.Pins {
		if !strings.Contains(out, pin) {
			c.t.Errorf("%s is not pinned: %s", pin, out)
		}
	}
	if out := g.mustAkigw("dead-letters", "list"); !strings.Contains(out, "EntityTooLarge") || !strings.Contains(out, `back/"refused"`) {
		c.t.Errorf("dead letters: %s", out)
	}
	var snapshots []struct{ ID string }
	if raw := fetchJSON(c.t, g, "/api/v1/snapshots", &snapshots); len(snapshots) != 1 {
		c.t.Errorf("snapshots: %s", raw)
	}
	read := func(bucket, key string) error {
		_, err := g.sdk(c.Reader).HeadObject(c.t.Context(), &s3.HeadObjectInput{Bucket: aws.String(bucket), Key: aws.String(key)})
		return err
	}
	for path, o := range c.Objects {
		if key, ok := strings.CutPrefix(path, "back/"); ok && !o.Upstream && o.ETag != "" {
			if err := read("back", key); err != nil {
				c.t.Errorf("a user: %s: %v", path, err)
			}
		}
	}
	if err := read("still", "small"); codeIn(err) != "Forbidden" {
		c.t.Errorf("a user, beyond the policy: %v", err)
	}
}

func fetchJSON(t testing.TB, g *gateway, path string, into any) (raw []byte) {
	t.Helper()
	resp, err := http.Get(g.admin + path)
	if err != nil {
		t.Fatal(err)
	}
	raw = readAll(t, resp.Body)
	if err := json.Unmarshal(raw, into); err != nil {
		t.Fatalf("%v: %s", err, raw)
	}
	return raw
}

// hasPart checks that an upload is open with the part that was acknowledged.
func (c *upgradeClient) hasPart(path string) {
	c.t.Helper()
	u := c.Uploads[path]
	a := c.client.Must(c.t, "GET", "/"+path, "uploadId="+u.ID, nil, nil)
	var list struct {
		Part []struct {
			PartNumber int
			ETag       string
		}
	}
	if err := xml.Unmarshal(a.Body, &list); err != nil || a.Status != 200 || len(list.Part) != 1 || list.Part[0].PartNumber != 2 || list.Part[0].ETag != u.ETag {
		c.t.Errorf("upload of %s: %d %v %s", path, a.Status, err, a.Body)
	}
}

// finishUploads adds the first parts of open uploads and completes them.
func (c *upgradeClient) finishUploads() {
	c.t.Helper()
	for _, path := range slices.Sorted(maps.Keys(c.Uploads)) {
		c.hasPart(path)
		u := c.Uploads[path]
		first := upgradeBody("first of "+path, 5<<20)
		etag := c.must("", "PUT", path, "partNumber=1&uploadId="+u.ID, nil, first).Header.Get("Etag")
		document := fmt.Sprintf("<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>%s</ETag></Part><Part><PartNumber>2</PartNumber><ETag>%s</ETag></Part></CompleteMultipartUpload>", etag, u.ETag)
		c.must("", "POST", path, "uploadId="+u.ID, nil, []byte(document))
		sums, _ := hex.DecodeString(strings.Trim(etag, `"`) + strings.Trim(u.ETag, `"`)) // wrong parts would cause a wrong ETag
		whole := append(first, upgradeBody(path, 2000)...)
		c.Objects[path] = &promisedObject{Size: len(whole), ETag: fmt.Sprintf("\"%x-2\"", md5.Sum(sums)), whole: whole}
		delete(c.Uploads, path)
	}
}

// lists checks that the listing of a bucket shows what was promised.
func (c *upgradeClient) lists(bucket string) {
	c.t.Helper()
	var l struct {
		Contents []struct{ Key, ETag string }
	}
	a := c.must("", "GET", bucket, "list-type=2", nil, nil)
	if err := xml.Unmarshal(a.Body, &l); err != nil {
		c.t.Fatalf("%v: %s", err, a.Body)
	}
	got, want := map[string]string{}, map[string]string{}
	for _, o := range l.Contents {
		got[bucket+"/"+o.Key] = o.ETag
	}
	for path, o := range c.Objects {
		if strings.HasPrefix(path, bucket+"/") && o.ETag != "" {
			want[path] = o.ETag
		}
	}
	if !maps.Equal(got, want) {
		c.t.Errorf("LIST %s: %v, promised %v", bucket, got, want)
	}
}

// isUpstream checks that what was written back is upstream as promised. Packs have other names
// there, and one bucket has other ETags.
func (c *upgradeClient) isUpstream(up *slowMemory) {
	c.t.Helper()
	for path, o := range c.Objects {
		bucket, key, _ := strings.Cut(path, "/")
		if bucket == "packs" || bucket == "backkms" || o.Dead {
			continue
		}
		body := upgradeBody(path, o.Size)
		if o.whole != nil {
			body = o.whole
		}
		there, ok := up.Get(keyIn(bucket, key))
		if ok != (o.ETag != "") || ok && (there.ETag != o.ETag || !bytes.Equal(there.Body, body)) {
			c.t.Errorf("upstream %s: %t, %s, promised %q", path, ok, there.ETag, o.ETag)
		}
		if meta := o.Header.Get("X-Amz-Meta-Path"); ok && meta != "" && there.Header.Get("X-Amz-Meta-Path") != meta {
			c.t.Errorf("upstream %s: %v", path, there.Header)
		}
	}
}

// sameJournals checks that both directories of a journal hold the same.
func sameJournals(t *testing.T, dir string) {
	t.Helper()
	read := func(side string) map[string]string {
		all := map[string]string{}
		for name, raw := range testkit.ReadTree(t, filepath.Join(dir, side)) {
			if ext := filepath.Ext(name); ext == ".seg" || ext == ".body" {
				all[filepath.Base(name)] = string(raw)
			}
		}
		return all
	}
	first, second := read(filepath.Join(mirroredData, "journal")), read(secondDir)
	if len(first) == 0 || !maps.Equal(first, second) {
		t.Errorf("the directories have %v and %v", slices.Collect(maps.Keys(first)), slices.Collect(maps.Keys(second)))
	}
}

// TestLongUpgrade_GoingBack: the previous release opens what this one leaves, as docs/upgrading.md
// describes, and this one opens that again. Everything pending is there each time, and in the end
// everything is upstream.
func TestLongUpgrade_GoingBack(t *testing.T) {
	long(t)
	previous := buildPrevious(t)
	for name, ends := range endings {
		t.Run(name, func(t *testing.T) {
			dir, p := unpackFixture(t)
			up, behind := startUpgradeUpstream(t, p.Upstream)
			r := turns{up: up, ends: ends, order: []string{"", previous, "", previous, ""}}
			r.takeAll(t, dir, behind, p)
		})
	}
}

// TestLongBothWays: this build and another one with the same formats, AKIGW_OLD, take turns on data
// directories, whichever of them made these. Each finds everything that the other left: pending
// writes, uploads, packs, data on disk, pins and users.
func TestLongBothWays(t *testing.T) {
	long(t)
	old := buildOld(t)
	o := options{plain: true, dir: t.TempDir(), release: old}
	startGateway(t, o).stop()
	_, err := os.Stat(filepath.Join(o.dir, "warm", "blocks"))
	noBlocks := errors.Is(err, fs.ErrNotExist)
	for first, order := range map[string][]string{"old first": {old, "", old, ""}, "new first": {"", old, "", old}} {
		for name, ends := range endings {
			t.Run(first+", "+name, func(t *testing.T) {
				dir := t.TempDir()
				p, up, behind := makeData(t, order[0], dir, ends)
				r := turns{up: up, ends: ends, alike: true, noBlocks: noBlocks, order: order[1:]}
				r.takeAll(t, dir, behind, p)
			})
		}
	}
}

// turns are the alternating epochs of two builds on one data directory.
type turns struct {
	t     *testing.T
	up    *slowMemory
	p     *promises
	ends  ending // of each turn
	alike bool   // both builds have the same formats, so nothing is lost between them
	// noBlocks means that the other build does not know the files that this one stores blocks in.
	noBlocks bool
	order    []string // paths of binaries, "" for this build; the last one leaves nothing pending
	bucket   string   // the bucket to write to
	o        options
}

// takeAll takes turns on all data directories of a fixture, each with its share of the promises.
func (r turns) takeAll(t *testing.T, dir string, behind upstream, p *promises) {
	t.Run("full", func(t *testing.T) {
		r.t, r.p, r.bucket = t, p.among("back", "backkms", "packs", "still", "strict"), "back"
		r.o = options{plain: true, upstream: behind, dir: filepath.Join(dir, fullData), config: upgradeConfig}
		r.take()
	})
	t.Run("two directories", func(t *testing.T) {
		r.t, r.p, r.bucket = t, p.among("backmirrored"), "backmirrored"
		r.o = options{plain: true, upstream: behind, dir: filepath.Join(dir, mirroredData), config: upgradeConfig, env: secondIn(dir)}
		r.take()
		sameJournals(t, dir)
	})
	t.Run("embedded", func(t *testing.T) {
		r.t, r.p = t, p.among("trial")
		r.o = options{plain: true, dir: filepath.Join(dir, embeddedData), config: upgradeConfig}
		r.takeEmbedded()
	})
}

// take takes the turns in front of an upstream in memory.
func (r *turns) take() {
	last := len(r.order) - 1
	for i, release := range r.order[:last] {
		r.turn(fmt.Sprintf("turn-%d", i), release)
	}
	r.up.down.Store(false)
	r.o.release = r.order[last]
	g := startGateway(r.t, r.o)
	waitDrained(r.t, g, 20*time.Second)
	c := newUpgradeClient(r.t, g, r.p)
	g.recovered(r.bucket + "/none")
	c.finishUploads()
	waitDrained(r.t, g, 20*time.Second)
	if r.bucket == "back" {
		c.operates(g)
		c.retryDead(g, r.up)
	}
	c.holds()
	c.lists(r.bucket)
	c.isUpstream(r.up)
	g.stop()
}

// takeEmbedded takes the turns with the embedded upstream.
func (r *turns) takeEmbedded() {
	for i, release := range r.order {
		r.o.release = release
		g := startGateway(r.t, r.o)
		c := newUpgradeClient(r.t, g, r.p)
		c.holds()
		path := fmt.Sprintf("trial/new-%d", i)
		a := c.must("", "PUT", path, "", nil, upgradeBody(path, 100))
		c.Objects[path] = &promisedObject{Size: 100, ETag: a.Header.Get("Etag")}
		c.begin(path+"-upload", false)
		if i > 0 {
			c.finishUploads()
		}
		c.lists("trial")
		r.ends.drained(g)
	}
}

// turn starts a release, at first without the upstream, on what the previous turn left. It flushes
// everything and leaves new writes pending.
func (r *turns) turn(name, release string) {
	r.t.Helper()
	refuseKey(r.up, "refused")
	r.up.down.Store(true)
	r.o.release = release
	g := startGateway(r.t, r.o)
	c := newUpgradeClient(r.t, g, r.p)
	c.noBlocks = release != "" && r.noBlocks
	c.holdsLocally()
	c.undated = release != "" && !r.alike // the previous release does not keep the dates of what it flushes
	if r.bucket == "back" {
		c.operates(g)
		if !r.ends.crashes { // counts are saved once a minute
			c.counts(g)
		}
	}
	r.up.down.Store(false)
	g.recovered(r.bucket+"/none", "strict/small", "packs/none")
	if r.alike {
		c.holdsOnDisk(g)
	}
	waitDrained(r.t, g, 20*time.Second)
	c.finishUploads()
	waitDrained(r.t, g, 20*time.Second)
	c.holds()
	c.isUpstream(r.up)
	for _, what := range []string{"deleted", "overwritten"} {
		c.put(fmt.Sprintf("%s/%s-%s", r.bucket, name, what), 200)
	}
	if r.bucket == "back" {
		c.put(fmt.Sprintf("packs/%s-packed", name), 100) // an unknown bucket is not written back without the upstream
		c.pin(g, "s3://packs/"+name)
		c.addReader(g, name)
	}
	c.begin(fmt.Sprintf("%s/%s-moved", r.bucket, name), true)
	waitDrained(r.t, g, 20*time.Second)
	time.Sleep(1500 * time.Millisecond) // facts about buckets are saved within a second
	c.flushed()
	r.up.down.Store(true)
	for what, size := range map[string]int{"inline": 300, "spooled": 5000, "overwritten": 250, "empty": 0} {
		c.put(fmt.Sprintf("%s/%s-%s", r.bucket, name, what), size)
	}
	c.remove(fmt.Sprintf("%s/%s-deleted", r.bucket, name))
	c.complete(fmt.Sprintf("%s/%s-completed", r.bucket, name))
	c.begin(fmt.Sprintf("%s/%s-upload", r.bucket, name), false)
	if r.bucket == "back" {
		c.put(fmt.Sprintf("packs/%s-pending", name), 500)
	}
	r.ends.pending(g)
	if (release == "" || r.alike) && r.bucket == "backmirrored" {
		r.doctor(g)
	}
	if r.ends.crashes {
		r.p.crashed()
	}
}

// doctor checks the two directories, as docs/upgrading.md asks for before going back.
func (r *turns) doctor(g *gateway) {
	r.t.Helper()
	cmd := g.command("doctor")
	cmd.Env = append(cmd.Env, r.o.env...)
	out, _ := cmd.CombinedOutput() // it also reports that the upstream is down
	if !strings.Contains(string(out), "neither had to be repaired from the other") {
		r.t.Errorf("doctor: %s", out)
	}
}
