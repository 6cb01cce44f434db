package cold

import (
	"context"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/s3xml"
)

// Doer sends requests.
type Doer interface {
	// Do sends a signed request and returns the response, whatever its status.
	Do(ctx context.Context, r *Request) (*http.Response, error)
}

// Listed is one object of a listing.
type Listed struct {
	Key  string
	Size int64 // bytes
	ETag string
}

// maxPage is the largest page of a listing in bytes: a thousand keys of the greatest length fit.
const maxPage = 16 << 20

// List calls yield with the objects of a bucket whose keys begin with prefix, in order, starting
// after the key after ("": at the first), until yield returns an error (ListObjectsV2). The error
// is that of yield, a *ResponseError with the upstream's response, or akigw.ErrUpstreamUnavailable.
func List(ctx context.Context, upstream Doer, bucket, prefix, after string, yield func(Listed) error) error {
	query := url.Values{"list-type": {"2"}, "encoding-type": {"url"}, "prefix": {prefix}}
	for {
		if after != "" {
			query.Set("start-after", after)
		}
		resp, err := upstream.Do(ctx, &Request{Op: "ListObjectsV2", Method: http.MethodGet, Key: akigw.Key{Bucket: bucket}, Query: query, Header: http.Header{}})
		if err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK {
			return NewResponseError(resp)
		}
		page, err := readPage(resp.Body)
		resp.Body.Close()
		if err != nil {
			return fmt.Errorf("%w: listing of %s: %w", akigw.ErrUpstreamUnavailable, bucket, err)
		}
		for _, o := range page.Contents {
			if page.EncodingType == "url" {
				if o.Key, err = url.QueryUnescape(o.Key); err != nil {
					return fmt.Errorf("%w: listing of %s: %w", akigw.ErrUpstreamUnavailable, bucket, err)
				}
			}
			if err := yield(o); err != nil {
				return err
			}
			after = o.Key
		}
		if page.IsTruncated == nil || !*page.IsTruncated || len(page.Contents) == 0 {
			return nil
		}
	}
}

// page is a page of a listing.
type page struct {
	XMLName      xml.Name
	EncodingType string
	IsTruncated  *bool // every listing has it, whatever its root element is
	Contents     []Listed
}

func readPage(body io.Reader) (p page, err error) {
	document, err := io.ReadAll(io.LimitReader(body, maxPage))
	if err == nil {
		err = s3xml.Unmarshal(document, &p)
	}
	if root := p.XMLName.Local; err == nil && (root == "Error" || root != "ListBucketResult" && p.IsTruncated == nil) {
		err = fmt.Errorf("a %s", root)
	}
	return p, err
}
