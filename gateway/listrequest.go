package gateway

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"hash/fnv"
	"net/url"
	"strconv"
	"strings"

	"github.com/akidb/akigw/internal/codec"
	"github.com/akidb/akigw/internal/s3err"
	"github.com/akidb/akigw/internal/s3xml"
)

// listRequest is a parsed ListObjects or ListObjectsV2.
type listRequest struct {
	call              *call
	v2, encoded       bool
	prefix, delimiter string
	max               int
	after             string // items up to this one have been sent
	afterPrefix       bool   // after is a common prefix: all keys that begin with it have been sent
}

// listItem is one item of a listing: a key or a common prefix.
type listItem struct {
	name   string
	prefix bool
	raw    []byte // the elements of Contents without Key, as the upstream sent them
}

// parseList parses a listing of objects or of uploads.
func parseList(c *call) (*listRequest, error) {
	q := &listRequest{call: c, v2: c.query.Get("list-type") == "2", prefix: c.query.Get("prefix"), delimiter: c.query.Get("delimiter"), max: maxListKeys}
	switch c.query.Get("encoding-type") {
	case "":
	case "url":
		q.encoded = true
	default:
		return nil, s3err.InvalidArgument.With("Invalid Encoding Method specified in Request").About("ArgumentName", "encoding-type").About("ArgumentValue", c.query.Get("encoding-type"))
	}
	if v := c.query.Get("max-keys"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil {
			return nil, s3err.InvalidArgument
		}
		q.max = min(n, maxListKeys)
	}
	if q.v2 && c.query.Has("continuation-token") {
		return q, q.parseToken(c.query.Get("continuation-token"))
	}
	q.after = c.query.Get("marker")
	if q.v2 {
		q.after = c.query.Get("start-after")
	}
	q.afterPrefix = q.after != "" && strings.HasPrefix(q.after, q.prefix) && q.common(q.after) == q.after
	return q, nil
}

// maxListKeys is the largest page (S3: 1,000).
const maxListKeys = 1000

// token returns the token of the next page: the last item of this one, and a hash of the request,
// so that a token of another listing is refused. It contains nothing secret, just as start-after
// does not.
func (q *listRequest) token(last listItem) string {
	b := codec.AppendFlag([]byte{tokenVersion}, last.prefix)
	b = codec.AppendString(b, last.name)
	return base64.RawURLEncoding.EncodeToString(append(b, q.hash(b)...))
}

const tokenVersion = 1

func (q *listRequest) hash(b []byte) []byte {
	h := fnv.New64a()
	for _, part := range []string{q.call.key.Bucket, q.prefix, q.delimiter, string(b)} {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	return h.Sum(nil)
}

func (q *listRequest) parseToken(token string) error {
	wrong := s3err.InvalidArgument.With("The continuation token provided is incorrect").About("ArgumentName", "continuation-token")
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(raw) < 10 {
		return wrong
	}
	b, sum := raw[:len(raw)-8], raw[len(raw)-8:]
	d := codec.NewDecoder(b)
	version := d.Byte()
	q.afterPrefix, q.after = d.Flag(), d.String()
	if version != tokenVersion || d.Bad() || len(d.Rest()) > 0 || !bytes.Equal(sum, q.hash(b)) {
		return wrong
	}
	return nil
}

// common returns the common prefix into which a key is grouped, "" for none.
func (q *listRequest) common(name string) string {
	if q.delimiter == "" {
		return ""
	}
	if i := strings.Index(name[len(q.prefix):], q.delimiter); i >= 0 {
		return name[:len(q.prefix)+i+len(q.delimiter)]
	}
	return ""
}

// sent reports whether an item has already been sent. A common prefix can sort before the key after
// which a listing starts, and still contain keys after it.
func (q *listRequest) sent(item listItem) bool {
	if q.afterPrefix && strings.HasPrefix(item.name, q.after) {
		return true
	}
	return !item.prefix && q.after != "" && item.name <= q.after
}

// from returns the first key that has not been sent.
func (q *listRequest) from() string {
	switch {
	case q.after == "":
		return ""
	case q.afterPrefix:
		return beyond(q.after)
	}
	return q.after + "\x00"
}

// beyond returns the first string after all strings that begin with prefix. Keys are UTF-8, which
// has no byte 0xff.
func beyond(prefix string) string { return prefix + "\xff" }

// decodedName returns a key or a prefix of an upstream's listing.
func decodedName(s, encoding string) string {
	if encoding == "url" {
		if decoded, err := url.QueryUnescape(s); err == nil {
			return decoded
		}
	}
	return s
}

// listEncoded returns a name encoded for encoding-type=url.
func listEncoded(s string) string {
	return strings.NewReplacer("%2F", "/", "+", "%20").Replace(url.QueryEscape(s))
}

// document writes a page.
func (q *listRequest) document(items []listItem, truncated bool) []byte {
	text := func(s string) string { return encodedName(q.call, s) }
	var b bytes.Buffer
	b.WriteString(s3xml.Header + `<ListBucketResult xmlns="` + namespace + `">`)
	element(&b, "Name", q.call.key.Bucket)
	element(&b, "Prefix", text(q.prefix))
	if q.delimiter != "" {
		element(&b, "Delimiter", text(q.delimiter))
	}
	element(&b, "MaxKeys", strconv.Itoa(q.max))
	if q.encoded {
		element(&b, "EncodingType", "url")
	}
	element(&b, "IsTruncated", strconv.FormatBool(truncated && len(items) > 0))
	if q.v2 {
		element(&b, "KeyCount", strconv.Itoa(len(items)))
		for _, name := range []string{"start-after", "continuation-token"} {
			if q.call.query.Has(name) {
				element(&b, map[string]string{"start-after": "StartAfter", "continuation-token": "ContinuationToken"}[name], text(q.call.query.Get(name)))
			}
		}
		if truncated && len(items) > 0 {
			element(&b, "NextContinuationToken", q.token(items[len(items)-1]))
		}
	} else {
		element(&b, "Marker", text(q.call.query.Get("marker")))
		if truncated && len(items) > 0 && q.delimiter != "" {
			element(&b, "NextMarker", text(items[len(items)-1].name))
		}
	}
	for _, item := range items {
		if !item.prefix {
			b.WriteString("<Contents>")
			element(&b, "Key", text(item.name))
			b.Write(item.raw)
			b.WriteString("</Contents>")
		}
	}
	for _, item := range items {
		if item.prefix {
			b.WriteString("<CommonPrefixes>")
			element(&b, "Prefix", text(item.name))
			b.WriteString("</CommonPrefixes>")
		}
	}
	b.WriteString("</ListBucketResult>")
	return b.Bytes()
}
