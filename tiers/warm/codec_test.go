package warm

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/tiers/warm/internal/blockfile"
)

var secret = bytes.Repeat([]byte("k"), 32)

func openSealed(t *testing.T, dir string, secret []byte) *Tier {
	t.Helper()
	tier, err := Open(Config{Dir: dir, Quota: 64 << 20, Format: "1", Secret: secret, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return tier
}

// random returns bytes that do not compress; text returns bytes that do.
func random(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func text(n int) []byte { return bytes.Repeat([]byte("all work and no play. "), n/22+1)[:n] }

// onDisk reports whether any file below dir contains s.
func onDisk(t *testing.T, dir, s string) bool {
	t.Helper()
	for _, raw := range testkit.ReadTree(t, dir) {
		if bytes.Contains(raw, []byte(s)) {
			return true
		}
	}
	return false
}

// TestValuesInEveryForm: a value reads back unchanged, whether sealed, compressed, both or neither.
func TestValuesInEveryForm(t *testing.T) {
	for _, key := range [][]byte{nil, secret} {
		for _, compress := range []bool{false, true} {
			t.Run(fmt.Sprintf("sealed %t compressed %t", key != nil, compress), func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), "warm")
				tier := openSealed(t, dir, key)
				run := Run{ID: 1, Object: 2, Handling: Handling{Compress: compress}}
				values := [][]byte{{}, []byte("x"), text(600), text(256 << 10), random(1, 256<<10), random(2, 5000)}
				for n, v := range values {
					tier.PutBlock(run, int64(n), v)
				}
				k := akigw.Key{Bucket: "bucket", Name: "name", Version: "v"}
				tier.PutEntry(k, text(2000), []byte("summary"), run.Handling)
				closeTier(t, tier)
				tier = openSealed(t, dir, key)
				defer closeTier(t, tier)
				for n, v := range values {
					if got, ok := tier.Block(run, int64(n), make([]byte, 0, 1<<20)); !ok || !bytes.Equal(got, v) {
						t.Errorf("value %d: %t, %d bytes, want %d", n, ok, len(got), len(v))
					}
				}
				if got, ok := tier.Entry(k); !ok || !bytes.Equal(got, text(2000)) {
					t.Errorf("record: %t, %d bytes", ok, len(got))
				}
			})
		}
	}
}

