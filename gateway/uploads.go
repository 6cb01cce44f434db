package gateway

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/akidb/akigw/internal/checksum"
	"github.com/akidb/akigw/internal/failpoint"
	"github.com/akidb/akigw/internal/s3err"
	"github.com/akidb/akigw/internal/s3xml"
	"github.com/akidb/akigw/sigv4"
	"github.com/akidb/akigw/tiers"
	"github.com/akidb/akigw/writeback"
)

// multipartUploads answers the operations on multipart uploads. An upload is in the journal or in
// the upstream, as its ID tells; one in the journal is moved to the upstream when a request
// requires that.
type multipartUploads struct {
	Store   *tiers.Store
	Writes  *writeback.WriteBack
	forward *forwarder
	log     *slog.Logger
	minPart int64 // size of the smallest part except the last, in bytes; tests use smaller ones
}

// createMultipartUpload answers CreateMultipartUpload: from the journal, or written through.
func (g *multipartUploads) createMultipartUpload(w *answer, c *call, _ sigv4.Identity) error {
	header := c.pendingHeader()
	if !c.plainHeaders() || !uploadChecksum(header) {
		g.Writes.Through(c.key)
		return g.createUpstream(w, c)
	}
	uploadID, err := g.Writes.Uploads.Begin(c.Context(), c.key, header)
	if err != nil {
		return err
	}
	if uploadID == "" {
		return g.createUpstream(w, c)
	}
	for _, name := range []string{"X-Amz-Checksum-Algorithm", "X-Amz-Checksum-Type"} {
		if v := header.Get(name); v != "" {
			w.Header().Set(name, v)
		}
	}
	sendCommitted(w, "InitiateMultipartUploadResult", func(b *bytes.Buffer) {
		element(b, "Bucket", c.key.Bucket)
		element(b, "Key", c.key.Name)
		element(b, "UploadId", uploadID)
	})
	return nil
}

// createUpstream has the upstream begin an upload. The cache will keep the bytes of its parts.
func (g *multipartUploads) createUpstream(w *answer, c *call) error {
	out, err := g.forward.prepare(c)
	if err != nil {
		return err
	}
	resp, _, err := g.forward.roundTrip(c, out, nil)
	if err != nil {
		return err
	}
	if resp.StatusCode == http.StatusOK && c.plainHeaders() {
		g.Writes.Accepted(c.key, c.Header)
	}
	var begun struct {
		UploadID string `xml:"UploadId"`
	}
	if resp.StatusCode == http.StatusOK && c.keepable() && peek(resp, "InitiateMultipartUploadResult", "UploadId", &begun) {
		g.Store.BeginUpload(c.key, begun.UploadID, out.sent())
	}
	relay(w, c.Request, resp)
	return nil
}

// uploadChecksum adds the defaults of the checksum headers of a CreateMultipartUpload. It returns
// false if only the upstream can decide about them.
func uploadChecksum(h http.Header) bool {
	name, how := h.Get("X-Amz-Checksum-Algorithm"), h.Get("X-Amz-Checksum-Type")
	if name == "" {
		return how == ""
	}
	a, ok := checksum.ByHeader("X-Amz-Checksum-" + name)
	if !ok || len(a.Types()) == 0 || how != "" && !slices.Contains(a.Types(), how) {
		return false
	}
	h.Set("X-Amz-Checksum-Algorithm", a.Name)
	if how == "" {
		h.Set("X-Amz-Checksum-Type", a.Types()[0])
	}
	return true
}

// algorithm returns the checksum algorithm of an upload.
func algorithm(u *writeback.Upload) (a checksum.Algorithm, ok bool) {
	return checksum.ByHeader("X-Amz-Checksum-" + u.Header.Get("X-Amz-Checksum-Algorithm"))
}

// upload returns the upload of a call in the journal, nil if it is in the upstream.
func (g *multipartUploads) upload(c *call) (*writeback.Upload, error) {
	id := c.query.Get("uploadId")
	if !writeback.Local(id) {
		return nil, nil
	}
	return g.Writes.Uploads.Find(c.key, id)
}

