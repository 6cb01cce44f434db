package gateway

import (
	"net/url"
	"strings"

	"github.com/minio/minio-go/v7/pkg/s3utils"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/s3err"
)

// source is the parsed x-amz-copy-source.
type source struct {
	key     akigw.Key
	version string
}

// encoded returns the source in the gateway's own encoding.
func (s *source) encoded() string {
	text := s.key.Bucket + "/" + s3utils.EncodePath(s.key.Name)
	if s.version != "" {
		text += "?versionId=" + url.QueryEscape(s.version)
	}
	return text
}

// copySource returns the source of a copy, nil for other operations, which must not name a source.
func (c *call) copySource() (*source, error) {
	values := c.Header[copySourceHeader]
	switch {
	case c.route.Header == copySourceHeader:
		return parseSource(values[0])
	case len(values) > 0:
		return nil, s3err.InvalidArgument.With("You can only specify a copy source header for copy requests.").About("ArgumentName", "x-amz-copy-source").About("ArgumentValue", values[0])
	}
	return nil, nil
}

// parseSource parses "[/]bucket/key[?versionId=id]" (CopyObject), by the same rules as other keys. It is
// URL-encoded like a query: a plus sign is a space, and SDKs send %2B for a plus sign.
func parseSource(value string) (*source, error) {
	invalid := func(message, part string) error {
		return s3err.InvalidArgument.With(message).About("ArgumentName", "x-amz-copy-source").About("ArgumentValue", part)
	}
	path, query, _ := strings.Cut(value, "?")
	version := ""
	if query != "" {
		id, ok := strings.CutPrefix(query, "versionId=")
		unescaped, err := url.QueryUnescape(id)
		if !ok || err != nil {
			return nil, invalid("Copy Source must mention the source bucket and key: sourcebucket/sourcekey", value)
		}
		version = unescaped
	}
	path, err := url.QueryUnescape(path)
	bucket, name, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	switch {
	case err != nil:
		return nil, invalid("Invalid copy source encoding", value)
	case akigw.CheckBucketName(bucket) != nil:
		return nil, invalid("Invalid copy source bucket name", value)
	case name == "":
		return nil, invalid("Invalid copy source object key", name)
	}
	return &source{key: akigw.Key{Bucket: bucket, Name: name}, version: version}, akigw.CheckKeyName(name)
}
