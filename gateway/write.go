package gateway

import (
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/minio/minio-go/v7/pkg/s3utils"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/s3err"
	"github.com/akidb/akigw/sigv4"
	"github.com/akidb/akigw/tiers"
	"github.com/akidb/akigw/tiers/cold"
	"github.com/akidb/akigw/writeback"
)

// acknowledge passes the answer to a write on, and says where the write is.
func acknowledge(w *answer, c *Call, resp *http.Response) {
	if resp.StatusCode < 300 {
		w.Header().Set("X-Akigw-Commit", "upstream")
	}
	relay(w, c.Request, resp)
}

// putObject answers PutObject. Unless the journal takes it, it is written through:
// the body is verified while it streams to the upstream and into the cache, and the
// answer is the upstream's.
func (g *Gateway) putObject(w *answer, c *Call, _ sigv4.Identity) error {
	if !c.plain() {
		g.Writes.Through(c.key)
	} else if back, err := g.Writes.Accept(c.Context(), c.key, c.payload.Length, c.Header); err != nil {
		return err
	} else if back != nil {
		return g.putBack(w, c, back)
	}
	out, err := g.prepare(c)
	if err != nil {
		return err
	}
	change := g.Store.Begin(c.key)
	return g.during(func() error {
		seen := change.Body
		if !c.keepable() {
			seen = nil
		}
		resp, whole, err := g.exchange(c, out, seen)
		if err != nil {
			return err
		}
		if resp.StatusCode == http.StatusOK && seen != nil && whole {
			change.Written(resp.Header)
		} else {
			change.End()
		}
		if resp.StatusCode == http.StatusOK && c.plain() {
			g.Writes.Accepted(c.key, c.Header)
		}
		acknowledge(w, c, resp)
		return nil
	}, change)
}

// change forwards a request that changes one key in a way that is not cached. A
// 200 may carry an error document: either way nothing is kept.
func (g *Gateway) change(w *answer, c *Call, _ sigv4.Identity) error {
	out, err := g.prepare(c)
	if err != nil {
		return err
	}
	return g.during(func() error {
		resp, err := g.keepAlive(w, c, func() (*http.Response, error) {
			resp, _, err := g.exchange(c, out, nil)
			return resp, err
		})
		if err != nil {
			return err
		}
		acknowledge(w, c, resp)
		return nil
	}, g.fence(c.key, c.query.Get("versionId"))...)
}

// fence begins the change of a key, and of one of its versions if one is named.
func (g *Gateway) fence(key akigw.Key, version string) []*tiers.Write {
	changes := []*tiers.Write{g.Store.Begin(key)}
	if version != "" {
		key.Version = version
		changes = append(changes, g.Store.Begin(key))
	}
	return changes
}

// source is the parsed x-amz-copy-source.
type source struct {
	key     akigw.Key
	version string
}

// encoded is the source in the gateway's own encoding.
func (s *source) encoded() string {
	text := s.key.Bucket + "/" + s3utils.EncodePath(s.key.Name)
	if s.version != "" {
		text += "?versionId=" + url.QueryEscape(s.version)
	}
	return text
}

// copySource returns what a copy copies, nil for another operation: that one
// must not name a source.
func (c *Call) copySource() (*source, error) {
	values := c.Header[copySourceHeader]
	switch {
	case c.route.Header == copySourceHeader:
		return parseSource(values[0])
	case len(values) > 0:
		return nil, s3err.InvalidArgument.With("You can only specify a copy source header for copy requests.").About("ArgumentName", "x-amz-copy-source").About("ArgumentValue", values[0])
	}
	return nil, nil
}

// parseSource parses "[/]bucket/key[?versionId=id]", percent-encoded
// (CopyObject), by the rules of every other key.
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
	path, err := url.PathUnescape(path)
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

// Limits of control documents in bytes: 1,000 keys or 10,000 parts with their
// checksums fit.
const (
	maxDelete       = 2 << 20
	maxDeleteResult = 8 << 20
	maxComplete     = 4 << 20
	// maxDocument is the limit of those that are only forwarded.
	maxDocument = 4 << 20
)

