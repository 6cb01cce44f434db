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
	"github.com/akidb/akigw/sigv4"
	"github.com/akidb/akigw/tiers"
	"github.com/akidb/akigw/writeback"
)

// copies answers CopyObject and UploadPartCopy. If the journal accepts it, the copy of a pending
// object is a pending write with its own bytes, so that source and copy are independent. The
// upstream makes every other copy.
type copies struct {
	Store   *tiers.Store
	Writes  *writeback.WriteBack
	forward *forwarder
	uploads *multipartUploads
}

const directiveHeader, taggingDirectiveHeader, copyRangeHeader = "X-Amz-Metadata-Directive", "X-Amz-Tagging-Directive", "X-Amz-Copy-Source-Range"

// pendingSource opens the source of a copy if it is pending and the copy asks only for its bytes.
// It returns nil if the upstream has to make the copy.
func (g *copies) pendingSource(c *call, spec akigw.RangeSpec, also ...string) (*tiers.Reader, error) {
	if c.source.version != "" || c.Header.Get("X-Amz-Checksum-Algorithm") != "" || !c.plainHeaders(append(also, copySourceHeader)...) {
		return nil, nil
	}
	source, err := g.Store.Pending(c.Context(), c.source.key, spec)
	if errors.Is(err, akigw.ErrNoSuchKey) {
		err = s3err.NoSuchKey.About("Key", c.source.key.Name)
	}
	return source, err
}

// copyObject answers CopyObject: from the journal, or written through.
func (g *copies) copyObject(w *answer, c *call, id sigv4.Identity) error {
	replace := c.Header.Get(directiveHeader) == "REPLACE"
	tags := c.Header.Get(taggingDirectiveHeader)
	if c.source.key == c.key && !replace || tags != "" && tags != "COPY" { // a pending object has no tags
		return g.forward.change(w, c, id)
	}
	source, err := g.pendingSource(c, akigw.RangeSpec{}, directiveHeader, taggingDirectiveHeader)
	if err != nil {
		return err
	}
	if source == nil {
		return g.forward.change(w, c, id)
	}
	defer source.Close()
	back, err := g.Writes.Accept(c.Context(), c.key, source.Object.Size, c.Header)
	if err != nil {
		return err
	}
	if back == nil {
		return g.forward.change(w, c, id)
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

// copyBody writes a pending body to the journal once more, and to the hashes in also. It returns
// the ETag of the copy.
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

// copyHeader returns the headers that go upstream with a copy: the metadata of the source or of the
// call, and checksums of the whole body. A checksum composed of the source's parts is not valid for
// the copy, which has no parts.
func (c *call) copyHeader(source http.Header, replace bool) http.Header {
	header := c.pendingHeader()
	for name := range header {
		own := strings.HasPrefix(name, metadataPrefix) || describes(name)
		if !replace && own || name == copySourceHeader || name == directiveHeader || name == taggingDirectiveHeader {
			delete(header, name)
		}
	}
	whole := source.Get("X-Amz-Checksum-Type") == "FULL_OBJECT"
	for name, values := range source {
		_, sum := checksum.ByHeader(name)
		if sum && whole || !replace && (strings.HasPrefix(name, metadataPrefix) || describes(name)) {
			header[name] = values
		}
	}
	return header
}

// describes reports whether a header of an object, besides user metadata, is one that a copy takes over (CopyObject,
// x-amz-metadata-directive).
func describes(header string) bool {
	switch header {
	case "Cache-Control", "Content-Disposition", "Content-Encoding", "Content-Language", "Content-Type", "Expires":
		return true
	default:
		return false
	}
}

// answerCopy answers a copy that is in the journal, with the checksums in header.
func answerCopy(w *answer, result, etag string, modified time.Time, header http.Header) {
	sendCommitted(w, result, func(b *bytes.Buffer) {
		element(b, "LastModified", modified.UTC().Format(listTime))
		element(b, "ETag", etag)
		checksumElements(b, header)
	})
}

// uploadPartCopy answers UploadPartCopy: from the journal, if it has the upload and the source is
// pending. Otherwise the upstream copies, and an upload in the journal is moved there.
func (g *copies) uploadPartCopy(w *answer, c *call, id sigv4.Identity) error {
	take := func(u *writeback.Upload) (bool, error) { return g.copyPart(w, c, u) }
	return g.uploads.addPart(w, c, take, func() error {
		g.Store.ForgetUpload(c.key, c.query.Get("uploadId")) // the cache cannot know all of its parts
		return g.forward.pass(w, c, id)
	})
}

// copyPart copies part of a pending object into an upload in the journal. It returns false if the
// upstream has to do that.
func (g *copies) copyPart(w *answer, c *call, u *writeback.Upload) (done bool, err error) {
	spec, _ := copyRange(c.Header.Get(copyRangeHeader)) // check has parsed it
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
	modified, err := back.CommitPart(c.Context(), u, writeback.Part{Number: c.partNumber(), ETag: etag, Header: header})
	if err != nil {
		return false, err
	}
	answerCopy(w, "CopyPartResult", etag, modified, header)
	return true, nil
}

// copyRange parses x-amz-copy-source-range. It returns false unless the range has both ends.
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
