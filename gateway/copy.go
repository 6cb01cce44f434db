package gateway

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/checksum"
	"github.com/akidb/akigw/internal/failpoint"
	"github.com/akidb/akigw/internal/s3err"
	"github.com/akidb/akigw/internal/s3xml"
	"github.com/akidb/akigw/sigv4"
	"github.com/akidb/akigw/tiers"
	"github.com/akidb/akigw/writeback"
)

// A copy of what is pending is a pending write of its own, with bytes of its own, if
// the journal takes it: source and copy come and go without looking at each other.
// Every other copy is the upstream's to make.

const directiveHeader, taggingDirectiveHeader, copyRangeHeader = "X-Amz-Metadata-Directive", "X-Amz-Tagging-Directive", "X-Amz-Copy-Source-Range"

// pendingSource opens what a copy copies, if it is pending and the copy asks for
// nothing more than the bytes. It returns nil if the copy is the upstream's.
func (g *Gateway) pendingSource(c *Call, spec akigw.RangeSpec, also ...string) (*tiers.Reader, error) {
	if c.source.version != "" || c.Header.Get("X-Amz-Checksum-Algorithm") != "" || !c.plainHeaders(append(also, copySourceHeader)...) {
		return nil, nil
	}
	source, err := g.Store.Pending(c.Context(), c.source.key, spec)
	if errors.Is(err, akigw.ErrNoSuchKey) {
		err = s3err.NoSuchKey.About("Key", c.source.key.Name)
	}
	return source, err
}

// copyObject answers CopyObject: by the journal, or through.
func (g *Gateway) copyObject(w *answer, c *Call, id sigv4.Identity) error {
	replace := c.Header.Get(directiveHeader) == "REPLACE"
	tags := c.Header.Get(taggingDirectiveHeader)
	if c.source.key == c.key && !replace || tags != "" && tags != "COPY" { // what is pending has no tags
		return g.change(w, c, id)
	}
	source, err := g.pendingSource(c, akigw.RangeSpec{}, directiveHeader, taggingDirectiveHeader)
	if err != nil {
		return err
	}
	if source == nil {
		return g.change(w, c, id)
	}
	defer source.Close()
	back, err := g.Writes.Accept(c.Context(), c.key, source.Object.Size, c.Header)
	if err != nil {
		return err
	}
	if back == nil {
		return g.change(w, c, id)
	}
	defer back.Discard()
	etag, err := copyBody(c.Context(), source, back)
	if err != nil {
		return err
	}
	header := c.copyHeader(source.Object.Header, replace)
	failpoint.Here("copy.beforeCommit")
	modified, err := back.Commit(c.Context(), etag, header)
	if err != nil {
		return err
	}
	answerCopy(w, "CopyObjectResult", etag, modified, header)
	return nil
}

// copyBody takes a pending body into the journal once more, and returns the ETag of
// the copy. also are sums that are made of it besides.
func copyBody(ctx context.Context, source *tiers.Reader, back *writeback.Write, also ...io.Writer) (etag string, err error) {
	sum := back.MD5()
	to := io.MultiWriter(append([]io.Writer{back, sum}, also...)...)
	for {
		data, err := source.Next(ctx)
		if err == io.EOF {
			return `"` + hex.EncodeToString(sum.Sum(nil)) + `"`, nil
		}
		if err != nil {
			return "", err
		}
		if _, err := to.Write(data); err != nil {
			return "", err
		}
	}
}

// copyHeader is what goes upstream with a copy: the source's metadata, or those of the
// call, and checksums of the whole body. A checksum that was made of the source's parts
// is none of the copy's, which has no parts.
func (c *Call) copyHeader(source http.Header, replace bool) http.Header {
	header := c.pendingHeader()
	for name := range header {
		own := strings.HasPrefix(name, metadataPrefix) || described[name]
		if !replace && own || name == copySourceHeader || name == directiveHeader || name == taggingDirectiveHeader {
			delete(header, name)
		}
	}
	whole := source.Get("X-Amz-Checksum-Type") == "FULL_OBJECT"
	for name, values := range source {
		_, sum := checksum.ByHeader(name)
		if sum && whole || !replace && (strings.HasPrefix(name, metadataPrefix) || described[name]) {
			header[name] = values
		}
	}
	return header
}

