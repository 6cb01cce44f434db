package api

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/akidb/akigw/vectors"
)

// request is the decoded body of a request. Absent members are zero.
type request struct {
	bucketName, bucketARN, indexName, indexARN string

	create  creation
	page    page
	wants   wants
	tags    map[string]string
	policy  string
	keys    []string
	vectors []putVector
	sought  []float32 // queryVector
	topK    int
	filter  []byte // a part of the body; nil: none

	seen map[string]bool // the members that the body has
}

// creation is what a bucket or an index is created with.
type creation struct {
	dataType, metric string
	dimension        int
	nonFilterable    []string
	sse              string
}

// page is what a listing is asked for.
type page struct {
	max               int // 0: the default
	token, prefix     string
	segments, segment int // 0 segments: all is one
}

// wants are the parts of vectors that are asked for.
type wants struct{ data, metadata, distance bool }

// putVector is a vector as it arrived. Its metadata is a part of the body.
type putVector struct {
	key      string
	data     []float32
	metadata []byte
}

// members decodes the members of bodies, by name. One that an operation does not have is ignored, as
// the service does.
var members = map[string]func(s *scanner, r *request){
	"vectorBucketName":        func(s *scanner, r *request) { r.bucketName = s.text("/vectorBucketName") },
	"vectorBucketArn":         func(s *scanner, r *request) { r.bucketARN = s.text("/vectorBucketArn") },
	"indexName":               func(s *scanner, r *request) { r.indexName = s.text("/indexName") },
	"indexArn":                func(s *scanner, r *request) { r.indexARN = s.text("/indexArn") },
	"dataType":                func(s *scanner, r *request) { r.create.dataType = s.oneOf("/dataType", "float32") },
	"distanceMetric":          func(s *scanner, r *request) { r.create.metric = s.oneOf("/distanceMetric", "euclidean", "cosine") },
	"dimension":               func(s *scanner, r *request) { r.create.dimension = s.integer("/dimension", 1, vectors.MaxDimension) },
	"encryptionConfiguration": decodeEncryption,
	"metadataConfiguration":   decodeMetadataConfiguration,
	"tags":                    decodeTags,
	"policy":                  func(s *scanner, r *request) { r.policy = s.text("/policy") },
	"maxResults":              func(s *scanner, r *request) { r.page.max = s.integer("/maxResults", 1, maxVectorsPage) },
	"nextToken":               func(s *scanner, r *request) { r.page.token = s.bounded("/nextToken", 2048) },
	"prefix":                  func(s *scanner, r *request) { r.page.prefix = s.bounded("/prefix", 63) },
	"segmentCount":            func(s *scanner, r *request) { r.page.segments = s.integer("/segmentCount", 1, vectors.MaxSegments) },
	"segmentIndex":            func(s *scanner, r *request) { r.page.segment = s.integer("/segmentIndex", 0, vectors.MaxSegments-1) },
	"returnData":              func(s *scanner, r *request) { r.wants.data = s.boolean("/returnData") },
	"returnMetadata":          func(s *scanner, r *request) { r.wants.metadata = s.boolean("/returnMetadata") },
	"returnDistance":          func(s *scanner, r *request) { r.wants.distance = s.boolean("/returnDistance") },
	"topK":                    func(s *scanner, r *request) { r.topK = s.integer("/topK", 1, vectors.MaxTopK) },
	"queryVector":             func(s *scanner, r *request) { r.sought = s.vectorData("/queryVector") },
	"filter":                  func(s *scanner, r *request) { r.filter = s.raw() },
	"keys":                    decodeKeys,
	"vectors":                 decodeVectors,
}

// decode decodes the body of an operation, which has the members with the given names; required must
// be there. An empty body is an empty object.
func decode(body []byte, names, required []string) (*request, error) {
	r := &request{seen: map[string]bool{}}
	s := &scanner{in: body}
	if s.next() != 0 || s.at < len(body) {
		s.object("", func(name string) {
			if !slices.Contains(names, name) {
				s.skip()
				return
			}
			r.seen[name] = true
			members[name](s, r)
		})
		s.end()
	}
	if s.err != nil {
		return nil, s.err
	}
	for _, name := range required {
		if !r.seen[name] {
			return nil, vectors.Invalid("/"+name, "must not be null")
		}
	}
	return r, nil
}

// oneOf reads a string that is one of some values.
func (s *scanner) oneOf(path string, values ...string) string {
	text := s.text(path)
	if s.err == nil && !slices.Contains(values, text) {
		s.invalid(path, "must be one of: %s", strings.Join(values, ", "))
	}
	return text
}

// bounded reads a string of 1 to most characters.
func (s *scanner) bounded(path string, most int) string {
	text := s.text(path)
	if n := utf8.RuneCountInString(text); s.err == nil && (n < 1 || n > most) {
		s.invalid(path, "must have 1 to %d characters", most)
	}
	return text
}

