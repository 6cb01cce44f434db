package gateway

import (
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/failpoint"
	"github.com/akidb/akigw/internal/s3err"
	"github.com/akidb/akigw/internal/s3xml"
	"github.com/akidb/akigw/sigv4"
	"github.com/akidb/akigw/tiers"
	"github.com/akidb/akigw/tiers/cold"
)

// deleteObject answers DeleteObject: from the journal, or written through.
func (g *objectWrites) deleteObject(w *answer, c *call, id sigv4.Identity) error {
	if !c.plain() {
		g.Writes.Through(c.key)
		return g.forward.change(w, c, id)
	}
	if done, err := g.Writes.Remove(c.Context(), []akigw.Key{c.key}); err != nil {
		return err
	} else if !done {
		return g.forward.change(w, c, id)
	}
	failpoint.Here("delete.afterTombstone")
	acknowledgeJournaled(w, http.StatusNoContent)
	return nil
}

// keys returns the keys that a DeleteObjects names.
func (r *deleteRequest) keys(bucket string) []akigw.Key {
	keys := make([]akigw.Key, len(r.Objects))
	for i, o := range r.Objects {
		keys[i] = akigw.Key{Bucket: bucket, Name: o.name}
	}
	return keys
}

// acknowledgeDeletes answers a DeleteObjects from the journal, if the journal accepts all of it.
func (g *objectWrites) acknowledgeDeletes(w *answer, c *call, request *deleteRequest, denied []deletion) (done bool, err error) {
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
	return true, answerDelete(w, b.Bytes(), denied)
}

// deleteObjects answers DeleteObjects. Each key is authorised separately, and keys that are deleted
// upstream are fenced.
func (g *objectWrites) deleteObjects(w *answer, c *call, _ sigv4.Identity) error {
	document, err := c.readDocument(maxDelete)
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
		key := akigw.Key{Bucket: c.key.Bucket, Name: o.name}
		return c.allowedDelete(o) && !g.Writes.Reserved(key) && !g.Reserved.has(key)
	})
	if done, err := g.acknowledgeDeletes(w, c, request, denied); done || err != nil {
		return err
	}
	c.touched = request.keys(c.key.Bucket)
	var changes []*tiers.Write
	for _, o := range request.Objects {
		changes = append(changes, g.forward.fence(akigw.Key{Bucket: c.key.Bucket, Name: o.name}, o.version)...)
	}
	return g.forward.whileFenced(func() error {
		if len(denied) > 0 || request.conditional() && g.Writes.WritesBack(c.key.Bucket) {
			return g.deleteSome(w, c, request, denied)
		}
		resp, err := g.forward.send(c, document)
		if err != nil {
			return err
		}
		acknowledge(w, c, resp)
		return nil
	}, changes...)
}

// deleteSome makes the upstream delete the allowed objects, with conditions translated for it. As
// with S3, each denied object has an Error in the result.
func (g *objectWrites) deleteSome(w *answer, c *call, request *deleteRequest, denied []deletion) error {
	result := []byte(emptyDeleteResult)
	if len(request.Objects) > 0 {
		if err := g.forward.flushPending(c); err != nil {
			return err
		}
		if err := g.translateDeletions(c, request); err != nil {
			return err
		}
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
	return answerDelete(w, result, denied)
}

// answerDelete sends the result of a DeleteObjects, with an Error for each denied object.
func answerDelete(w *answer, result []byte, denied []deletion) error {
	result, err := appendDenied(result, denied)
	if err != nil {
		return err
	}
	sendDocument(w, result)
	return nil
}

// withoutDigests removes the headers that describe a body that is not sent.
func withoutDigests(h http.Header) {
	for name := range h {
		if name == "Content-Md5" || strings.HasPrefix(name, "X-Amz-Checksum-") || name == "X-Amz-Sdk-Checksum-Algorithm" {
			delete(h, name)
		}
	}
}

// covered reports whether the signature or a digest covers the body of a call.
func covered(c *call) bool {
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
