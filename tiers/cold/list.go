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

// page is one response to ListObjectsV2.
type page struct {
	XMLName      xml.Name
	EncodingType string
	IsTruncated  *bool // every listing has it, whatever its root element is
	Contents     []Listed
}

// maxPage is the largest page of a listing in bytes: a thousand long keys fit easily.
const maxPage = 16 << 20

// List calls yield with the objects of a bucket whose keys begin with prefix, in key order,
// starting behind the key after, until yield returns an error (S3 ListObjectsV2). The error is
// a *ResponseError if the upstream refused, akigw.ErrUpstreamUnavailable if its response is not
// a listing.
func List(ctx context.Context, upstream Doer, bucket, prefix, after string, yield func(Listed) error) error {
	query := url.Values{"list-type": {"2"}, "encoding-type": {"url"}, "prefix": {prefix}}
	for {
		if after != "" {
			query.Set("start-after", after)
		}
		p, err := listPage(ctx, upstream, bucket, query)
		if err != nil {
			return err
		}
		for _, o := range p.Contents {
			if err := yield(o); err != nil {
				return err
			}
			after = o.Key
		}
		if p.IsTruncated == nil || !*p.IsTruncated || len(p.Contents) == 0 {
			return nil
		}
	}
}

// listPage requests one page, and decodes its keys.
func listPage(ctx context.Context, upstream Doer, bucket string, query url.Values) (*page, error) {
	resp, err := upstream.Do(ctx, &Request{Op: "ListObjectsV2", Method: http.MethodGet, Key: akigw.Key{Bucket: bucket}, Query: query, Header: http.Header{}})
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, NewResponseError(resp)
	}
	var p page
	document, err := io.ReadAll(io.LimitReader(resp.Body, maxPage))
	resp.Body.Close()
	if err == nil {
		err = s3xml.Unmarshal(document, &p)
	}
	if root := p.XMLName.Local; err == nil && (root == "Error" || root != "ListBucketResult" && p.IsTruncated == nil) {
		err = fmt.Errorf("the response is a %s", root)
	}
	for i := range p.Contents {
		if err == nil && p.EncodingType == "url" {
			p.Contents[i].Key, err = url.QueryUnescape(p.Contents[i].Key)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%w: listing of %s: %w", akigw.ErrUpstreamUnavailable, bucket, err)
	}
	return &p, nil
}
