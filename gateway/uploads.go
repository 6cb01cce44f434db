package gateway

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/checksum"
	"github.com/akidb/akigw/internal/failpoint"
	"github.com/akidb/akigw/internal/s3err"
	"github.com/akidb/akigw/internal/s3xml"
	"github.com/akidb/akigw/sigv4"
	"github.com/akidb/akigw/writeback"
)

// createMultipartUpload answers CreateMultipartUpload: by the journal, or through.
func (g *Gateway) createMultipartUpload(w *answer, c *Call, id sigv4.Identity) error {
	header := c.pendingHeader()
	if !c.plainHeaders() || !uploadChecksum(header) {
		g.Writes.Through(c.key)
		return g.pass(w, c, id)
	}
	uploadID, err := g.Writes.Uploads.Begin(c.Context(), c.key, header)
	if err != nil {
		return err
	}
	if uploadID == "" {
		return g.pass(w, c, id)
	}
	for _, name := range []string{"X-Amz-Checksum-Algorithm", "X-Amz-Checksum-Type"} {
		if v := header.Get(name); v != "" {
			w.Header().Set(name, v)
		}
	}
	var b bytes.Buffer
	b.WriteString(s3xml.Header + `<InitiateMultipartUploadResult xmlns="` + namespace + `">`)
	element(&b, "Bucket", c.key.Bucket)
	element(&b, "Key", c.key.Name)
	element(&b, "UploadId", uploadID)
	b.WriteString("</InitiateMultipartUploadResult>")
	w.Header().Set("X-Akigw-Commit", "journal")
	sendDocument(w, b.Bytes())
	return nil
}

// sendDocument answers with an XML document.
func sendDocument(w *answer, document []byte) {
	w.Header().Set("Content-Type", "application/xml")
	w.Header().Set("Content-Length", strconv.Itoa(len(document)))
	_, _ = w.Write(document) // a client that has gone does not read its answer
}

// uploadChecksum completes what the headers of a CreateMultipartUpload say of its
// checksums. It returns false if that is something that only the upstream can judge.
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

// algorithm is the checksum algorithm of an upload.
func algorithm(u *writeback.Upload) (a checksum.Algorithm, ok bool) {
	return checksum.ByHeader("X-Amz-Checksum-" + u.Header.Get("X-Amz-Checksum-Algorithm"))
}

// upload finds the upload that a call is about, nil if it is the upstream's.
func (g *Gateway) upload(c *Call) (*writeback.Upload, error) {
	id := c.query.Get("uploadId")
	if !writeback.Local(id) {
		return nil, nil
	}
	return g.Writes.Uploads.Find(c.key, id)
}

// moveUpload has a call go to the upstream, with the upload that it is about and
// some of its parts.
func (g *Gateway) moveUpload(w *answer, c *Call, u *writeback.Upload, parts []writeback.Part) error {
	_, err := g.keepAlive(w, c, func() (*http.Response, error) {
		id, err := g.Writes.Uploads.Move(c.Context(), u, parts)
		if err == nil {
			c.query.Set("uploadId", id)
		}
		return nil, err
	})
	return err
}

// uploadPart answers UploadPart: by the journal, or through.
func (g *Gateway) uploadPart(w *answer, c *Call, id sigv4.Identity) error {
	u, err := g.upload(c)
	if err != nil {
		return err
	}
	if u == nil {
		return g.pass(w, c, id)
	}
	var back *writeback.Write
	if c.plainHeaders() {
		back = g.Writes.Uploads.AcceptPart(u, c.payload.Length)
	}
	if back == nil {
		if err := g.moveUpload(w, c, u, nil); err != nil {
			return err
		}
		return g.pass(w, c, id)
	}
	return g.partBack(w, c, u, back)
}

// maxPart is the largest part, in bytes (S3: 5 GiB).
const maxPart = 5 << 30

// partBack answers an UploadPart that the journal acknowledges.
func (g *Gateway) partBack(w *answer, c *Call, u *writeback.Upload, back *writeback.Write) error {
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
	etag, all, err := g.receive(c, back, also...)
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
	number, _ := strconv.Atoi(c.query.Get("partNumber")) // check has seen that it is a number
	failpoint.Here("part.beforeCommit")
	if _, err := back.CommitPart(c.Context(), u, writeback.Part{Number: number, ETag: etag, Header: header}); err != nil {
		return err
	}
	w.Header()["ETag"] = []string{etag}
	for name, values := range header {
		w.Header()[name] = values
	}
	acknowledgeBack(w, http.StatusOK)
	return nil
}