// TestCompressionSavesDisk: compressible blocks take less disk space, others no more than before.
func TestCompressionSavesDisk(t *testing.T) {
	c, err := newCodec(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	key := blockKey(Run{ID: 1}, 1)
	for _, v := range []struct {
		name  string
		value []byte
		most  int
	}{{"text", text(256 << 10), 32 << 10}, {"noise", random(1, 256<<10), 256<<10 + 5}, {"small", text(100), 105}} {
		stored, err := c.encode(key, v.value, true)
		if err != nil || len(stored) > v.most {
			t.Errorf("%s: %d bytes stored, want at most %d (%v)", v.name, len(stored), v.most, err)
		}
	}
}

// TestEncryptionAtRest looks at the bytes on disk: neither contents nor names are readable. A value
// in the wrong place, or another secret, cannot be decrypted.
//
// Scenarios: S48.
func TestEncryptionAtRest(t *testing.T) {
	const canary = "canary-in-the-coal-mine"
	k := akigw.Key{Bucket: "bucket-of-the-canary", Name: "name-of-the-canary"}
	run := Run{ID: 7, Object: 0x6f626a6563746e6f} // "objectno": a hash of the name
	body := []byte(strings.Repeat(canary, 3000))
	put := func(dir string, secret []byte) {
		tier := openSealed(t, dir, secret)
		tier.PutEntry(k, []byte("record "+canary), []byte("summary "+canary), Handling{})
		tier.PutBlock(run, 0, body)
		tier.PutBlock(run, 1, random(1, len(body)))
		closeTier(t, tier)
	}
	plain, sealed := filepath.Join(t.TempDir(), "plain"), filepath.Join(t.TempDir(), "sealed")
	put(plain, nil)
	put(sealed, secret)
	for _, s := range []string{canary, k.Bucket, k.Name, "objectno"} {
		if !onDisk(t, plain, s) {
			t.Errorf("%q is not even in the unencrypted directory: the test looks in the wrong place", s)
		}
		if onDisk(t, sealed, s) {
			t.Errorf("%q is readable on disk", s)
		}
	}
	tier := openSealed(t, sealed, secret)
	if got, ok := tier.Block(run, 0, nil); !ok || !bytes.Equal(got, body) {
		t.Error("the block did not come back")
	}
	swap(t, tier, tier.blocks.id(run, 0), tier.blocks.id(run, 1))
	for n := range int64(2) {
		if _, ok := tier.Block(run, n, nil); ok {
			t.Errorf("block %d was served from another's place", n)
		}
	}
	closeTier(t, tier)
	for name, other := range map[string][]byte{"another secret": bytes.Repeat([]byte("o"), 32), "none": nil} {
		dir := filepath.Join(t.TempDir(), "warm")
		if err := os.CopyFS(dir, os.DirFS(sealed)); err != nil {
			t.Fatal(err)
		}
		tier := openSealed(t, dir, other)
		if _, ok := tier.Entry(k); ok {
			t.Errorf("%s opened a record", name)
		}
		closeTier(t, tier)
	}
}

// swap stores two blocks in each other's place: only the encryption can notice.
func swap(t *testing.T, tier *Tier, a, b blockfile.ID) {
	t.Helper()
	type stored struct {
		done    byte
		payload []byte
	}
	raw := func(id blockfile.ID) (s stored) {
		var err error
		if s.done, s.payload, err = tier.blocks.Get(id, func(byte, int) []byte { return nil }); err != nil {
			t.Fatal(err)
		}
		return s
	}
	x, y := raw(a), raw(b)
	if err := errors.Join(tier.blocks.Put(a, y.done, y.payload), tier.blocks.Put(b, x.done, x.payload)); err != nil {
		t.Fatal(err)
	}
}

// FuzzDecodeValue: whatever is on the disk, decoding neither panics nor hangs, and an encrypted
// tier accepts nothing that it did not seal.
func FuzzDecodeValue(f *testing.F) {
	key := blockKey(Run{ID: 1}, 2)
	var codecs []*codec
	for _, s := range [][]byte{nil, secret} {
		c, err := newCodec(s)
		if err != nil {
			f.Fatal(err)
		}
		codecs = append(codecs, c)
		for _, compress := range []bool{false, true} {
			stored, err := c.encode(key, text(5000), compress)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(stored[4:])
		}
	}
	f.Fuzz(func(t *testing.T, stored []byte) {
		if value, err := codecs[0].decode(key, stored); err == nil && len(value) > maxValue {
			t.Errorf("%d bytes of %d", len(value), len(stored))
		}
		if value, err := codecs[1].decode(key, stored); err == nil && !bytes.Equal(value, text(5000)) {
			t.Errorf("opened %d bytes that were never sealed", len(value))
		}
	})
}

// TestPinnedIsNeverEvicted: ten times the quota is written. Pinned values stay, others are evicted,
// and a pin that does not fit is refused.
//
// Scenarios: D10.
func TestPinnedIsNeverEvicted(t *testing.T) {
	const quota = 32 << 20
	tier, err := Open(Config{Dir: filepath.Join(t.TempDir(), "warm"), Quota: quota, Format: "1", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	e := newEvictor(tier)
	key := func(n int) akigw.Key { return akigw.Key{Bucket: "bucket", Name: fmt.Sprint(n)} }
	block := random(1, 64<<10)
	for n := range 32 { // 2 MiB
		run := Run{ID: uint64(n), Object: uint64(n), Handling: Handling{Wanted: true}}
		tier.PutBlock(run, 0, block)
		tier.PutEntry(key(n), []byte("record"), []byte("summary"), run.Handling)
		if !tier.Pin(key(n), run.ID, int64(len(block))) {
			t.Fatal("a pin that fits was refused")
		}
	}
	if tier.Pin(key(99), 99, quota) {
		t.Error("a pin that does not fit was accepted")
	}
	before := tier.counters.evicted.Get()
	for n := range 10 * quota / len(block) {
		tier.PutBlock(Run{ID: uint64(1000 + n), Object: uint64(1000 + n), Handling: Handling{Wanted: true}}, 0, block)
		if n%64 == 0 {
			e.step() // as Run does
		}
	}
	if tier.counters.evicted.Get() == before {
		t.Error("nothing was evicted: the path was not exercised")
	}
	for n := range 32 {
		_, block := tier.Block(Run{ID: uint64(n), Object: uint64(n)}, 0, nil)
		if _, record := tier.Entry(key(n)); !block || !record {
			t.Errorf("pinned object %d: block %t, record %t", n, block, record)
		}
	}
	if tier.Pinned() != 32*int64(len(block)) {
		t.Errorf("%d bytes pinned", tier.Pinned())
	}
	tier.Repin(func() { tier.Pin(key(0), 0, int64(len(block))) })
	if err := tier.DropEntry(key(0)); err != nil || tier.Pinned() != 0 {
		t.Errorf("%d bytes pinned after all pins ended (%v)", tier.Pinned(), err)
	}
	closeTier(t, tier)
}
