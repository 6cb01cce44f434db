// Package vectors is the vocabulary of vector collections, as Amazon S3 Vectors defines them: vector
// buckets, indexes, vectors, their names and ARNs, and the errors of the API. A collection is an index
// of a vector bucket.
//
// The package stores nothing and serves nothing: vectors/store keeps the collections, vectors/api
// answers the requests. It imports little.
package vectors

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"time"
)

// The limits of S3 Vectors.
const (
	// MaxDimension is the largest dimension of an index.
	MaxDimension = 4096
	// MaxKeyBytes is the size of the longest key of a vector, in bytes of UTF-8.
	MaxKeyBytes = 1024
	// MaxPut is how many vectors a PutVectors call may have, and how many keys DeleteVectors.
	MaxPut = 500
	// MaxGet is how many keys a GetVectors call may have.
	MaxGet = 100
	// MaxTopK is the largest topK of QueryVectors.
	MaxTopK = 100
	// MaxMetadataKeys is how many metadata keys a vector may have.
	MaxMetadataKeys = 50
	// MaxMetadataBytes is the size of the largest metadata of a vector, in bytes of compact JSON.
	MaxMetadataBytes = 40 << 10
	// MaxFilterableBytes is how many of them may belong to filterable keys.
	MaxFilterableBytes = 2 << 10
	// MaxSegments is how many segments a listing may be divided into (ListVectors).
	MaxSegments = 16
	// MaxNonFilterable is how many metadata keys of an index may be declared as not filterable.
	MaxNonFilterable = 10
	// MaxTags is how many tags a resource may have.
	MaxTags = 50
)

// Metric is the distance metric of an index.
type Metric string

// The metrics.
const (
	Cosine    Metric = "cosine"
	Euclidean Metric = "euclidean"
)

// Bucket is a vector bucket. Values are shared and must not be changed.
type Bucket struct {
	Name string
	// Incarnation tells the bucket from earlier and later ones of the same name.
	Incarnation Incarnation
	Created     time.Time
	// SSE is the encryption that the client asked for, "" for none.
	SSE  string
	Tags map[string]string // nil for none
	// Policy is the bucket's policy document, "" for none (PutVectorBucketPolicy).
	Policy string
}

// Index is a collection of vectors of one dimension. Values are shared and must not be changed.
type Index struct {
	Bucket, Name string
	// Incarnation tells the index from earlier and later ones of the same name.
	Incarnation Incarnation
	Created     time.Time
	// Dimension is how many float32 values each vector has, 1 to MaxDimension.
	Dimension int
	Metric    Metric
	// NonFilterable are the metadata keys that no filter may name.
	NonFilterable []string
	// SSE is the encryption that the client asked for, "" for the bucket's.
	SSE  string
	Tags map[string]string // nil for none
}

// Vector is a vector with its key and metadata.
type Vector struct {
	Key  string
	Data []float32
	// Metadata is compact JSON of one object, nil for none. Numbers are as the client wrote them.
	Metadata []byte
}

// Hit is a vector that a search has found, and its distance.
type Hit struct {
	Vector
	Distance float32
}

// Incarnation identifies one lifetime of a bucket or index: what is deleted and created again under
// the same name has another one. It is 32 hexadecimal digits.
type Incarnation string

// NewIncarnation returns an incarnation that was never used before.
func NewIncarnation() Incarnation {
	var raw [16]byte
	rand.Read(raw[:]) // it never fails
	return Incarnation(hex.EncodeToString(raw[:]))
}

// Valid reports whether i has the form of an incarnation.
func (i Incarnation) Valid() bool {
	raw, err := hex.DecodeString(string(i))
	return err == nil && len(raw) == 16 && hex.EncodeToString(raw) == string(i)
}

// Hash is the position of a key in the order of a collection: vectors are listed and stored by
// ascending hash, and by key where two hashes are equal.
type Hash [16]byte

// HashKey returns the hash of a key: the first 128 bits of its SHA-256.
func HashKey(key string) Hash {
	sum := sha256.Sum256([]byte(key))
	return Hash(sum[:16])
}