// moveUpload moves an upload and some of its parts to the upstream, and replaces the upload ID in
// the call.
func (g *multipartUploads) moveUpload(w *answer, c *call, u *writeback.Upload, parts []writeback.Part) error {
	_, err := g.forward.keepAlive(w, c, func() (*http.Response, error) {
		id, err := g.Writes.Uploads.Move(c.Context(), u, parts)
		if err == nil {
			c.query.Set("uploadId", id)
		}
		return nil, err
	})
	return err
}

// uploadPart answers UploadPart: from the journal, or written through.
func (g *multipartUploads) uploadPart(w *answer, c *call, _ sigv4.Identity) error {
	return g.addPart(w, c, func(u *writeback.Upload) (bool, error) {
		if !c.plainHeaders() {
			return false, nil
		}
		back := g.Writes.Uploads.AcceptPart(u, c.payload.Length)
		if back == nil {
			return false, nil
		}
		return true, g.acknowledgePart(w, c, u, back)
	}, func() error { return g.sendPart(w, c) })
}

// addPart answers a call that adds a part to an upload. If the journal has the upload, take may add
// the part there; if take returns false, the upload moves upstream. send sends a part that goes there.
func (g *multipartUploads) addPart(w *answer, c *call, take func(*writeback.Upload) (done bool, err error), send func() error) error {
	u, err := g.upload(c)
	if err != nil {
		return err
	}
	if u == nil {
		return send()
	}
	if done, err := take(u); done || err != nil {
		return err
	}
	if err := g.moveUpload(w, c, u, nil); err != nil {
		return err
	}
	return send()
}

