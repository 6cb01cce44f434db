package gateway

import (
	"net/http"
	"path"
	"strings"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/s3err"
)

// Reserved are the keys of a bucket that begin with a prefix, which ends with a slash. S3 clients have
// no access to them, whatever their policies say, and cannot change the configuration of the bucket or
// delete it. The zero value reserves nothing.
type Reserved struct{ Bucket, Prefix string }

// in reports whether there are reserved keys in a bucket.
func (r Reserved) in(bucket string) bool { return r.Bucket != "" && r.Bucket == bucket }

// covers reports whether a name in a listing is reserved.
func (r Reserved) covers(bucket, name string) bool {
	return r.in(bucket) && strings.HasPrefix(name, r.Prefix)
}

// has reports whether a client's key is reserved: in the spelling of any upstream that takes keys for
// paths, or as the object that such an upstream could not have beside the prefix.
func (r Reserved) has(key akigw.Key) bool {
	if !r.in(key.Bucket) || key.Name == "" {
		return false
	}
	cleaned := path.Clean("/" + key.Name)[1:] + "/"
	return strings.HasPrefix(key.Name, r.Prefix) || strings.HasPrefix(cleaned, r.Prefix)
}

// check refuses a call that reaches reserved keys. The keys of DeleteObjects are decided one by one.
func (r Reserved) check(c *call) error {
	if r.has(c.key) || c.source != nil && r.has(c.source.key) {
		return s3err.AccessDenied.With("Keys that begin with " + r.Prefix + " belong to vector collections in this bucket.")
	}
	if r.in(c.key.Bucket) && c.level() == BucketLevel && !r.leaves(c) {
		return s3err.AccessDenied.With("This bucket has vector collections: it cannot be deleted or configured through the gateway.")
	}
	return nil
}

// leaves reports whether a call of the whole bucket leaves the reserved keys alone.
func (r Reserved) leaves(c *call) bool {
	switch c.route.Op {
	case "Other": // whatever it is: also a listing with a parameter that the gateway does not know
		return false
	case "DeleteObjects":
		return true
	case "CreateBucket": // it changes no bucket that exists, but for its ACL
		for name := range c.Header {
			if amzHeaders[name].bucket != "" {
				return false
			}
		}
		return true
	}
	return c.Method == http.MethodGet || c.Method == http.MethodHead
}

// last returns a name after all reserved ones, and before all others that follow.
func (r Reserved) last() string { return r.Prefix + "\U0010ffff" }

// withoutVersions returns the document of a ListObjectVersions without what is reserved. If the page
// ends with a reserved key, the next one begins behind all of them.
func (r Reserved) withoutVersions(bucket string, document []byte, encoding string) []byte {
	if !r.in(bucket) {
		return document
	}
	reserved := func(raw []byte, name string) bool {
		return r.covers(bucket, decodedName(elementOf(raw, name).text, encoding))
	}
	next := elementOf(document, "NextKeyMarker")
	if r.covers(bucket, decodedName(next.text, encoding)) {
		text := r.last()
		if encoding == "url" {
			text = listEncoded(text)
		}
		document = next.replaced(document, text)
		document = withoutElements(document, "NextVersionIdMarker", func([]byte) bool { return true })
	}
	for _, element := range [...]struct{ name, key string }{{"Version", "Key"}, {"DeleteMarker", "Key"}, {"CommonPrefixes", "Prefix"}} {
		document = withoutElements(document, element.name, func(raw []byte) bool { return reserved(raw, element.key) })
	}
	return document
}

// withoutElements returns a document without the elements of a name that drop chooses by their content.
func withoutElements(document []byte, name string, drop func(raw []byte) bool) []byte {
	var kept []byte
	for {
		v := elementOf(document, name)
		if v.to == 0 {
			return append(kept, document...)
		}
		end := v.to + len("</"+name+">")
		if drop(document[v.from:v.to]) {
			kept = append(kept, document[:v.from-len("<"+name+">")]...)
		} else {
			kept = append(kept, document[:end]...)
		}
		document = document[end:]
	}
}
