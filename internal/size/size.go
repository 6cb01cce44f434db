// Package size is the numbers of bytes of configuration files.
package size

import (
	"fmt"
	"strconv"
	"strings"
)

// Bytes is a number of bytes that a configuration file may write as "256MiB".
type Bytes int64

var units = []struct {
	suffix string
	bytes  int64
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}, {"", 1}}

// UnmarshalText reads "512KiB", "256MiB", "10GiB", "1TiB" or a plain number of
// bytes.
func (s *Bytes) UnmarshalText(text []byte) error {
	for _, unit := range units {
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

// MarshalText writes the size with the largest unit that divides it.
func (s Bytes) MarshalText() ([]byte, error) {
	for _, unit := range units {
		if s != 0 && int64(s)%unit.bytes == 0 {
			return fmt.Appendf(nil, "%d%s", int64(s)/unit.bytes, unit.suffix), nil
		}
	}
	return []byte("0"), nil
}
