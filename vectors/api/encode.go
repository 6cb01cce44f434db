package api

import (
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/akidb/akigw/vectors"
)

// document is a JSON response that is being written. Members are appended in the order of the calls.
type document []byte

// name begins a member of the object that was begun last.
func (d document) name(name string) document {
	if c := d[len(d)-1]; c != '{' {
		d = append(d, ',')
	}
	d = append(d, '"')
	d = append(d, name...)
	return append(d, '"', ':')
}

func (d document) text(s string) document {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			quoted, _ := json.Marshal(s) // a string always has JSON
			return append(d, quoted...)
		}
	}
	d = append(d, '"')
	d = append(d, s...)
	return append(d, '"')
}

// member appends a member with a string.
func (d document) member(name, value string) document { return d.name(name).text(value) }

// time appends a member with a time: seconds since 1970, with milliseconds.
func (d document) time(name string, t time.Time) document {
	ms := t.UnixMilli()
	d = strconv.AppendInt(d.name(name), ms/1000, 10)
	if ms %= 1000; ms != 0 {
		d = append(d, '.', byte('0'+ms/100), byte('0'+ms/10%10), byte('0'+ms%10))
	}
	return d
}

// float appends a number with as few digits as tell it from every other float32.
func (d document) float(f float32) document {
	format := byte('f')
	if size := math.Abs(float64(f)); size != 0 && (size < 1e-6 || size >= 1e21) {
		format = 'e'
	}
	return strconv.AppendFloat(d, float64(f), format, -1, 32)
}

// vector appends an object with a vector: its key, and the parts that are wanted. distance is for the
// results of a search.
func (d document) vector(v vectors.Vector, w wants, distance float32) document {
	d = append(d, '{').member("key", v.Key)
	if w.distance {
		d = d.name("distance").float(distance)
	}
	if w.data {
		d = append(d.name("data"), `{"float32":[`...)
		for i, f := range v.Data {
			if i > 0 {
				d = append(d, ',')
			}
			d = d.float(f)
		}
		d = append(d, "]}"...)
	}
	if w.metadata && v.Metadata != nil {
		d = append(d.name("metadata"), v.Metadata...)
	}
	return append(d, '}')
}

// tags appends a member with tags, in the order of their keys.
func (d document) tags(name string, tags map[string]string) document {
	d = append(d.name(name), '{')
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		if d[len(d)-1] != '{' {
			d = append(d, ',')
		}
		d = append(d.text(key), ':').text(tags[key])
	}
	return append(d, '}')
}
