package embedded

import (
	"encoding/xml"
	"net/http"
	"strings"

	"github.com/minio/minio-go/v7/pkg/s3utils"

	"github.com/akidb/akigw/internal/s3xml"
)

// maxPage is the largest page of a listing.
const maxPage = 1000

// afterPrefix sorts after every byte of valid UTF-8: seeking to prefix+afterPrefix skips all keys
// below prefix.
const afterPrefix = "\xff"

// listed is an object in a listing.
type listed struct {
	Key          s3xml.Text
	LastModified string
	ETag         string
	Size         int64
	StorageClass string
	Owner        *owner `xml:",omitempty"`
	// ChecksumAlgorithm and ChecksumType are "" for an object without a checksum.
	ChecksumAlgorithm string `xml:",omitempty"`
	ChecksumType      string `xml:",omitempty"`
}

type commonPrefixElement struct{ Prefix s3xml.Text }

// found is a page of a listing: keys and common prefixes count together to the
// page size, in byte order, and a page never ends inside a common prefix.
type found struct {
	contents []listed
	prefixes []commonPrefixElement
	more     bool
	last     string // key or common prefix
}

// list returns the page of objects that follows a key.
func (b *backend) list(bkt, prefix, delimiter, after string, page int) (*found, error) {
	out := &found{}
	seek := prefix
	if after != "" && after >= prefix {
		seek = after + "\x00"
		if cp := commonPrefix(after, prefix, delimiter); cp == after && cp != "" {
			seek = cp + afterPrefix
		}
	}
	for {
		var skip bool
		err := eachValue(b.index, []byte(objectPrefix+bkt+"\x00"), []byte(seek), func(raw []byte, r *record) bool {
			key := string(raw)
			if !strings.HasPrefix(key, prefix) {
				return false
			}
			if len(out.contents)+len(out.prefixes) >= page {
				out.more = page > 0
				return false
			}
			if cp := commonPrefix(key, prefix, delimiter); cp != "" {
				out.prefixes = append(out.prefixes, commonPrefixElement{s3xml.Text(cp)})
				out.last, seek, skip = cp, cp+afterPrefix, true
				return false
			}
			out.last = key
			out.contents = append(out.contents, r.listed(key))
			return true
		})
		if err != nil || !skip {
			return out, err
		}
	}
}

func (r *record) listed(key string) listed {
	l := listed{Key: s3xml.Text(key), LastModified: contentTime(r.Modified), ETag: `"` + r.ETag + `"`, Size: r.Size, StorageClass: "STANDARD"}
	if s, how := r.sum(); s != nil {
		l.ChecksumAlgorithm, l.ChecksumType = s.Algorithm, how
	}
	return l
}

// commonPrefix returns the common prefix that a key rolls up into, "" if none.
func commonPrefix(key, prefix, delimiter string) string {
	if delimiter == "" || !strings.HasPrefix(key, prefix) {
		return ""
	}
	i := strings.Index(key[len(prefix):], delimiter)
	if i < 0 {
		return ""
	}
	return key[:len(prefix)+i+len(delimiter)]
}

// encoded returns the function that encodes names for the encoding-type of a request: percent-encoded
// if it is "url".
func (c *call) encoded() func(string) s3xml.Text {
	if c.query.Get("encoding-type") == "url" {
		return func(name string) s3xml.Text { return s3xml.Text(s3utils.EncodePath(name)) }
	}
	return func(name string) s3xml.Text { return s3xml.Text(name) }
}

// listing is the response to both versions of ListObjects.
type listing struct {
	XMLName        xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListBucketResult"`
	Name           string
	Prefix         s3xml.Text
	Marker         *s3xml.Text `xml:",omitempty"`
	NextMarker     s3xml.Text  `xml:",omitempty"`
	StartAfter     s3xml.Text  `xml:",omitempty"`
	Token          string      `xml:"ContinuationToken,omitempty"`
	NextToken      string      `xml:"NextContinuationToken,omitempty"`
	KeyCount       *int        `xml:",omitempty"`
	MaxKeys        int
	Delimiter      s3xml.Text `xml:",omitempty"`
	EncodingType   string     `xml:",omitempty"`
	IsTruncated    bool
	Contents       []listed
	CommonPrefixes []commonPrefixElement
}

// listObjects answers ListObjects and ListObjectsV2. gofakes3 lacks encoding-type, checksums, and keys
// that XML 1.0 cannot hold.
func (s *Server) listObjects(w http.ResponseWriter, c *call) error {
	if err := s.backend.needBucket(c.bucket); err != nil {
		return err
	}
	page, err := c.number("max-keys", maxPage)
	if err != nil {
		return err
	}
	v2 := c.query.Has("list-type")
	after := c.query.Get("marker")
	if v2 {
		if after, err = c.token(); err != nil {
			return err
		}
		if after == "" {
			after = c.query.Get("start-after")
		}
	}
	found, err := s.backend.list(c.bucket, c.query.Get("prefix"), c.query.Get("delimiter"), after, page)
	if err != nil {
		return err
	}
	return writeXML(w, c.listing(found, page, v2))
}

