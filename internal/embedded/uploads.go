package embedded

import (
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/minio/minio-go/v7/pkg/s3utils"

	"github.com/akidb/akigw/internal/checksum"
	"github.com/akidb/akigw/internal/s3err"
	"github.com/akidb/akigw/internal/s3xml"
)

// createUpload answers CreateMultipartUpload.
func (s *Server) createUpload(w http.ResponseWriter, c *call) error {
	u := upload{Started: time.Now(), Meta: c.meta()}
	if err := c.uploadChecksum(&u); err != nil {
		return err
	}
	return s.fake(w, c, &adapter{upload: u})
}

// uploadChecksum reads the checksum headers of a CreateMultipartUpload.
func (c *call) uploadChecksum(u *upload) error {
	name, how := c.Header.Get("X-Amz-Checksum-Algorithm"), c.Header.Get(checksumType)
	if name == "" {
		if how != "" {
			return s3err.InvalidRequest.With("The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.")
		}
		return nil
	}
	a, err := algorithm(name)
	switch types := a.Types(); {
	case err != nil:
		return err
	case len(types) == 0:
		return refused(a.Name + " for uploads in parts")
	case how == "":
		how = types[0]
	case !slices.Contains(types, how):
		return s3err.InvalidRequest.With("The " + how + " checksum type cannot be used with the " + strings.ToLower(a.Name) + " checksum algorithm.")
	}
	u.Algorithm, u.Type = a.Name, how
	return nil
}

// part returns the part number of a request.
func (c *call) part() (int, error) {
	n, err := strconv.Atoi(c.query.Get("partNumber"))
	if err != nil || n < 1 || n > maxParts {
		return 0, s3err.InvalidArgument.With("Part number must be an integer between 1 and 10000, inclusive").About("ArgumentName", "partNumber").About("ArgumentValue", c.query.Get("partNumber"))
	}
	return n, nil
}

// uploadPart answers UploadPart.
func (s *Server) uploadPart(w http.ResponseWriter, c *call) error {
	n, err := c.part()
	if err != nil {
		return err
	}
	size, err := c.length()
	if err != nil {
		return err
	}
	u, err := s.backend.upload(c.bucket, c.key, c.query.Get("uploadId"))
	if err != nil {
		return err
	}
	body, err := c.content()
	if err != nil {
		return err
	}
	if err := body.join(u); err != nil {
		return err
	}
	if size > 0 {
		return s.fake(w, c, &adapter{body: body})
	}
	p, err := s.backend.uploadPart(c, n, 0, body, body.checksum) // gofakes3 does not accept an empty part
	if err != nil {
		return err
	}
	setSum(w.Header(), p.Blob.Sum)
	w.Header().Set("Etag", `"`+p.MD5+`"`)
	w.WriteHeader(http.StatusOK)
	return nil
}

// join makes sure that a part gets a checksum of its upload's algorithm, even if the request has none.
func (b *content) join(u *upload) error {
	switch {
	case u.Algorithm == "":
		return nil
	case b.sum != nil && b.sum.algorithm.Name != u.Algorithm:
		return s3err.InvalidRequest.With(fmt.Sprintf("Checksum Type mismatch occurred, expected checksum Type: %s, actual checksum Type: %s",
			strings.ToLower(u.Algorithm), strings.ToLower(b.sum.algorithm.Name)))
	case b.sum == nil:
		a, err := algorithm(u.Algorithm)
		if err != nil {
			return err
		}
		b.add(&digest{Hash: a.New(), algorithm: a})
	}
	return nil
}

// uploadPart stores a body as part n of the upload that a request names. sum returns its checksum once
// the body has been read.
func (b *backend) uploadPart(c *call, n int, size int64, body io.Reader, sum func() *sum) (part, error) {
	f, etag, err := b.write(body, size)
	if err != nil {
		return part{}, err
	}
	f.Sum = sum()
	p := part{Blob: f, MD5: etag, Modified: time.Now()}
	return p, b.storePart(c.bucket, c.key, c.query.Get("uploadId"), n, p)
}

// partSums has the elements for the checksums of a part or of an object. At most one of them is set.
type partSums struct {
	ChecksumCRC32     string `xml:",omitempty"`
	ChecksumCRC32C    string `xml:",omitempty"`
	ChecksumCRC64NVME string `xml:",omitempty"`
	ChecksumSHA1      string `xml:",omitempty"`
	ChecksumSHA256    string `xml:",omitempty"`
	ChecksumSHA512    string `xml:",omitempty"`
	ChecksumMD5       string `xml:",omitempty"`
	ChecksumXXHASH64  string `xml:",omitempty"`
	ChecksumXXHASH3   string `xml:",omitempty"`
	ChecksumXXHASH128 string `xml:",omitempty"`
}

// field returns the element of an algorithm, nil for an unknown one.
func (p *partSums) field(algorithm string) *string {
	return map[string]*string{
		"CRC32": &p.ChecksumCRC32, "CRC32C": &p.ChecksumCRC32C, "CRC64NVME": &p.ChecksumCRC64NVME, "SHA1": &p.ChecksumSHA1, "SHA256": &p.ChecksumSHA256,
		"SHA512": &p.ChecksumSHA512, "MD5": &p.ChecksumMD5, "XXHASH64": &p.ChecksumXXHASH64, "XXHASH3": &p.ChecksumXXHASH3, "XXHASH128": &p.ChecksumXXHASH128,
	}[algorithm]
}

