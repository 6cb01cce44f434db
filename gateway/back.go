package gateway

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"hash"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/failpoint"
	"github.com/akidb/akigw/internal/s3err"
	"github.com/akidb/akigw/internal/s3xml"
	"github.com/akidb/akigw/sigv4"
	"github.com/akidb/akigw/writeback"
)

// pendingHeaders are the x-amz-* headers, besides those of user metadata and of
// checksums, with which a write can be acknowledged by the journal; and the
// gateway's own, which say nothing about the object. With any other header it goes
// through: access control, locks, tags and encryption are the upstream's to judge.
var pendingHeaders = map[string]bool{"X-Amz-Storage-Class": true, "X-Amz-Website-Redirect-Location": true, "X-Amz-Sdk-Checksum-Algorithm": true, "X-Amz-Checksum-Mode": true}

// plain reports whether nothing in a write asks for more than to be stored, so that
// its outcome is known before the upstream is asked.
func (c *Call) plain() bool { return len(c.query) == 0 && c.plainHeaders() }

// plainHeaders is plain for a request whose query names no more than an upload. also
// are headers that it may have besides.
func (c *Call) plainHeaders(also ...string) bool {
	for name := range c.Header {
		if slices.Contains(also, name) {
			continue
		}
		amz := strings.HasPrefix(name, amzPrefix)
		known := strings.HasPrefix(name, metadataPrefix) || strings.HasPrefix(name, "X-Amz-Checksum-") || pendingHeaders[name] || amzHeaders[name].own
		if amz && (!known || name == copySourceHeader) || strings.HasPrefix(name, "If-") || name == "Origin" {
			return false
		}
	}
	return true
}

// apart are the operations on a key that do not look at its object.
var apart = map[string]bool{"CreateMultipartUpload": true, "UploadPart": true, "UploadPartCopy": true, "AbortMultipartUpload": true, "ListParts": true}

// whole are the operations on a bucket for which all of it has to be upstream.
var whole = map[string]bool{"DeleteBucket": true, "ListObjectVersions": true, "PutBucketVersioning": true, "PutObjectLockConfiguration": true, "PutBucketReplication": true, "PutBucketEncryption": true}

// settle waits until what was acknowledged of the keys that a call concerns is
// upstream: then it can be forwarded. What a call changes is held until it has ended.
func (g *Gateway) settle(c *Call) error {
	ctx := c.Context()
	if c.source != nil {
		if err := g.Writes.Drain(ctx, c.source.key); err != nil {
			return err
		}
	}
	if whole[c.route.Op] {
		return g.Writes.DrainBucket(ctx, c.key.Bucket)
	}
	keys := slices.Clone(c.touched)
	if c.level() == ObjectLevel && !apart[c.route.Op] {
		keys = append(keys, c.key.Current())
	}
	changes := c.Method != http.MethodGet && c.Method != http.MethodHead
	slices.SortFunc(keys, func(a, b akigw.Key) int { return cmp.Or(cmp.Compare(a.Bucket, b.Bucket), cmp.Compare(a.Name, b.Name)) })
	for _, key := range slices.Compact(keys) {
		if !changes {
			if err := g.Writes.Drain(ctx, key); err != nil {
				return err
			}
			continue
		}
		release, err := g.Writes.Hold(ctx, key)
		if err != nil {
			return err
		}
		c.held = append(c.held, release)
	}
	return nil
}

// putBack answers a PutObject that the journal acknowledges.
func (g *Gateway) putBack(w *answer, c *Call, back *writeback.Write) error {
	defer back.Discard()
	etag, header, err := g.receive(c, back)
	if err != nil {
		return err
	}
	if _, err := back.Commit(c.Context(), etag, header); err != nil {
		return err
	}
	failpoint.Here("ack.beforeSend")
	h := w.Header()
	h["ETag"] = []string{etag}
	for name, values := range header {
		if strings.HasPrefix(name, "X-Amz-Checksum-") {
			h[name] = values
			h.Set("X-Amz-Checksum-Type", "FULL_OBJECT")
		}
	}
	acknowledgeBack(w, http.StatusOK)
	return nil
}

