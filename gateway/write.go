package gateway

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/minio/minio-go/v7/pkg/s3utils"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/gateway/sigv4"
	"github.com/akidb/akigw/internal/s3err"
)

// acknowledge passes the answer to a write on, and says where the write is.
func acknowledge(w *answer, c *Call, resp *http.Response) {
	if resp.StatusCode < 300 {
		w.Header().Set("X-Akigw-Commit", "upstream")
	}
	relay(w, c.Request, resp)
}

// putObject answers PutObject, write-through: the body is verified while it
// streams to the upstream and into the cache, and the answer is the upstream's.
func (g *Gateway) putObject(w *answer, c *Call, _ sigv4.Identity) error {
	change := g.store.Begin(c.key)
	defer change.End()
	seen := change.Body
	if secretKeyed(c.Header) {
		seen = nil
	}
	resp, whole, err := g.exchange(c, seen)
	if err != nil {
		return err
	}
	if resp.StatusCode == http.StatusOK && seen != nil && whole {
		change.Written(resp.Header)
	} else {
		change.End()
	}
	acknowledge(w, c, resp)
	return nil
}

// secretKeyed reports whether the client brings its own key (SSE-C): such an
// object is never cached.
func secretKeyed(h http.Header) bool {
	return h.Get("X-Amz-Server-Side-Encryption-Customer-Algorithm") != ""
}

// change forwards a request that changes one key in a way that is not cached.
func (g *Gateway) change(w *answer, c *Call, _ sigv4.Identity) error {
	change := g.store.Begin(c.key)
	defer change.End()
	resp, _, err := g.exchange(c, nil)
	if err != nil {
		return err
	}
	acknowledge(w, c, resp)
	return nil
}

// copyObject answers CopyObject. A 200 may carry an error document: either
// way the destination is not cached.
func (g *Gateway) copyObject(w *answer, c *Call, id sigv4.Identity) error {
	if err := c.parseSource(); err != nil {
		return err
	}
	return g.change(w, c, id)
}

// uploadPartCopy answers UploadPartCopy.
func (g *Gateway) uploadPartCopy(w *answer, c *Call, id sigv4.Identity) error {
	if err := c.parseSource(); err != nil {
		return err
	}
	return g.pass(w, c, id)
}

// parseSource parses x-amz-copy-source, by the rules of every other key, and
// has it sent on in the gateway's own encoding.
func (c *Call) parseSource() error {
	source, version, err := copySource(c.Header.Get("X-Amz-Copy-Source"))
	if err != nil {
		return err
	}
	c.source = source.Bucket + "/" + s3utils.EncodePath(source.Name)
	if version != "" {
		c.source += "?versionId=" + url.QueryEscape(version)
	}
	return nil
}

// copySource parses "[/]bucket/key[?versionId=id]", percent-encoded (CopyObject).
func copySource(value string) (key akigw.Key, version string, err error) {
	invalid := s3err.InvalidArgument.With("Copy Source must mention the source bucket and key: sourcebucket/sourcekey").About("ArgumentName", "x-amz-copy-source")
	path, query, _ := strings.Cut(value, "?")
	if query != "" {
		id, ok := strings.CutPrefix(query, "versionId=")
		if version, err = url.QueryUnescape(id); !ok || err != nil {
			return key, "", invalid
		}
	}
	path, err = url.PathUnescape(path)
	bucket, name, ok := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	switch {
	case err != nil || !ok || name == "":
		return key, "", invalid
	case akigw.CheckBucketName(bucket) != nil:
		return key, "", s3err.InvalidBucketName.About("BucketName", bucket)
	}
	return akigw.Key{Bucket: bucket, Name: name}, version, akigw.CheckKeyName(name)
}

// Limits of control documents in bytes: 1,000 keys or 10,000 parts with their
// checksums fit.
const (
	maxDelete   = 2 << 20
	maxComplete = 4 << 20
)

// deleteObjects answers DeleteObjects: every key that it names is fenced.
func (g *Gateway) deleteObjects(w *answer, c *Call, _ sigv4.Identity) error {
	document, err := readDocument(c, maxDelete)
	if err != nil {
		return err
	}
	if !covered(c) {
		return s3err.InvalidRequest.With("Missing required header for this request: Content-MD5 OR x-amz-checksum-*")
	}
	names, err := parseDelete(document)
	if err != nil {
		return err
	}
	for _, name := range names {
		defer g.store.Begin(akigw.Key{Bucket: c.key.Bucket, Name: name}).End()
	}
	resp, err := g.send(c, document)
	if err != nil {
		return err
	}
	acknowledge(w, c, resp)
	return nil
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
	document, err := readDocument(c, maxComplete)
	if err != nil {
		return err
	}
	if err := checkComplete(document); err != nil {
		return err
	}
	change := g.store.Begin(c.key)
	defer change.End()
	resp, err := g.send(c, document)
	if err != nil {
		return err
	}
	acknowledge(w, c, resp)
	return nil
}