// sumsOf returns the elements for a checksum.
func sumsOf(s *sum) (p partSums) {
	if s != nil {
		if field := p.field(s.Algorithm); field != nil {
			*field = s.Value
		}
	}
	return p
}

// sum returns the checksum that is set, nil for none.
func (p partSums) sum() *sum {
	for _, a := range checksum.Algorithms {
		if field := p.field(a.Name); field != nil && *field != "" {
			return &sum{a.Name, *field}
		}
	}
	return nil
}

// completedPart is a part as CompleteMultipartUpload names it.
type completedPart struct {
	PartNumber int
	ETag       string
	partSums
	Unknown unknown `xml:",any"`
}

// completeUpload answers CompleteMultipartUpload. gofakes3 ignores its conditions
// and checksums.
func (s *Server) completeUpload(w http.ResponseWriter, c *call) error {
	want, err := c.completion()
	if err != nil {
		return err
	}
	r, err := s.backend.completeUpload(c.bucket, c.key, c.query.Get("uploadId"), want)
	if err != nil {
		return err
	}
	of, how := r.sum()
	return writeXML(w, struct {
		XMLName  xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ CompleteMultipartUploadResult"`
		Location string
		Bucket   string
		Key      s3xml.Text
		ETag     string
		partSums
		ChecksumType string `xml:",omitempty"`
	}{Location: "http://" + c.Host + "/" + c.bucket + "/" + s3utils.EncodePath(c.key), Bucket: c.bucket, Key: s3xml.Text(c.key), ETag: `"` + r.ETag + `"`, partSums: sumsOf(of), ChecksumType: how})
}

// completion parses a CompleteMultipartUpload request.
func (c *call) completion() (want completion, err error) {
	var in struct {
		Part    []completedPart
		Unknown unknown `xml:",any"`
	}
	if err := c.readXML("CompleteMultipartUpload", &in); err != nil {
		return want, err
	}
	if len(in.Part) == 0 || len(in.Part) > maxParts {
		return want, s3err.MalformedXML
	}
	for _, u := range append([]unknown{in.Unknown}, unknownOf(in.Part)...) {
		if err := u.refuse(); err != nil {
			return want, err
		}
	}
	want = completion{parts: in.Part, conditions: c.conditions(), size: -1, how: c.Header.Get(checksumType)}
	if v := c.Header.Get("X-Amz-Mp-Object-Size"); v != "" {
		if want.size, err = strconv.ParseInt(v, 10, 64); err != nil || want.size < 0 {
			return want, s3err.InvalidRequest.With("Value for x-amz-mp-object-size header is invalid.")
		}
	}
	for _, a := range checksum.Algorithms {
		v := c.Header.Get(a.Header)
		switch {
		case v == "":
		case want.sum != nil:
			return want, s3err.InvalidRequest.With("Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.")
		default:
			want.sum = &sum{a.Name, v}
		}
	}
	return want, nil
}

func unknownOf(parts []completedPart) (all []unknown) {
	for _, p := range parts {
		all = append(all, p.Unknown)
	}
	return all
}

// abortUpload answers AbortMultipartUpload.
func (s *Server) abortUpload(w http.ResponseWriter, c *call) error {
	return s.fake(w, c, &adapter{})
}

type listedPart struct {
	PartNumber   int
	LastModified string
	ETag         string
	Size         int64
	partSums
}

// listParts answers ListParts. gofakes3 lists no checksums and no owner.
func (s *Server) listParts(w http.ResponseWriter, c *call) error {
	page, err := c.number("max-parts", maxPage)
	if err != nil {
		return err
	}
	after := 0
	if c.query.Has("part-number-marker") {
		if after, err = c.number("part-number-marker", maxParts); err != nil {
			return err
		}
	}
	u, err := s.backend.upload(c.bucket, c.key, c.query.Get("uploadId"))
	if err != nil {
		return err
	}
	parts, err := s.backend.parts(c.query.Get("uploadId"), after)
	if err != nil {
		return err
	}
	out := struct {
		XMLName              xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListPartsResult"`
		Bucket               string
		Key                  s3xml.Text
		UploadID             string `xml:"UploadId"`
		Initiator            *owner
		Owner                *owner
		StorageClass         string
		PartNumberMarker     int
		NextPartNumberMarker int `xml:",omitempty"`
		MaxParts             int
		IsTruncated          bool
		ChecksumAlgorithm    string       `xml:",omitempty"`
		ChecksumType         string       `xml:",omitempty"`
		Parts                []listedPart `xml:"Part"`
	}{Bucket: c.bucket, Key: s3xml.Text(c.key), UploadID: c.query.Get("uploadId"), Initiator: everythingsOwner(), Owner: everythingsOwner(), StorageClass: "STANDARD",
		PartNumberMarker: after, MaxParts: page, IsTruncated: len(parts) > page && page > 0, ChecksumAlgorithm: u.Algorithm, ChecksumType: u.Type}
	for _, p := range parts[:min(page, len(parts))] {
		out.NextPartNumberMarker = p.number
		out.Parts = append(out.Parts, listedPart{p.number, contentTime(p.Modified), `"` + p.MD5 + `"`, p.Blob.Size, sumsOf(p.Blob.Sum)})
	}
	return writeXML(w, out)
}
