package akigw

import "strings"

// Pattern names keys of one bucket: those that begin with a prefix, or a single one.
type Pattern struct {
	Bucket, Prefix string
	// Exactly says that Prefix is the whole key.
	Exactly bool
}

// Exactly returns the pattern that names one key, whatever its version.
func Exactly(key Key) Pattern {
	return Pattern{Bucket: key.Bucket, Prefix: key.Name, Exactly: true}
}

// Names reports whether p names key.
func (p Pattern) Names(key Key) bool {
	return key.Bucket == p.Bucket && (p.Exactly && key.Name == p.Prefix || !p.Exactly && strings.HasPrefix(key.Name, p.Prefix))
}

// Holds reports whether p names every key that other names.
func (p Pattern) Holds(other Pattern) bool {
	return p.Bucket == other.Bucket && (p.Exactly && other.Exactly && p.Prefix == other.Prefix || !p.Exactly && strings.HasPrefix(other.Prefix, p.Prefix))
}

// Key returns the key that p names if p.Exactly.
func (p Pattern) Key() Key { return Key{Bucket: p.Bucket, Name: p.Prefix} }
