package tiers

import (
	"strings"

	"github.com/akidb/akigw"
)

// Pattern names keys of a bucket: those that begin with a prefix, or one alone.
type Pattern struct {
	Bucket, Prefix string
	// Exactly says that Prefix is the whole key.
	Exactly bool
}

func (p Pattern) names(key akigw.Key) bool {
	return key.Bucket == p.Bucket && (p.Exactly && key.Name == p.Prefix || !p.Exactly && strings.HasPrefix(key.Name, p.Prefix))
}

// holds reports whether all that other names is named by p.
func (p Pattern) holds(other Pattern) bool {
	return p.Bucket == other.Bucket && (p.Exactly && other.Exactly && p.Prefix == other.Prefix || !p.Exactly && strings.HasPrefix(other.Prefix, p.Prefix))
}

// key is the key of a pattern that names one.
func (p Pattern) key() akigw.Key { return akigw.Key{Bucket: p.Bucket, Name: p.Prefix} }

// exactly names one key.
func exactly(key akigw.Key) Pattern {
	return Pattern{Bucket: key.Bucket, Prefix: key.Name, Exactly: true}
}
