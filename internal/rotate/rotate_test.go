package rotate

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// read returns the files of a directory by name, decompressed.
func read(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	held := map[string]string{}
	for _, e := range entries {
		raw, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err == nil && strings.HasSuffix(e.Name(), ".gz") {
			var zip *gzip.Reader
			if zip, err = gzip.NewReader(bytes.NewReader(raw)); err == nil {
				raw, err = io.ReadAll(zip)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		if info, err := e.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", e.Name(), info.Mode())
		}
		held[e.Name()] = string(raw)
	}
	return held
}

// TestFile: the file stays within its bound. Full files are compressed under a name with the time, and
// the oldest are deleted. Other files are not touched.
func TestFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "logs")
	o := Options{Path: filepath.Join(dir, "audit.jsonl"), MaxBytes: 20, Keep: 3}
	f := New(o)
	if _, err := f.Write([]byte(strings.Repeat("x", 21))); err == nil {
		t.Error("a line longer than the file")
	}
	var written []string
	write := func(text string) {
		t.Helper()
		if n, err := f.Write([]byte(text)); n != len(text) || err != nil {
			t.Fatalf("%d %v", n, err)
		}
		time.Sleep(2 * time.Millisecond) // names have a resolution of milliseconds
	}
	for _, one := range []string{"1", "2", "3", "4", "5"} {
		line := strings.Repeat(one, 9) + "\n"
		write(line)
		write(line)
		written = append(written, line+line)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("x")); !errors.Is(err, os.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	check := func(want []string) {
		t.Helper()
		held := read(t, dir)
		var names, got []string
		for name := range held {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			got = append(got, held[name])
			if name != "audit.jsonl" && (!strings.HasPrefix(name, "audit-2") || !strings.HasSuffix(name, ".jsonl.gz")) && name != "audit-old.jsonl" {
				t.Errorf("%s is there", name)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
	check(append(slices.Clone(written[1:4]), written[4]))

	// The next epoch continues the file, completes what a crash has interrupted, and recognises files
	// that lumberjack has rotated.
	for name, text := range map[string]string{"audit-2020-01-02T03-04-05.678.jsonl": "oldest", "audit-2222-01-02T03-04-05.678.jsonl": "newest", "audit-2222-01-02T03-04-05.678.jsonl.gz": "", "audit-old.jsonl": "not ours"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f = New(o)
	write("6\n")
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	check([]string{written[3], written[4], "newest", "not ours", "6\n"})
}

// TestManyWriters: no line is torn or lost.
func TestManyWriters(t *testing.T) {
	dir := t.TempDir()
	f := New(Options{Path: filepath.Join(dir, "log"), MaxBytes: 4000, Keep: 1000})
	var writers sync.WaitGroup
	for range 4 {
		writers.Go(func() {
			for range 200 {
				if _, err := f.Write([]byte("0123456789012345678\n")); err != nil {
					t.Error(err)
				}
				time.Sleep(100 * time.Microsecond)
			}
		})
	}
	writers.Wait()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	lines := 0
	for name, text := range read(t, dir) {
		if len(text) > 4000 {
			t.Errorf("%s has %d bytes", name, len(text))
		}
		lines += strings.Count(text, "0123456789012345678\n")
	}
	if lines != 800 {
		t.Errorf("%d lines", lines)
	}
}