// checksumName is the header in which a body's checksum comes, or the trailer; "" if
// there is none.
func (c *Call) checksumName() string {
	for _, a := range checksum.Algorithms {
		if c.Header.Get(a.Header) != "" || slices.ContainsFunc(c.payload.TrailerNames, func(name string) bool { return strings.EqualFold(name, a.Header) }) {
			return a.Header
		}
	}
	return ""
}

// abortMultipartUpload answers AbortMultipartUpload.
func (g *Gateway) abortMultipartUpload(w *answer, c *Call, id sigv4.Identity) error {
	u, err := g.upload(c)
	if err != nil {
		return err
	}
	if u == nil {
		return g.pass(w, c, id)
	}
	if v := c.Header.Get("X-Amz-If-Match-Initiated-Time"); v != "" {
		// A time to come, or that is none, is no condition, like in S3's others.
		if at, err := http.ParseTime(v); err == nil && at.Before(time.Now()) && !at.Equal(u.Begun.Truncate(time.Second)) {
			return s3err.PreconditionFailed.About("Condition", "If-Match-Initiated-Time")
		}
	}
	if err := g.Writes.Uploads.Abort(c.Context(), u); err != nil {
		return err
	}
	acknowledgeBack(w, http.StatusNoContent)
	return nil
}

// listParts answers ListParts.
func (g *Gateway) listParts(w *answer, c *Call, id sigv4.Identity) error {
	u, err := g.upload(c)
	if err != nil {
		return err
	}
	if u == nil {
		return g.pass(w, c, id)
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
		for _, a := range checksum.Algorithms {
			if v := p.Header.Get(a.Header); v != "" {
				element(&b, "Checksum"+a.Name, v)
			}
		}
		b.WriteString("</Part>")
	}
	element(&b, "StorageClass", storageClass(u.Header))
	describeChecksum(&b, u.Header)
	b.WriteString("</ListPartsResult>")
	sendDocument(w, b.Bytes())
	return nil
}

// listTime is how S3's documents tell the time.
const listTime = "2006-01-02T15:04:05.000Z"

func storageClass(h http.Header) string {
	if v := h.Get("X-Amz-Storage-Class"); v != "" {
		return v
	}
	return "STANDARD"
}

// describeChecksum adds what an upload says of its checksums.
func describeChecksum(b *bytes.Buffer, h http.Header) {
	if v := h.Get("X-Amz-Checksum-Algorithm"); v != "" {
		element(b, "ChecksumAlgorithm", v)
		element(b, "ChecksumType", h.Get("X-Amz-Checksum-Type"))
	}
}

// pageSize reads a page size that checkCounts has looked at.
func pageSize(v string) int {
	n, err := strconv.Atoi(v)
	if err != nil {
		return maxListKeys
	}
	return min(n, maxListKeys)
}

// encodedName is a key as a listing tells it.
func encodedName(c *Call, name string) string {
	if c.query.Get("encoding-type") == "url" {
		return listEncoded(name)
	}
	return name
}

// completeBack completes an upload that is in the journal.
func (g *Gateway) completeBack(w *answer, c *Call, document []byte, wanted []writeback.Part) error {
	u, err := g.upload(c)
	here := false
	if err == nil && c.plainHeaders("X-Amz-Mp-Object-Size") {
		here, err = g.Writes.Uploads.AcceptComplete(c.Context(), u)
	}
	if err == nil && here {
		err = g.completeInJournal(w, c, u, wanted)
	} else if err == nil {
		return g.completeMoved(w, c, u, document, wanted)
	}
	if errors.Is(err, writeback.ErrNoUpload) { // asked once more, or at the same time
		if etag, header, ok := g.Writes.Uploads.Completed(c.key, c.query.Get("uploadId")); ok {
			answerCompleted(w, c, etag, header)
			return nil
		}
	}
	return err
}