// listing returns the document for a page.
func (c *call) listing(f *found, page int, v2 bool) *listing {
	encode := c.encoded()
	out := &listing{Name: c.bucket, Prefix: encode(c.query.Get("prefix")), MaxKeys: page, Delimiter: encode(c.query.Get("delimiter")),
		EncodingType: c.query.Get("encoding-type"), IsTruncated: f.more, Contents: f.contents, CommonPrefixes: f.prefixes}
	for i := range out.Contents {
		o := &out.Contents[i]
		o.Key = encode(string(o.Key))
		if c.query.Get("fetch-owner") == "true" {
			o.Owner = everythingsOwner()
		}
	}
	for i := range out.CommonPrefixes {
		out.CommonPrefixes[i].Prefix = encode(string(out.CommonPrefixes[i].Prefix))
	}
	if !v2 {
		marker := encode(c.query.Get("marker"))
		out.Marker = &marker
		if f.more && out.Delimiter != "" {
			out.NextMarker = encode(f.last)
		}
		return out
	}
	count := len(f.contents) + len(f.prefixes)
	out.KeyCount, out.StartAfter, out.Token = &count, encode(c.query.Get("start-after")), c.query.Get("continuation-token")
	if f.more {
		out.NextToken = token(f.last)
	}
	return out
}

type listedUpload struct {
	Key               s3xml.Text
	UploadID          string `xml:"UploadId"`
	Initiator         *owner
	Owner             *owner
	StorageClass      string
	Initiated         string
	ChecksumAlgorithm string `xml:",omitempty"`
	ChecksumType      string `xml:",omitempty"`
}

// uploadListing is the response to ListMultipartUploads.
type uploadListing struct {
	XMLName            xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListMultipartUploadsResult"`
	Bucket             string
	KeyMarker          s3xml.Text
	UploadIDMarker     string     `xml:"UploadIdMarker"`
	NextKeyMarker      s3xml.Text `xml:",omitempty"`
	NextUploadIDMarker string     `xml:"NextUploadIdMarker,omitempty"`
	Prefix             s3xml.Text `xml:",omitempty"`
	Delimiter          s3xml.Text `xml:",omitempty"`
	EncodingType       string     `xml:",omitempty"`
	MaxUploads         int
	IsTruncated        bool
	Uploads            []listedUpload        `xml:"Upload"`
	CommonPrefixes     []commonPrefixElement `xml:"CommonPrefixes"`
}

// listUploads answers ListMultipartUploads. gofakes3 lacks the same as in listObjects.
func (s *Server) listUploads(w http.ResponseWriter, c *call) error {
	if err := s.backend.needBucket(c.bucket); err != nil {
		return err
	}
	page, err := c.number("max-uploads", maxPage)
	if err != nil {
		return err
	}
	encode := c.encoded()
	prefix, delimiter := c.query.Get("prefix"), c.query.Get("delimiter")
	keyMarker, idMarker := c.query.Get("key-marker"), c.query.Get("upload-id-marker")
	if keyMarker == "" { // S3 then ignores upload-id-marker
		idMarker = ""
	}
	out := uploadListing{Bucket: c.bucket, KeyMarker: encode(keyMarker), UploadIDMarker: idMarker, Prefix: encode(prefix), Delimiter: encode(delimiter),
		EncodingType: c.query.Get("encoding-type"), MaxUploads: page}
	skipped := commonPrefix(keyMarker, prefix, delimiter) // the previous page ended with it
	if skipped != keyMarker {
		skipped = ""
	}
	last := ""
	err = eachValue(s.backend.index, []byte(uploadPrefix+c.bucket+"\x00"), nil, func(raw []byte, u *upload) bool {
		key, id, _ := strings.Cut(string(raw), "\x00")
		cp := commonPrefix(key, prefix, delimiter)
		switch behind := key > keyMarker || key == keyMarker && idMarker != "" && id > idMarker; {
		case !strings.HasPrefix(key, prefix) || keyMarker != "" && !behind || cp != "" && (cp == last || cp == skipped):
			return true
		case len(out.Uploads)+len(out.CommonPrefixes) == page:
			out.IsTruncated = page > 0
			return false
		case cp != "":
			last, out.NextKeyMarker, out.NextUploadIDMarker = cp, encode(cp), ""
			out.CommonPrefixes = append(out.CommonPrefixes, commonPrefixElement{encode(cp)})
			return true
		}
		out.NextKeyMarker, out.NextUploadIDMarker = encode(key), id
		out.Uploads = append(out.Uploads, listedUpload{Key: encode(key), UploadID: id, Initiator: everythingsOwner(), Owner: everythingsOwner(), StorageClass: "STANDARD",
			Initiated: contentTime(u.Started), ChecksumAlgorithm: u.Algorithm, ChecksumType: u.Type})
		return true
	})
	if err != nil {
		return err
	}
	if !out.IsTruncated {
		out.NextKeyMarker, out.NextUploadIDMarker = "", ""
	}
	return writeXML(w, out)
}