func decodeEncryption(s *scanner, r *request) {
	s.object("/encryptionConfiguration", func(name string) {
		switch name {
		case "sseType":
			r.create.sse = s.oneOf("/encryptionConfiguration/sseType", "AES256", "aws:kms")
			if r.create.sse == "aws:kms" {
				s.invalid("/encryptionConfiguration/sseType", "must be AES256: this gateway has no KMS keys")
			}
		case "kmsKeyArn":
			s.invalid("/encryptionConfiguration/kmsKeyArn", "must be absent: this gateway has no KMS keys")
		default:
			s.skip()
		}
	})
}

func decodeMetadataConfiguration(s *scanner, r *request) {
	const path = "/metadataConfiguration/nonFilterableMetadataKeys"
	s.object("/metadataConfiguration", func(name string) {
		if name != "nonFilterableMetadataKeys" {
			s.skip()
			return
		}
		s.array(path, func(i int) {
			at := fmt.Sprintf("%s/%d", path, i)
			key := s.bounded(at, 63)
			switch {
			case i >= vectors.MaxNonFilterable:
				s.invalid(path, "must have at most %d keys", vectors.MaxNonFilterable)
			case slices.Contains(r.create.nonFilterable, key):
				s.invalid(at, "occurs twice")
			}
			r.create.nonFilterable = append(r.create.nonFilterable, key)
		})
	})
	if len(r.create.nonFilterable) == 0 {
		s.invalid(path, "must have 1 to %d keys", vectors.MaxNonFilterable)
	}
}

// tagText is what tags consist of, as the service's model has it.
var tagText = regexp.MustCompile(`^[\p{L}\p{Z}\p{N}_.:/=+\-@]*$`)

func decodeTags(s *scanner, r *request) {
	r.tags = map[string]string{}
	s.object("/tags", func(key string) {
		value := s.text("/tags/" + clip(key))
		if s.err == nil {
			s.err = checkTag(key, value)
		}
		if r.tags[key] = value; len(r.tags) > vectors.MaxTags {
			s.invalid("/tags", "must have at most %d tags", vectors.MaxTags)
		}
	})
}

// checkTag checks a tag, or a key alone.
func checkTag(key, value string) error {
	path := "/tags/" + clip(key)
	switch n := utf8.RuneCountInString(key); {
	case n < 1 || n > 128 || !tagText.MatchString(key):
		return vectors.Invalid(path, "must have a key of 1 to 128 letters, digits, spaces or _.:/=+-@")
	case strings.HasPrefix(strings.ToLower(key), "aws:"):
		return vectors.Invalid(path, "must not have a key that begins with aws:")
	case utf8.RuneCountInString(value) > 256 || !tagText.MatchString(value):
		return vectors.Invalid(path, "must have a value of at most 256 letters, digits, spaces or _.:/=+-@")
	}
	return nil
}

// key reads the key of a vector.
func (s *scanner) key(path string) string {
	key := s.text(path)
	if s.err == nil && (key == "" || len(key) > vectors.MaxKeyBytes) {
		s.invalid(path, "must have 1 to %d bytes", vectors.MaxKeyBytes)
	}
	return key
}

// decodeKeys reads the keys of GetVectors or DeleteVectors, each once. The operation checks how many
// there may be.
func decodeKeys(s *scanner, r *request) {
	once := map[string]bool{}
	s.array("/keys", func(i int) {
		if i >= vectors.MaxPut {
			s.invalid("/keys", "must have at most %d keys", vectors.MaxPut)
			return
		}
		key := s.key(fmt.Sprintf("/keys/%d", i))
		if !once[key] {
			r.keys = append(r.keys, key)
		}
		once[key] = true
	})
	if len(r.keys) == 0 {
		s.invalid("/keys", "must not be empty")
	}
}

// vectorData reads a VectorData, which has one member.
func (s *scanner) vectorData(path string) (data []float32) {
	s.object(path, func(name string) {
		if name != "float32" {
			s.invalid(path, "must have the member float32 alone")
			return
		}
		data = s.floats(path + "/float32")
	})
	if len(data) == 0 {
		s.invalid(path+"/float32", "must not be empty")
	}
	return data
}

func decodeVectors(s *scanner, r *request) {
	where := map[string]int{}
	s.array("/vectors", func(i int) {
		if i >= vectors.MaxPut {
			s.invalid("/vectors", "must have at most %d vectors", vectors.MaxPut)
			return
		}
		path := fmt.Sprintf("/vectors/%d", i)
		v, keyed := putVector{}, false
		s.object(path, func(name string) {
			switch name {
			case "key":
				v.key, keyed = s.key(path+"/key"), true
			case "data":
				v.data = s.vectorData(path + "/data")
			case "metadata":
				v.metadata = s.raw()
			default:
				s.skip()
			}
		})
		first, twice := where[v.key]
		switch {
		case s.err != nil:
		case !keyed:
			s.invalid(path+"/key", "must not be null")
		case v.data == nil:
			s.invalid(path+"/data", "must not be null")
		case twice:
			s.invalid(path+"/key", "is the key of /vectors/%d, too", first)
		}
		where[v.key] = i
		r.vectors = append(r.vectors, v)
	})
	if len(r.vectors) == 0 {
		s.invalid("/vectors", "must not be empty")
	}
}
