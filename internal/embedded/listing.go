package embedded

import (
	"encoding/base64"
	"encoding/xml"
	"net/http"
	"net/url"
	"strconv"

	"github.com/johannesboyne/gofakes3"
	"github.com/minio/minio-go/v7/pkg/s3utils"

	"github.com/akidb/akigw/internal/s3err"
	"github.com/akidb/akigw/internal/s3xml"
)

// listing is the answer of both versions of ListObjects. gofakes3's own leaves
// KeyCount out when it is 0, which SDKs do not expect, and knows no
// encoding-type.
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
	MaxKeys        int64
	Delimiter      s3xml.Text `xml:",omitempty"`
	EncodingType   string     `xml:",omitempty"`
	IsTruncated    bool
	Contents       []content
	CommonPrefixes []commonPrefixes
}

// content is one object of a listing.
type content struct {
	Key          s3xml.Text
	LastModified gofakes3.ContentTime
	ETag         string
	Size         int64
	StorageClass string
}

// list answers ListObjects and ListObjectsV2.
func (s *Server) list(w http.ResponseWriter, bkt string, query url.Values) error {
	if exists, err := s.backend.BucketExists(bkt); err != nil {
		return err
	} else if !exists {
		return noSuchBucket.About("BucketName", bkt)
	}
	page := gofakes3.ListBucketPage{MaxKeys: 1000}
	if v := query.Get("max-keys"); v != "" {
		n, err := strconv.ParseInt(v, 10, 32)
		if err != nil || n < 0 {
			return s3err.InvalidArgument.With("Provided max-keys not an integer or within integer range").About("ArgumentName", "max-keys")
		}
		page.MaxKeys = min(n, page.MaxKeys)
	}
	v2 := query.Get("list-type") == "2"
	page.Marker = query.Get("marker")
	if v2 {
		page.Marker = query.Get("start-after")
		if token, ok := query["continuation-token"]; ok {
			raw, err := base64.URLEncoding.DecodeString(token[0])
			if err != nil || len(raw) == 0 {
				return s3err.InvalidArgument.With("The continuation token provided is incorrect").About("ArgumentName", "continuation-token")
			}
			page.Marker = string(raw)
		}
	}
	page.HasMarker = page.Marker != ""
	found, err := s.backend.ListBucket(bkt, &gofakes3.Prefix{Prefix: query.Get("prefix"), Delimiter: query.Get("delimiter")}, page)
	if err != nil {
		return err
	}
	text := func(parameter string) s3xml.Text { return s3xml.Text(query.Get(parameter)) }
	out := listing{Name: bkt, Prefix: text("prefix"), MaxKeys: page.MaxKeys, Delimiter: text("delimiter"), IsTruncated: found.IsTruncated}
	for _, c := range found.Contents {
		out.Contents = append(out.Contents, content{s3xml.Text(c.Key), c.LastModified, c.ETag, c.Size, "STANDARD"})
	}
	for _, p := range found.CommonPrefixes {
		out.CommonPrefixes = append(out.CommonPrefixes, commonPrefixes{s3xml.Text(p.Prefix)})
	}
	if v2 {
		count := len(found.Contents) + len(found.CommonPrefixes)
		out.KeyCount, out.StartAfter, out.Token = &count, text("start-after"), query.Get("continuation-token")
		if found.NextMarker != "" {
			out.NextToken = base64.URLEncoding.EncodeToString([]byte(found.NextMarker))
		}
	} else {
		marker := text("marker")
		out.Marker = &marker
		if out.Delimiter != "" {
			out.NextMarker = s3xml.Text(found.NextMarker)
		}
	}
	switch encoding := query.Get("encoding-type"); encoding {
	case "":
	case "url":
		out.encode()
	default:
		return s3err.InvalidArgument.With("Invalid Encoding Method specified in Request").About("ArgumentName", "encoding-type")
	}
	return writeXML(w, out)
}

// encode percent-encodes names, for keys that XML cannot hold.
func (l *listing) encode() {
	l.EncodingType = "url"
	names := []*s3xml.Text{&l.Prefix, &l.Delimiter, &l.StartAfter, &l.NextMarker}
	if l.Marker != nil {
		names = append(names, l.Marker)
	}
	for i := range l.Contents {
		names = append(names, &l.Contents[i].Key)
	}
	for i := range l.CommonPrefixes {
		names = append(names, &l.CommonPrefixes[i].Prefix)
	}
	for _, name := range names {
		*name = s3xml.Text(s3utils.EncodePath(string(*name)))
	}
}