// completeInJournal has the journal acknowledge the completion of an upload.
func (g *Gateway) completeInJournal(w *answer, c *Call, u *writeback.Upload, wanted []writeback.Part) error {
	have, err := g.Writes.Uploads.Parts(c.Context(), u)
	if err != nil {
		return err
	}
	if err := checkPartSums(u, wanted); err != nil {
		return err
	}
	sum, err := c.objectSum(u)
	if err != nil {
		return err
	}
	parts, err := g.chosen(have, wanted)
	if err != nil {
		return err
	}
	header, err := c.completeHeader(u, parts, sum)
	if err != nil {
		return err
	}
	all := md5.New()
	for _, p := range parts {
		sum, _ := hex.DecodeString(strings.Trim(p.ETag, `"`)) // we made it
		all.Write(sum)
	}
	etag := fmt.Sprintf("\"%x-%d\"", all.Sum(nil), len(parts))
	failpoint.Here("complete.beforeCommit")
	if err := g.Writes.Uploads.Complete(c.Context(), u, etag, header, parts); err != nil {
		return err
	}
	failpoint.Here("ack.beforeSend")
	answerCompleted(w, c, etag, header)
	failpoint.Here("ack.afterSend")
	return nil
}

// chosen are the parts that a CompleteMultipartUpload names.
func (g *Gateway) chosen(have, wanted []writeback.Part) ([]writeback.Part, error) {
	var parts []writeback.Part
	size := int64(0)
	for i, p := range wanted {
		k, ok := slices.BinarySearchFunc(have, p.Number, func(h writeback.Part, n int) int { return h.Number - n })
		if !ok || have[k].ETag != p.ETag {
			return nil, s3err.InvalidPart
		}
		for name, values := range p.Header {
			if got := have[k].Header.Get(name); got != "" && got != values[0] {
				return nil, s3err.InvalidPart
			}
		}
		if have[k].Size < g.minPart && i < len(wanted)-1 {
			return nil, s3err.EntityTooSmall.About("ProposedSize", strconv.FormatInt(have[k].Size, 10)).About("MinSizeAllowed", strconv.FormatInt(g.minPart, 10)).About("PartNumber", strconv.Itoa(p.Number)).About("ETag", strings.Trim(p.ETag, `"`))
		}
		size += have[k].Size
		parts = append(parts, have[k])
	}
	if size > akigw.MaxObjectBytes {
		return nil, s3err.EntityTooLarge
	}
	return parts, nil
}

// checkPartSums checks what a CompleteMultipartUpload says of the checksums of parts:
// at most one each, of the upload's algorithm, and of each part if that of the object
// is made of them.
func checkPartSums(u *writeback.Upload, wanted []writeback.Part) error {
	a, checked := algorithm(u)
	invalid := s3err.InvalidArgument.With("The checksum of a part in the request is not valid.").About("ArgumentName", "Checksum")
	for i, p := range wanted {
		if len(p.Header) > 1 {
			return invalid
		}
		for name, values := range p.Header {
			given, ok := checksum.ByHeader(name)
			if !ok {
				return s3err.MalformedXML
			}
			if _, ok := given.Parse(values[0]); !ok {
				return invalid.About("ArgumentValue", values[0])
			}
			if checked && given.Name != a.Name {
				return s3err.BadDigest.With(fmt.Sprintf("The %s you specified for part %d did not match what we received.", strings.ToLower(given.Name), p.Number))
			}
		}
		if checked && len(p.Header) == 0 && u.Header.Get("X-Amz-Checksum-Type") == checksum.Composite {
			return s3err.InvalidRequest.With(fmt.Sprintf("The upload was created using a %s checksum. The complete request must include the checksum for each part. It was missing for part %d in the request.", strings.ToLower(a.Name), wanted[i].Number))
		}
	}
	return nil
}

// objectSum is what a CompleteMultipartUpload says is the checksum of the object, ""
// if nothing.
func (c *Call) objectSum(u *writeback.Upload) (value string, err error) {
	a, checked := algorithm(u)
	count := 0
	for _, given := range checksum.Algorithms {
		v := c.Header.Get(given.Header)
		if v == "" {
			continue
		}
		count++
		digest, parts, composite := strings.Cut(v, "-")
		n, numberErr := strconv.Atoi(parts)
		if _, ok := given.Parse(digest); !ok || composite && (numberErr != nil || n < 1) {
			return "", s3err.InvalidRequest.With("Value for " + strings.ToLower(given.Header) + " header is invalid.")
		}
		if checked && given.Name == a.Name {
			value = v
		}
	}
	if count > 1 {
		return "", s3err.InvalidRequest.With("Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.")
	}
	return value, nil
}

