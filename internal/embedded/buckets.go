package embedded

import (
	"encoding/base64"
	"encoding/xml"
	"net/http"
	"slices"
	"strings"

	"github.com/johannesboyne/gofakes3"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/s3err"
	"github.com/akidb/akigw/internal/s3xml"
)

// owner is the owner of everything.
type owner struct {
	ID          string
	DisplayName string
}

// everythingsOwner is the owner that gofakes3 names in ListBuckets.
func everythingsOwner() *owner {
	return &owner{ID: "fe7272ea58be830e56fe1663b10fafef", DisplayName: "GoFakeS3"}
}

// maxBuckets is the largest page of ListBuckets.
const maxBuckets = 10_000

type listedBucket struct{ Name, CreationDate string }

// listBuckets answers ListBuckets.
func (s *Server) listBuckets(w http.ResponseWriter, c *call) error {
	if slices.ContainsFunc([]string{"prefix", "max-buckets", "continuation-token"}, c.query.Has) {
		return s.pageOfBuckets(w, c)
	}
	return s.fake(w, c, &adapter{})
}

// pageOfBuckets answers a ListBuckets with parameters, which gofakes3 does not support.
func (s *Server) pageOfBuckets(w http.ResponseWriter, c *call) error {
	page, err := c.number("max-buckets", maxBuckets)
	if err != nil {
		return err
	}
	after, err := c.token()
	if err != nil {
		return err
	}
	out := struct {
		XMLName           xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListAllMyBucketsResult"`
		Owner             *owner
		Buckets           []listedBucket `xml:"Buckets>Bucket"`
		ContinuationToken string         `xml:",omitempty"`
		Prefix            s3xml.Text     `xml:",omitempty"`
	}{Owner: everythingsOwner(), Prefix: s3xml.Text(c.query.Get("prefix")), Buckets: []listedBucket{}}
	err = eachValue(s.backend.index, []byte(bucketPrefix), nil, func(key []byte, v *bucket) bool {
		name := string(key)
		if !strings.HasPrefix(name, string(out.Prefix)) || name <= after {
			return true
		}
		if len(out.Buckets) == page {
			if page > 0 {
				out.ContinuationToken = token(out.Buckets[page-1].Name)
			}
			return false
		}
		out.Buckets = append(out.Buckets, listedBucket{name, contentTime(v.Created)})
		return true
	})
	if err != nil {
		return err
	}
	return writeXML(w, out)
}

// token returns the continuation token for the last name of a page.
func token(last string) string { return base64.URLEncoding.EncodeToString([]byte(last)) }

// token returns the name in the continuation token of a request, "" if there is none.
func (c *call) token() (string, error) {
	values, ok := c.query["continuation-token"]
	if !ok {
		return "", nil
	}
	raw, err := base64.URLEncoding.DecodeString(values[0])
	if err != nil || len(raw) == 0 {
		return "", s3err.InvalidArgument.With("The continuation token provided is incorrect").About("ArgumentName", "continuation-token")
	}
	return string(raw), nil
}

// createBucket answers CreateBucket.
func (s *Server) createBucket(w http.ResponseWriter, c *call) error {
	if akigw.CheckBucketName(c.bucket) != nil {
		return s3err.InvalidBucketName.About("BucketName", c.bucket)
	}
	var in struct {
		LocationConstraint string
		Unknown            unknown `xml:",any"`
	}
	if err := c.readXML("CreateBucketConfiguration", &in); err != nil {
		return err
	}
	if err := in.Unknown.refuse(); err != nil {
		return err
	}
	if gofakes3.ValidateBucketName(c.bucket) == nil {
		return s.fake(w, c, &adapter{location: in.LocationConstraint})
	}
	if err := s.backend.createBucket(c.bucket, in.LocationConstraint); err != nil { // gofakes3 would require three characters between two dots, which S3 does not
		return err
	}
	w.Header().Set("Location", "/"+c.bucket)
	w.WriteHeader(http.StatusOK)
	return nil
}

// headBucket answers HeadBucket.
func (s *Server) headBucket(w http.ResponseWriter, c *call) error { return s.fake(w, c, &adapter{}) }

// deleteBucket answers DeleteBucket.
func (s *Server) deleteBucket(w http.ResponseWriter, c *call) error { return s.fake(w, c, &adapter{}) }

// bucketLocation answers GetBucketLocation. gofakes3 knows no locations.
func (s *Server) bucketLocation(w http.ResponseWriter, c *call) error {
	b, err := s.backend.bucket(c.bucket)
	if err == nil && b == nil {
		err = s3err.NoSuchBucket.About("BucketName", c.bucket)
	}
	if err != nil {
		return err
	}
	return writeXML(w, struct {
		XMLName  xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ LocationConstraint"`
		Location string   `xml:",chardata"`
	}{Location: b.Location})
}

// bucketVersioning answers GetBucketVersioning: no bucket has ever had versions,
// because PutBucketVersioning is refused. gofakes3 says it with an empty Status
// and an empty MfaDelete, which S3 leaves out.
func (s *Server) bucketVersioning(w http.ResponseWriter, c *call) error {
	if err := s.backend.needBucket(c.bucket); err != nil {
		return err
	}
	return writeXML(w, struct {
		XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ VersioningConfiguration"`
	}{})
}
