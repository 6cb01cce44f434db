package buckets

import (
	"net/http"
	"slices"
	"strings"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/writeback/facts"
)

// KindsOf returns the unusual kinds of a write to a key: whether they are accepted depends on the
// upstream. header has canonical names and may be nil, for a deletion. There are few kinds, so what
// was learned from one write holds for others.
func KindsOf(name string, header http.Header) (kinds []string) {
	kinds = keyKinds(name)
	if class := header.Get("X-Amz-Storage-Class"); class != "" && class != "STANDARD" {
		kinds = append(kinds, "storage-class "+clipKind(class))
	}
	if header.Get("X-Amz-Website-Redirect-Location") != "" {
		kinds = append(kinds, "website-redirect")
	}
	for name := range header {
		if sum, ok := strings.CutPrefix(name, "X-Amz-Checksum-"); ok && !usualSum(sum) {
			kinds = append(kinds, "checksum "+clipKind(sum))
		}
	}
	if sum := header.Get("X-Amz-Checksum-Algorithm"); sum != "" && !usualAlgorithm(sum) {
		kinds = append(kinds, "checksum "+clipKind(sum))
	}
	return kinds
}

// usualSum reports whether S3 has had a checksum header that ends in suffix for years.
func usualSum(suffix string) bool {
	switch suffix {
	case "Crc32", "Crc32c", "Crc64nvme", "Sha1", "Sha256", "Algorithm", "Type", "Mode":
		return true
	default:
		return false
	}
}

// usualAlgorithm reports whether S3 has had a value of x-amz-checksum-algorithm for years.
func usualAlgorithm(value string) bool {
	switch value {
	case "CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256":
		return true
	default:
		return false
	}
}

// clipKind limits the length of a client's value.
func clipKind(s string) string { return strings.ToUpper(s[:min(len(s), 32)]) }

// maxSegment is the longest segment of a key that an upstream on a file system can store.
const maxSegment = 255

// keyKinds returns the unusual kinds of a key: some upstreams refuse them, or store them under
// another name. It scans the bytes once and allocates nothing for most keys, which have none.
func keyKinds(name string) (kinds []string) {
	begun := 0 // start of the current segment
	for i := 0; i <= len(name); i++ {
		if i < len(name) && name[i] != '/' {
			switch c := name[i]; {
			case c == '\\':
				kinds = addKind(kinds, "key backslash")
			case c < ' ' || c == 0x7f:
				kinds = addKind(kinds, "key control-character")
			}
			continue
		}
		switch segment := name[begun:i]; {
		case segment == "" && i == 0 && i < len(name):
			kinds = addKind(kinds, "key leading-slash")
		case segment == "" && i < len(name):
			kinds = addKind(kinds, "key empty-segment")
		case segment == "." || segment == "..":
			kinds = addKind(kinds, "key dot-segment")
		case len(segment) > maxSegment:
			kinds = addKind(kinds, "key long-segment")
		}
		begun = i + 1
	}
	return kinds
}

func addKind(kinds []string, kind string) []string {
	if slices.Contains(kinds, kind) {
		return kinds
	}
	return append(kinds, kind)
}

// Missing returns the unusual kinds of a write that the upstream is not known to accept.
func (b *Buckets) Missing(key akigw.Key, header http.Header) (missing []string) {
	kinds := KindsOf(key.Name, header)
	if len(kinds) == 0 {
		return nil
	}
	f := b.book.Get(b.id(key.Bucket))
	return unaccepted(&f, kinds)
}

// unaccepted returns the kinds that the upstream is not known to accept.
func unaccepted(f *facts.Fact, kinds []string) (missing []string) {
	for _, kind := range kinds {
		if !f.Kinds[kind] {
			missing = append(missing, kind)
		}
	}
	return missing
}

// Accepted says that the upstream accepted a write that went through: from now on the journal can
// acknowledge writes of its kinds.
func (b *Buckets) Accepted(key akigw.Key, header http.Header) {
	for _, kind := range KindsOf(key.Name, header) {
		b.book.SetKind(b.id(key.Bucket), kind, true)
	}
}

// unrelated reports whether an error code has nothing to do with the kind of a write.
func unrelated(code string) bool {
	switch code {
	case "NoSuchBucket", "NoSuchUpload", "NoSuchKey", "EntityTooLarge", "EntityTooSmall", "InvalidPart", "InvalidPartOrder",
		"QuotaExceeded", "XMinioStorageFull", "InvalidBucketState", "PreconditionFailed":
		return true
	default:
		return false
	}
}

// Rejected implements uploadpool.Config.OnRejected: after a flush that was rejected for good,
// writes of its kinds go through.
func (b *Buckets) Rejected(key akigw.Key, header http.Header, code string) {
	if unrelated(code) {
		return
	}
	kinds := KindsOf(key.Name, header)
	if code == "InvalidStorageClass" {
		kinds = slices.DeleteFunc(kinds, func(kind string) bool { return !strings.HasPrefix(kind, "storage-class ") })
	}
	for _, kind := range kinds {
		b.book.SetKind(b.id(key.Bucket), kind, false)
		b.log.Warn("the upstream refused an acknowledged write of an unusual kind; writes of that kind go through from now on", "bucket", key.Bucket, "kind", kind, "code", code)
	}
}