// minPart is the smallest part but the last, in bytes (S3: 5 MiB).
const minPart = 5 << 20

// completeHeader are the headers of an upload with the checksum of the whole object,
// which has to be what the client says that it is.
func (c *Call) completeHeader(u *writeback.Upload, parts []writeback.Part, said string) (http.Header, error) {
	size := int64(0)
	for _, p := range parts {
		size += p.Size
	}
	if v := c.Header.Get("X-Amz-Mp-Object-Size"); v != "" {
		n, err := strconv.ParseInt(v, 10, 64)
		switch {
		case err != nil:
			return nil, s3err.InvalidRequest.With("Value for x-amz-mp-object-size header is invalid.")
		case n < 0:
			return nil, s3err.InvalidRequest.With("Value for x-amz-mp-object-size header is less than zero: '" + v + "'")
		case n != size:
			return nil, s3err.InvalidRequest.With(fmt.Sprintf("The provided 'x-amz-mp-object-size' header value %d does not match what was computed: %d", n, size))
		}
	}
	if v := c.Header.Get("X-Amz-Checksum-Type"); v != "" && v != checksum.Composite && v != checksum.FullObject {
		return nil, s3err.InvalidRequest.With("Value for x-amz-checksum-type header is invalid.")
	}
	header := u.Header.Clone()
	a, ok := algorithm(u)
	if !ok {
		return header, nil
	}
	how := header.Get("X-Amz-Checksum-Type")
	if v := c.Header.Get("X-Amz-Checksum-Type"); v != "" && v != how {
		return nil, s3err.InvalidRequest.With("The upload was created using the " + how + " checksum mode. The complete request must use the same checksum mode.")
	}
	sums := make([]checksum.Part, len(parts))
	for i, p := range parts {
		sums[i] = checksum.Part{Value: p.Header.Get(a.Header), Size: p.Size}
	}
	value, err := a.OfParts(how, sums)
	if err != nil {
		return nil, err
	}
	if said != "" && said != value && (how != checksum.Composite || said+"-"+strconv.Itoa(len(parts)) != value) {
		return nil, s3err.BadDigest.With("The " + a.Name + " you specified did not match the calculated checksum.")
	}
	header.Set(a.Header, value)
	return header, nil
}

// answerCompleted answers a CompleteMultipartUpload that is in the journal.
func answerCompleted(w *answer, c *Call, etag string, h http.Header) {
	var b bytes.Buffer
	b.WriteString(s3xml.Header + `<CompleteMultipartUploadResult xmlns="` + namespace + `">`)
	element(&b, "Location", c.address())
	element(&b, "Bucket", c.key.Bucket)
	element(&b, "Key", c.key.Name)
	element(&b, "ETag", etag)
	for _, a := range checksum.Algorithms {
		if v := h.Get(a.Header); v != "" {
			element(&b, "Checksum"+a.Name, v)
			element(&b, "ChecksumType", h.Get("X-Amz-Checksum-Type"))
		}
	}
	b.WriteString("</CompleteMultipartUploadResult>")
	w.Header().Set("X-Akigw-Commit", "journal")
	sendDocument(w, b.Bytes())
}

// completeMoved completes an upload at the upstream, with what is left of it here.
func (g *Gateway) completeMoved(w *answer, c *Call, u *writeback.Upload, document []byte, wanted []writeback.Part) error {
	parts, err := g.Writes.Uploads.LocalParts(u, wanted)
	if err == nil {
		err = g.moveUpload(w, c, u, parts)
	}
	if err != nil {
		return err
	}
	var text bytes.Buffer
	err = g.completeUpstream(w, c, document, &text)
	if !s3xml.IsAnswer(text.Bytes(), "CompleteMultipartUploadResult", "ETag") {
		return err
	}
	// The client may have gone: the upload is over nevertheless.
	if err := g.Writes.Uploads.Abort(context.WithoutCancel(c.Context()), u); err != nil {
		g.Log.Warn("a completed upload stays in the journal until it expires", "key", u.Key.String(), "error", err)
	}
	return err
}
