package akigw

import "strings"

// Pattern selects keys of one bucket: all keys with a prefix, or a single key.
type Pattern struct {
	Bucket, Prefix string
	// Exactly means that Prefix is the whole key.
	Exactly bool
}

// Exactly returns the pattern that matches one key, whatever its version.
func Exactly(key Key) Pattern {
	return Pattern{Bucket: key.Bucket, Prefix: key.Name, Exactly: true}
}

// Names reports whether p matches key.
func (p Pattern) Names(key Key) bool {
	return key.Bucket == p.Bucket && (p.Exactly && key.Name == p.Prefix || !p.Exactly && strings.HasPrefix(key.Name, p.Prefix))
}

// Holds reports whether p matches every key that other matches.
func (p Pattern) Holds(other Pattern) bool {
	return p.Bucket == other.Bucket && (p.Exactly && other.Exactly && p.Prefix == other.Prefix || !p.Exactly && strings.HasPrefix(other.Prefix, p.Prefix))
}

// Key returns the key that p matches if p.Exactly is set.
func (p Pattern) Key() Key { return Key{Bucket: p.Bucket, Name: p.Prefix} }
