package journal

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/akidb/akigw/internal/vfs"
)

// legacy rewrites the segments of a closed journal in the format of a gateway that had neither
// epoch nonces nor checksums for the tables of bodies. It also removes the side file.
func legacy(t *testing.T, tr tree, side string) {
	t.Helper()
	delete(tr, side+"/"+sideFile)
	offsets := map[uint64]map[int64]int64{} // of records, by segment: old to new offset
	for _, name := range sortedNames(tr) {
		if !strings.HasPrefix(name, side+"/") || !strings.HasSuffix(name, ".seg") {
			continue
		}
		id, _ := segmentID(filepath.Base(name))
		moved := map[int64]int64{0: 0}
		offsets[id] = moved
		var b []byte
		for at, number := int64(0), uint64(0); at < int64(len(tr[name])); {
			o, f, n := recordAt(tr[name], at, number)
			if n == 0 {
				t.Fatalf("%s: no record at %d", name, at)
			}
			o.checks = nil
			if o.kind == kindSegment {
				o.seg.nonce = 0
				o.seg.length = offsets[o.seg.before][o.seg.length]
			}
			if o.kind == kindSegment {
				o.data = nil
			}
			b = appendFrame(b, f.number, moved[f.durable], o.encode(nil))
			at, number = at+int64(n), f.number
			moved[at] = int64(len(b))
		}
		tr[name] = b
	}
	if end := decodeEnd(tr[side+"/"+endFile]); end.segment != 0 {
		o := op{kind: kindSegment, seg: segmentHead{id: end.segment, length: offsets[end.segment][end.to]}}
		tr[side+"/"+endFile] = appendFrame(nil, 1, 0, o.encode(nil))
	}
}

// TestSecondDirectory_OfAnOlderGateway: directories without nonces, table checksums and side files
// are accepted: both together, one of them damaged, one alone, and one that gets a second
// directory.
func TestSecondDirectory_OfAnOlderGateway(t *testing.T) {
	base, want := mirroredSample(t, 7, 2)
	legacy(t, base, "0")
	legacy(t, base, "1")
	for name, raw := range base {
		if strings.HasSuffix(name, ".seg") && !bytes.Equal(raw, base["0"+name[1:]]) {
			t.Fatalf("%s differs", name)
		}
	}
	if err := survives(t, base, want); err != nil {
		t.Errorf("as it was: %v", err)
	}
	for side := range 2 {
		for _, name := range base.precious(side, true) {
			for what, damage := range map[string]func(tr tree){
				"missing": func(tr tree) { delete(tr, name) },
				"a bit":   func(tr tree) { tr[name][len(tr[name])/2] ^= 1 },
			} {
				damaged := base.clone()
				damage(damaged)
				if err := survives(t, damaged, want); err != nil {
					if what == "missing" && side == 0 && strings.HasSuffix(name, lastSegment(base)) && strings.Contains(err.Error(), "behind") {
						continue // it cannot be told from a directory that was missing for a while: it is refused, and nothing is lost
					}
					t.Errorf("%s, %s: %v", name, what, err)
				}
			}
		}
	}
	single := base.clone()
	for name := range single {
		if strings.HasPrefix(name, "1/") {
			delete(single, name)
		}
	}
	if err := survives(t, single, want); err != nil {
		t.Errorf("an empty second directory: %v", err)
	}
}

func lastSegment(tr tree) (last string) {
	for name := range tr {
		if strings.HasSuffix(name, ".seg") {
			last = max(last, filepath.Base(name))
		}
	}
	return last
}

// TestOlderGatewayAlone: a single directory of an older gateway is read without a side file.
func TestOlderGatewayAlone(t *testing.T) {
	base, want := mirroredSample(t, 8, 1)
	legacy(t, base, "0")
	dir := t.TempDir()
	for name, raw := range base {
		if !strings.HasPrefix(name, "0/") {
			continue
		}
		path := filepath.Join(dir, name[2:])
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	j := open(t, smallConfig(vfs.Disk{}, dir))
	if err := complete(j, want); err != nil {
		t.Error(err)
	}
	j = reopen(t, j)
	if err := complete(j, want); err != nil {
		t.Error(err)
	}
	j.Close()
	if _, err := os.Stat(filepath.Join(dir, sideFile)); !os.IsNotExist(err) {
		t.Errorf("a directory that never had a second one has a side file: %v", err)
	}
}

func sortedNames(tr tree) []string {
	names := make([]string, 0, len(tr))
	for name := range tr {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
