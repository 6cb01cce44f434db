package meta

import (
	"cmp"
	"math"
	"strconv"
)

// number is the value of a JSON number, so that (near, rest) has the order of the values: near is the
// float64 next to it, and rest what an int64 has beyond that, -512 to 512. Integers that fit into an
// int64 are exact; all other numbers are float64, so that 0.1 equals 0.10, and 1e0 and 1.0 equal 1.
type number struct {
	near float64
	rest int16
}

func (n number) compare(other number) int {
	if c := cmp.Compare(n.near, other.near); c != 0 {
		return c
	}
	return cmp.Compare(n.rest, other.rest)
}

// parseNumber returns the value of a JSON number, not ok for any other text.
func parseNumber(text []byte) (number, bool) {
	if len(text) == 0 || text[0] != '-' && (text[0] < '0' || text[0] > '9') {
		return number{}, false
	}
	n, ok, whole := smallInteger(text)
	if ok {
		return number{near: float64(n)}, true
	}
	if whole {
		if n, err := strconv.ParseInt(string(text), 10, 64); err == nil {
			return integer(n), true
		}
	}
	f, err := strconv.ParseFloat(string(text), 64)
	return number{near: f + 0}, err == nil // -0 + 0 is 0
}

// smallInteger parses up to 15 digits, which float64 represents exactly. whole reports whether the text
// is an integer, of whatever length: strconv.ParseInt would allocate an error for any other.
func smallInteger(text []byte) (n int64, ok, whole bool) {
	digits := text
	if text[0] == '-' {
		digits = text[1:]
	}
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, false, false
		}
	}
	if len(digits) == 0 || len(digits) > 15 {
		return 0, false, true
	}
	for _, c := range digits {
		n = n*10 + int64(c-'0')
	}
	if len(digits) < len(text) {
		n = -n
	}
	return n, true, true
}

func integer(n int64) number {
	near := float64(n)
	if near >= 1<<63 {
		return number{near, int16(n-math.MaxInt64) - 1}
	}
	return number{near, int16(n - int64(near))}
}
