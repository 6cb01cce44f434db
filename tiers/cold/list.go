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
	// LastModified is as the upstream wrote it: RFC 3339, usually with milliseconds.
	LastModified string
}

// maxPage is the largest page of a listing in bytes: a thousand keys of the greatest length fit.
const maxPage = 16 << 20

// List calls yield with the objects of a bucket whose keys begin with prefix, in order, starting
// after the key after ("": at the first), until yield returns an error (ListObjectsV2). The error
// is that of yield, a *ResponseError with the upstream's response, or akigw.ErrUpstreamUnavailable.
func List(ctx context.Context, upstream Doer, bucket, prefix, after string, yield func(Listed) error) error {
	for {
		page, err := listPage(ctx, upstream, bucket, prefix, after)
		if err != nil {
			return err
		}
		for _, o := range page.Contents {
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

// ListPage returns the objects of one page of List, without a prefix: up to a thousand.
func ListPage(ctx context.Context, upstream Doer, bucket, after string) ([]Listed, error) {
	page, err := listPage(ctx, upstream, bucket, "", after)
	return page.Contents, err
}

// listPage requests one page of a listing.
func listPage(ctx context.Context, upstream Doer, bucket, prefix, after string) (page, error) {
	query := url.Values{"list-type": {"2"}, "encoding-type": {"url"}, "prefix": {prefix}}
	if after != "" {
		query.Set("start-after", after)
	}
	resp, err := upstream.Do(ctx, &Request{Op: "ListObjectsV2", Method: http.MethodGet, Key: akigw.Key{Bucket: bucket}, Query: query, Header: http.Header{}})
	if err != nil {
		return page{}, err
	}
	if resp.StatusCode != http.StatusOK {
		return page{}, NewResponseError(resp)
	}
	defer resp.Body.Close()
	p, err := readPage(resp.Body)
	for i := range p.Contents {
		if o := &p.Contents[i]; err == nil && p.EncodingType == "url" {
			o.Key, err = url.QueryUnescape(o.Key)
		}
	}
	if err != nil {
		return page{}, fmt.Errorf("%w: listing of %s: %w", akigw.ErrUpstreamUnavailable, bucket, err)
	}
	return p, nil
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
