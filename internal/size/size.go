// Package size parses and formats numbers of bytes, as in configuration files.
package size

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Bytes is a number of bytes that can be written as "256MiB".
type Bytes int64

type unit struct {
	suffix string
	bytes  int64
}

// units are those that a size may be written in, largest first.
func units() [6]unit {
	return [...]unit{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}, {"", 1}}
}

// UnmarshalText parses "512KiB", "256MiB", "10GiB", "1TiB" or a plain number of bytes.
func (s *Bytes) UnmarshalText(text []byte) error {
	for _, unit := range units() {
		number, ok := strings.CutSuffix(string(text), unit.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
		if err != nil || n < 0 || n > (1<<62)/unit.bytes {
			break
		}
		*s = Bytes(n * unit.bytes)
		return nil
	}
	return fmt.Errorf(`%q is not a size such as "256MiB", "10GiB" or 1048576`, text)
}

// MarshalText formats the size with the largest unit that divides it.
func (s Bytes) MarshalText() ([]byte, error) {
	for _, unit := range units() {
		if s != 0 && int64(s)%unit.bytes == 0 {
			return fmt.Appendf(nil, "%d%s", int64(s)/unit.bytes, unit.suffix), nil
		}
	}
	return []byte("0"), nil
}

// Human formats a number of bytes for people: "12 B", "3.4 GiB".
func Human(n int64) string {
	if n < 1<<10 {
		return fmt.Sprintf("%d B", n)
	}
	f, suffixes := float64(n), []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}
	for len(suffixes) > 1 && f >= 1<<10 {
		f, suffixes = f/(1<<10), suffixes[1:]
	}
	return fmt.Sprintf("%.1f %s", f, suffixes[0])
}

// OnDisk returns the number of bytes allocated to the files below dir, except those below other
// directories in it.
func OnDisk(dir string, except ...string) (sum int64) {
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && slices.Contains(except, path) {
			return fs.SkipDir
		}
		if err != nil || d.IsDir() {
			return nil // files may be removed during the walk
		}
		if info, err := d.Info(); err == nil {
			if st, ok := info.Sys().(*syscall.Stat_t); ok {
				sum += st.Blocks * 512
			}
		}
		return nil
	})
	return sum
}