// deleteObjects answers DeleteObjects: every key that it names is decided by
// itself, and those that go upstream are fenced.
func (g *Gateway) deleteObjects(w *answer, c *Call, _ sigv4.Identity) error {
	document, err := g.readDocument(c, maxDelete)
	if err != nil {
		return err
	}
	if !covered(c) {
		return s3err.InvalidRequest.With("Missing required header for this request: Content-MD5 OR x-amz-checksum-*")
	}
	request, err := parseDelete(document)
	if err != nil {
		return err
	}
	denied := request.split(func(o deletion) bool {
		return c.allowedDelete(o) && !g.Writes.Reserved(akigw.Key{Bucket: c.key.Bucket, Name: o.name})
	})
	if done, err := g.deleteObjectsBack(w, c, request, denied); done || err != nil {
		return err
	}
	c.touched = request.keys(c.key.Bucket)
	var changes []*tiers.Write
	for _, o := range request.Objects {
		changes = append(changes, g.fence(akigw.Key{Bucket: c.key.Bucket, Name: o.name}, o.version)...)
	}
	return g.during(func() error {
		if len(denied) > 0 || request.conditional() && g.Writes.WritesBack(c.key.Bucket) {
			return g.deleteSome(w, c, request, denied)
		}
		resp, err := g.send(c, document)
		if err != nil {
			return err
		}
		acknowledge(w, c, resp)
		return nil
	}, changes...)
}

// deleteSome deletes the objects that may be, on conditions as they are for the upstream,
// and answers for the others as S3 does: each has an Error in the result.
func (g *Gateway) deleteSome(w *answer, c *Call, request *deleteRequest, denied []deletion) error {
	result := emptyDeleteResult
	if len(request.Objects) > 0 {
		if err := g.settle(c); err != nil {
			return err
		}
		g.translateDeletions(c, request)
		document := request.encode()
		r := c.upstreamRequest()
		withoutDigests(r.Header)
		sum := md5.Sum(document)
		r.Header.Set("Content-Md5", base64.StdEncoding.EncodeToString(sum[:]))
		r.Body, r.Length = bytes.NewReader(document), int64(len(document))
		resp, err := g.Upstream.Do(c.Context(), r)
		if err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK {
			return cold.NewResponseError(resp)
		}
		defer resp.Body.Close()
		if result, err = io.ReadAll(io.LimitReader(resp.Body, maxDeleteResult)); err != nil {
			return fmt.Errorf("%w: DeleteObjects: %w", akigw.ErrUpstreamUnavailable, err)
		}
		relayHeader(w.Header(), resp.Header, resp.StatusCode)
		w.Header().Set("X-Akigw-Commit", "upstream")
	}
	return g.answerDelete(w, result, denied)
}

// answerDelete sends the result of a DeleteObjects, with an Error for each object
// that may not be deleted.
func (g *Gateway) answerDelete(w *answer, result []byte, denied []deletion) error {
	result, err := appendDenied(result, denied)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/xml")
	w.Header().Set("Content-Length", strconv.Itoa(len(result)))
	_, _ = w.Write(result) // a client that has gone does not read its answer
	return nil
}

// withoutDigests removes what speaks of a body that is not sent.
func withoutDigests(h http.Header) {
	for name := range h {
		if name == "Content-Md5" || strings.HasPrefix(name, "X-Amz-Checksum-") || name == "X-Amz-Sdk-Checksum-Algorithm" {
			delete(h, name)
		}
	}
}

// covered reports whether the body of a call is bound to its signature or to a
// digest.
func covered(c *Call) bool {
	if c.payload.SHA256 != "" || c.Header.Get("Content-Md5") != "" {
		return true
	}
	for name := range c.Header {
		if strings.HasPrefix(name, "X-Amz-Checksum-") {
			return true
		}
	}
	return false
}

// completeMultipartUpload answers CompleteMultipartUpload. The upstream may
// take minutes and answer 200 before it knows: the body decides, and it is
// passed on as it comes.
func (g *Gateway) completeMultipartUpload(w *answer, c *Call, _ sigv4.Identity) error {
	document, err := g.readDocument(c, maxComplete)
	if err != nil {
		return err
	}
	parts, err := parseComplete(document)
	if err != nil {
		return err
	}
	if writeback.Local(c.query.Get("uploadId")) {
		return g.completeBack(w, c, document, parts)
	}
	return g.completeUpstream(w, c, document, nil)
}

// completeUpstream has the upstream complete an upload. seen, if not nil, gets the
// document of a 200 as well.
func (g *Gateway) completeUpstream(w *answer, c *Call, document []byte, seen io.Writer) error {
	return g.during(func() error {
		resp, err := g.keepAlive(w, c, func() (*http.Response, error) { return g.send(c, document) })
		if err != nil {
			return err
		}
		if resp.StatusCode == http.StatusOK {
			if err := relocate(resp, c.address()); err != nil {
				return err
			}
			if seen != nil {
				resp.Body = struct {
					io.Reader
					io.Closer
				}{io.TeeReader(resp.Body, seen), resp.Body}
			}
		}
		acknowledge(w, c, resp)
		return nil
	}, g.Store.Begin(c.key))
}
