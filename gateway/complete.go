package gateway

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/checksum"
	"github.com/akidb/akigw/internal/failpoint"
	"github.com/akidb/akigw/internal/s3err"
	"github.com/akidb/akigw/internal/s3xml"
	"github.com/akidb/akigw/sigv4"
	"github.com/akidb/akigw/tiers"
	"github.com/akidb/akigw/writeback"
)

// completeMultipartUpload answers CompleteMultipartUpload. The upstream may take minutes, and send
// 200 before it knows the outcome: the body contains the outcome, and is passed on as it arrives.
func (g *multipartUploads) completeMultipartUpload(w *answer, c *call, _ sigv4.Identity) error {
	document, err := c.readDocument(maxComplete)
	if err != nil {
		return err
	}
	parts, err := parseComplete(document)
	if err != nil {
		return err
	}
	if writeback.Local(c.query.Get("uploadId")) {
		return g.completeLocal(w, c, document, parts)
	}
	return g.completeUpstream(w, c, document, parts, nil)
}

// completeUpstream has the upstream complete an upload with these parts, as document says. seen, if not
// nil, also gets the document of a 200. Unless the upstream refuses, it may have completed the upload, and
// answers a repeated request alike although the key has been overwritten since. So the cache forgets the
// upload.
func (g *multipartUploads) completeUpstream(w *answer, c *call, document []byte, parts []writeback.Part, seen io.Writer) error {
	change := g.Store.Begin(c.key)
	return g.forward.whileFenced(func() error {
		id, refused := c.query.Get("uploadId"), false
		defer func() {
			if !refused {
				g.Store.ForgetUpload(c.key, id)
			}
		}()
		resp, err := g.forward.keepAlive(w, c, func() (*http.Response, error) { return g.forward.send(c, document) })
		if err != nil {
			return err
		}
		refused = resp.StatusCode == http.StatusBadRequest
		if resp.StatusCode == http.StatusOK {
			if err := relocate(resp, c.address()); err != nil {
				return err
			}
			cacheCompleted(change, id, parts, resp)
			if seen != nil {
				resp.Body = struct {
					io.Reader
					io.Closer
				}{io.TeeReader(resp.Body, seen), resp.Body}
			}
		}
		acknowledge(w, c, resp)
		return nil
	}, change)
}

// cacheCompleted tells the cache which object an upload has become, if the response says that it has.
func cacheCompleted(change *tiers.Write, id string, parts []writeback.Part, resp *http.Response) {
	var object struct {
		ETag   string
		Others []struct {
			XMLName xml.Name
			Value   string `xml:",chardata"`
		} `xml:",any"`
	}
	if !peek(resp, "CompleteMultipartUploadResult", "ETag", &object) {
		return
	}
	header := resp.Header.Clone()
	header.Set("Etag", `"`+strings.Trim(object.ETag, `"`)+`"`)
	for _, o := range object.Others {
		if name, ok := strings.CutPrefix(o.XMLName.Local, "Checksum"); ok {
			header.Set("X-Amz-Checksum-"+name, o.Value)
		}
	}
	listed := make([]tiers.UploadedPart, len(parts))
	for i, p := range parts {
		listed[i] = tiers.UploadedPart{Number: p.Number, ETag: p.ETag}
	}
	change.Assembled(id, listed, header)
}

// completeLocal completes an upload that is in the journal, there or upstream.
func (g *multipartUploads) completeLocal(w *answer, c *call, document []byte, wanted []writeback.Part) error {
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
	if errors.Is(err, writeback.ErrNoUpload) { // a repeated or concurrent request
		if etag, header, ok := g.Writes.Uploads.Completed(c.key, c.query.Get("uploadId")); ok {
			answerCompleted(w, c, etag, header)
			return nil
		}
	}
	return err
}

// completeInJournal has the journal acknowledge the completion of an upload.
func (g *multipartUploads) completeInJournal(w *answer, c *call, u *writeback.Upload, wanted []writeback.Part) error {
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
		sum, _ := hex.DecodeString(strings.Trim(p.ETag, `"`)) // the journal created it
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

// chosen returns the parts that a CompleteMultipartUpload names.
func (g *multipartUploads) chosen(have, wanted []writeback.Part) ([]writeback.Part, error) {
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

// checkPartSums checks the checksums of parts in a CompleteMultipartUpload: at most one for each
// part, of the upload's algorithm, and one for every part if the object's is composed of them.
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

// objectSum returns the checksum of the object in a CompleteMultipartUpload, "" if it has none.
func (c *call) objectSum(u *writeback.Upload) (value string, err error) {
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

// minPart is the smallest part except the last, in bytes (S3: 5 MiB).
const minPart = 5 << 20

// completeHeader returns the headers of an upload with the checksum of the whole object. It fails
// if size or checksum differ from what the client claims.
func (c *call) completeHeader(u *writeback.Upload, parts []writeback.Part, claimed string) (http.Header, error) {
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
	if claimed != "" && claimed != value && (how != checksum.Composite || claimed+"-"+strconv.Itoa(len(parts)) != value) {
		return nil, s3err.BadDigest.With("The " + a.Name + " you specified did not match the calculated checksum.")
	}
	header.Set(a.Header, value)
	return header, nil
}

// answerCompleted answers a CompleteMultipartUpload that is in the journal.
func answerCompleted(w *answer, c *call, etag string, h http.Header) {
	sendCommitted(w, "CompleteMultipartUploadResult", func(b *bytes.Buffer) {
		element(b, "Location", c.address())
		element(b, "Bucket", c.key.Bucket)
		element(b, "Key", c.key.Name)
		element(b, "ETag", etag)
		for _, a := range checksum.Algorithms {
			if v := h.Get(a.Header); v != "" {
				element(b, "Checksum"+a.Name, v)
				element(b, "ChecksumType", h.Get("X-Amz-Checksum-Type"))
			}
		}
	})
}

// completeMoved moves the rest of an upload from the journal to the upstream, and completes it
// there.
func (g *multipartUploads) completeMoved(w *answer, c *call, u *writeback.Upload, document []byte, wanted []writeback.Part) error {
	parts, err := g.Writes.Uploads.LocalParts(u, wanted)
	if err == nil {
		err = g.moveUpload(w, c, u, parts)
	}
	if err != nil {
		return err
	}
	var text bytes.Buffer
	err = g.completeUpstream(w, c, document, wanted, &text)
	if !s3xml.IsAnswer(text.Bytes(), "CompleteMultipartUploadResult", "ETag") {
		return err
	}
	// The upload has ended even if the client has disconnected.
	if err := g.Writes.Uploads.Abort(context.WithoutCancel(c.Context()), u); err != nil {
		g.log.Warn("a completed upload stays in the journal until it expires", "key", u.Key.String(), "error", err)
	}
	return err
}