// sendPart has the upstream store a part. The cache keeps its bytes until the upload is completed.
func (g *multipartUploads) sendPart(w *answer, c *call) error {
	out, err := g.forward.prepare(c)
	if err != nil {
		return err
	}
	var part *tiers.PartWrite
	if c.keepable() {
		part = g.Store.BeginPart(c.key, c.query.Get("uploadId"), c.partNumber(), c.payload.Length)
	}
	defer part.End()
	resp, whole, err := g.forward.roundTrip(c, out, part.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode == http.StatusOK && whole {
		part.Written(resp.Header.Get("Etag"))
	}
	relay(w, c.Request, resp)
	return nil
}

// partNumber is the part number of a call, which check has parsed.
func (c *call) partNumber() int {
	number, _ := strconv.Atoi(c.query.Get("partNumber"))
	return number
}

// maxPart is the largest part, in bytes (S3: 5 GiB).
const maxPart = 5 << 30

// acknowledgePart answers an UploadPart that the journal acknowledges.
func (g *multipartUploads) acknowledgePart(w *answer, c *call, u *writeback.Upload, back *writeback.Write) error {
	defer back.Discard()
	if c.payload.Length > maxPart {
		return s3err.EntityTooLarge
	}
	var sum hash.Hash
	var also []io.Writer
	a, checked := algorithm(u)
	if checked {
		if name := c.checksumName(); name == "" {
			sum = a.New()
			also = append(also, sum)
		} else if name != a.Header {
			actual, _ := checksum.ByHeader(name)
			return s3err.InvalidRequest.With(fmt.Sprintf("Checksum Type mismatch occurred, expected checksum Type: %s, actual checksum Type: %s", strings.ToLower(a.Name), strings.ToLower(actual.Name)))
		}
	}
	etag, all, err := c.receive(back, also...)
	if err != nil {
		return err
	}
	header := http.Header{}
	for name, values := range all {
		if _, ok := checksum.ByHeader(name); ok {
			header[name] = values
		}
	}
	if sum != nil {
		header.Set(a.Header, base64.StdEncoding.EncodeToString(sum.Sum(nil)))
	}
	failpoint.Here("part.beforeCommit")
	if _, err := back.CommitPart(c.Context(), u, writeback.Part{Number: c.partNumber(), ETag: etag, Header: header}); err != nil {
		return err
	}
	w.Header()["ETag"] = []string{etag}
	for name, values := range header {
		w.Header()[name] = values
	}
	acknowledgeJournaled(w, http.StatusOK)
	return nil
}

// checksumName returns the header or trailer with the checksum of the body, "" if there is none.
func (c *call) checksumName() string {
	for _, a := range checksum.Algorithms {
		if c.Header.Get(a.Header) != "" || slices.ContainsFunc(c.payload.TrailerNames, func(name string) bool { return strings.EqualFold(name, a.Header) }) {
			return a.Header
		}
	}
	return ""
}

// abortMultipartUpload answers AbortMultipartUpload.
func (g *multipartUploads) abortMultipartUpload(w *answer, c *call, id sigv4.Identity) error {
	u, err := g.upload(c)
	if err != nil {
		return err
	}
	if u == nil {
		g.Store.ForgetUpload(c.key, c.query.Get("uploadId"))
		return g.forward.pass(w, c, id)
	}
	if v := c.Header.Get("X-Amz-If-Match-Initiated-Time"); v != "" {
		// As in S3's other conditions, a future or malformed time is ignored.
		if at, err := http.ParseTime(v); err == nil && at.Before(time.Now()) && !at.Equal(u.Begun.Truncate(time.Second)) {
			return s3err.PreconditionFailed.About("Condition", "If-Match-Initiated-Time")
		}
	}
	if err := g.Writes.Uploads.Abort(c.Context(), u); err != nil {
		return err
	}
	acknowledgeJournaled(w, http.StatusNoContent)
	return nil
}

// listParts answers ListParts.
func (g *multipartUploads) listParts(w *answer, c *call, id sigv4.Identity) error {
	u, err := g.upload(c)
	if err != nil {
		return err
	}
	if u == nil {
		return g.forward.pass(w, c, id)
	}
	parts, err := g.Writes.Uploads.Parts(c.Context(), u)
	if err != nil {
		return err
	}
	most, marker := pageSize(c.query.Get("max-parts")), 0
	if n, err := strconv.Atoi(c.query.Get("part-number-marker")); err == nil {
		marker = n
	}
	parts = slices.DeleteFunc(parts, func(p writeback.Part) bool { return p.Number <= marker })
	truncated := len(parts) > most
	parts = parts[:min(len(parts), most)]
	next := marker
	if len(parts) > 0 {
		next = parts[len(parts)-1].Number
	}
	sendDocument(w, partsDocument(c, u, parts, marker, next, most, truncated))
	return nil
}

// partsDocument writes a page of ListParts: up to most parts after the part number marker.
func partsDocument(c *call, u *writeback.Upload, parts []writeback.Part, marker, next, most int, truncated bool) []byte {
	var b bytes.Buffer
	b.WriteString(s3xml.Header + `<ListPartsResult xmlns="` + namespace + `">`)
	element(&b, "Bucket", c.key.Bucket)
	element(&b, "Key", encodedName(c, c.key.Name))
	element(&b, "UploadId", u.ID)
	element(&b, "PartNumberMarker", strconv.Itoa(marker))
	element(&b, "NextPartNumberMarker", strconv.Itoa(next))
	element(&b, "MaxParts", strconv.Itoa(most))
	element(&b, "IsTruncated", strconv.FormatBool(truncated))
	for _, p := range parts {
		b.WriteString("<Part>")
		element(&b, "PartNumber", strconv.Itoa(p.Number))
		element(&b, "LastModified", p.Modified.UTC().Format(listTime))
		element(&b, "ETag", p.ETag)
		element(&b, "Size", strconv.FormatInt(p.Size, 10))
		checksumElements(&b, p.Header)
		b.WriteString("</Part>")
	}
	element(&b, "StorageClass", storageClass(u.Header))
	describeChecksum(&b, u.Header)
	b.WriteString("</ListPartsResult>")
	return b.Bytes()
}

func storageClass(h http.Header) string {
	if v := h.Get("X-Amz-Storage-Class"); v != "" {
		return v
	}
	return "STANDARD"
}

// describeChecksum writes the checksum elements of an upload.
func describeChecksum(b *bytes.Buffer, h http.Header) {
	if v := h.Get("X-Amz-Checksum-Algorithm"); v != "" {
		element(b, "ChecksumAlgorithm", v)
		element(b, "ChecksumType", h.Get("X-Amz-Checksum-Type"))
	}
}

// pageSize parses a page size that checkCounts has accepted.
func pageSize(v string) int {
	n, err := strconv.Atoi(v)
	if err != nil {
		return maxListKeys
	}
	return min(n, maxListKeys)
}

// encodedName returns a key encoded as listings require.
func encodedName(c *call, name string) string {
	if c.query.Get("encoding-type") == "url" {
		return listEncoded(name)
	}
	return name
}