// receive takes the body of a call into the journal, and returns its ETag and the
// headers that go upstream with it. also are sums that are made of it besides.
func (g *Gateway) receive(c *Call, back *writeback.Write, also ...io.Writer) (etag string, header http.Header, err error) {
	b, err := newBody(c)
	if err != nil {
		return "", nil, err
	}
	if c.payload.Length < 0 {
		return "", nil, s3err.MissingContentLength
	}
	if err := c.reserve(c.bodyMemory()); err != nil {
		return "", nil, err
	}
	to := append([]io.Writer{back}, also...)
	sum := b.md5()
	if sum == nil {
		sum = back.MD5()
		to = append(to, sum)
	}
	buf := relayBuffers.Get().(*[]byte)
	defer relayBuffers.Put(buf)
	if _, err := io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(to...)}, b, *buf); err != nil {
		return "", nil, err
	}
	header = c.pendingHeader()
	if b.trailer != nil {
		header.Set(b.trailer.Header, c.payload.Trailer().Get(b.trailer.Header))
	}
	return `"` + hex.EncodeToString(sum.Sum(nil)) + `"`, header, nil
}

// pendingHeader are the headers of a call that say something about the object.
func (c *Call) pendingHeader() http.Header {
	header := c.upstreamRequest().Header
	for _, name := range []string{"Content-Md5", "X-Amz-Sdk-Checksum-Algorithm", "X-Amz-Checksum-Mode"} {
		delete(header, name)
	}
	return header
}

// md5 is the running MD5 of a body, nil if it is not computed.
func (b *body) md5() hash.Hash {
	for _, d := range b.digests {
		if d.name == contentMD5 {
			return d.Hash
		}
	}
	return nil
}

// acknowledgeBack answers a write that is in the journal.
func acknowledgeBack(w *answer, status int) {
	w.Header().Set("X-Akigw-Commit", "journal")
	if status != http.StatusNoContent {
		w.Header().Set("Content-Length", "0")
	}
	w.WriteHeader(status)
	failpoint.Here("ack.afterSend")
}

// deleteObject answers DeleteObject: by the journal, or write-through.
func (g *Gateway) deleteObject(w *answer, c *Call, id sigv4.Identity) error {
	if !c.plain() {
		g.Writes.Through(c.key)
		return g.change(w, c, id)
	}
	if done, err := g.Writes.Remove(c.Context(), []akigw.Key{c.key}); err != nil {
		return err
	} else if !done {
		return g.change(w, c, id)
	}
	failpoint.Here("delete.afterTombstone")
	acknowledgeBack(w, http.StatusNoContent)
	return nil
}

// keys are the keys that a DeleteObjects names.
func (r *deleteRequest) keys(bucket string) []akigw.Key {
	keys := make([]akigw.Key, len(r.Objects))
	for i, o := range r.Objects {
		keys[i] = akigw.Key{Bucket: bucket, Name: o.name}
	}
	return keys
}

// deleteObjectsBack answers a DeleteObjects by the journal, if all of it can be.
func (g *Gateway) deleteObjectsBack(w *answer, c *Call, request *deleteRequest, denied []deletion) (done bool, err error) {
	for name := range c.Header {
		if name == "X-Amz-Mfa" || name == "X-Amz-Bypass-Governance-Retention" {
			return false, nil
		}
	}
	for _, o := range request.Objects {
		if o.version != "" || len(o.raw.ETag)+len(o.raw.LastModifiedTime)+len(o.raw.Size) > 0 {
			return false, nil
		}
	}
	if len(request.Objects) == 0 {
		return false, nil
	}
	if done, err := g.Writes.Remove(c.Context(), request.keys(c.key.Bucket)); err != nil || !done {
		return false, err
	}
	var b bytes.Buffer
	b.WriteString(s3xml.Header + `<DeleteResult xmlns="` + namespace + `">`)
	for _, o := range request.Objects {
		if len(request.quiet) == 1 && request.quiet[0] == "true" {
			break
		}
		b.WriteString("<Deleted>")
		element(&b, "Key", o.name)
		b.WriteString("</Deleted>")
	}
	b.WriteString("</DeleteResult>")
	w.Header().Set("X-Akigw-Commit", "journal")
	return true, g.answerDelete(w, b.Bytes(), denied)
}

// namespace is that of S3's documents.
const namespace = "http://s3.amazonaws.com/doc/2006-03-01/"