// described are the headers of an object, besides user metadata, that a copy has as
// well (CopyObject, x-amz-metadata-directive).
var described = map[string]bool{
	"Cache-Control": true, "Content-Disposition": true, "Content-Encoding": true, "Content-Language": true, "Content-Type": true, "Expires": true,
}

// answerCopy answers a copy that is in the journal. header has its checksums.
func answerCopy(w *answer, result, etag string, modified time.Time, header http.Header) {
	var b bytes.Buffer
	b.WriteString(s3xml.Header + `<` + result + ` xmlns="` + namespace + `">`)
	element(&b, "LastModified", modified.UTC().Format(listTime))
	element(&b, "ETag", etag)
	for _, a := range checksum.Algorithms {
		if v := header.Get(a.Header); v != "" {
			element(&b, "Checksum"+a.Name, v)
		}
	}
	b.WriteString("</" + result + ">")
	w.Header().Set("X-Akigw-Commit", "journal")
	sendDocument(w, b.Bytes())
}

// uploadPartCopy answers UploadPartCopy: by the journal, if the upload is there and the
// source is pending. Otherwise it is the upstream that copies, so an upload in the
// journal moves there.
func (g *Gateway) uploadPartCopy(w *answer, c *Call, id sigv4.Identity) error {
	u, err := g.upload(c)
	if err != nil {
		return err
	}
	if u == nil {
		return g.pass(w, c, id)
	}
	if done, err := g.copyPart(w, c, u); done || err != nil {
		return err
	}
	if err := g.moveUpload(w, c, u, nil); err != nil {
		return err
	}
	return g.pass(w, c, id)
}

// copyPart copies a part of what is pending into an upload that is in the journal. It
// returns false if that is for the upstream to do.
func (g *Gateway) copyPart(w *answer, c *Call, u *writeback.Upload) (done bool, err error) {
	spec, _ := copyRange(c.Header.Get(copyRangeHeader)) // check has looked at it
	source, err := g.pendingSource(c, spec, copyRangeHeader)
	if source == nil {
		return false, err
	}
	defer source.Close()
	if _, last := spec.Bounds(); err != nil || !spec.Whole() && last >= source.Object.Size {
		return false, s3err.InvalidRange.About("RangeRequested", c.Header.Get(copyRangeHeader)).About("ActualObjectSize", strconv.FormatInt(source.Object.Size, 10))
	}
	back := g.Writes.Uploads.AcceptPart(u, source.Range.Length)
	if back == nil {
		return false, nil
	}
	defer back.Discard()
	header := http.Header{}
	var sum hash.Hash
	var also []io.Writer
	a, checked := algorithm(u)
	if checked {
		sum = a.New()
		also = append(also, sum)
	}
	etag, err := copyBody(c.Context(), source, back, also...)
	if err != nil {
		return false, err
	}
	if checked {
		header.Set(a.Header, base64.StdEncoding.EncodeToString(sum.Sum(nil)))
	}
	number, _ := strconv.Atoi(c.query.Get("partNumber")) // check has seen that it is a number
	modified, err := back.CommitPart(c.Context(), u, writeback.Part{Number: number, ETag: etag, Header: header})
	if err != nil {
		return false, err
	}
	answerCopy(w, "CopyPartResult", etag, modified, header)
	return true, nil
}

// copyRange reads x-amz-copy-source-range, which has to name both ends. It returns
// false if it does not.
func copyRange(value string) (spec akigw.RangeSpec, ok bool) {
	if value == "" {
		return spec, true
	}
	spec = akigw.ParseRange(value)
	if _, suffix := spec.Suffix(); spec.Whole() || suffix {
		return spec, false
	}
	_, last := spec.Bounds()
	return spec, last >= 0
}
