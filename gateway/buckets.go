package gateway

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/s3err"
	"github.com/akidb/akigw/internal/s3xml"
	"github.com/akidb/akigw/sigv4"
	"github.com/akidb/akigw/tiers/cold"
)

// bucketList is the result of ListBuckets.
type bucketList struct {
	XMLName           xml.Name      `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListAllMyBucketsResult"`
	Owner             *bucketOwner  `xml:"Owner,omitempty"`
	Buckets           []bucketEntry `xml:"Buckets>Bucket"`
	ContinuationToken string        `xml:"ContinuationToken,omitempty"`
	Prefix            s3xml.Text    `xml:"Prefix,omitempty"`
}

type bucketOwner struct {
	ID          string
	DisplayName string `xml:",omitempty"`
}

type bucketEntry struct {
	Name         string
	CreationDate string `xml:",omitempty"`
	BucketRegion string `xml:",omitempty"`
	BucketArn    string `xml:",omitempty"`
}

// bucketLists answers ListBuckets, and lists the buckets for quotas.
type bucketLists struct {
	forward  *forwarder
	Upstream Upstream
}

// maxBucketList is the largest response of one upstream, in bytes: 10,000 buckets fit.
const maxBucketList = 4 << 20

// listBuckets answers ListBuckets. With several upstreams the response is one list with the buckets
// of each. If one upstream fails there is no list, because a client would take a partial list for
// the whole.
func (g *bucketLists) listBuckets(w *answer, c *call, id sigv4.Identity) error {
	if len(g.Upstream.Names()) == 1 {
		return g.forward.pass(w, c, id)
	}
	after, err := base64.RawURLEncoding.DecodeString(c.query.Get("continuation-token"))
	if err != nil {
		return s3err.InvalidArgument.With("The continuation token provided is incorrect").About("ArgumentName", "continuation-token")
	}
	list, err := g.allBuckets(c.Context())
	if err != nil {
		return err
	}
	prefix := c.query.Get("prefix")
	list.Prefix = s3xml.Text(prefix)
	list.Buckets = slices.DeleteFunc(list.Buckets, func(b bucketEntry) bool {
		return !strings.HasPrefix(b.Name, prefix) || b.Name <= string(after) || !inRegion(b, c.query.Get("bucket-region"))
	})
	slices.SortFunc(list.Buckets, func(a, b bucketEntry) int { return cmp.Compare(a.Name, b.Name) })
	if n, _ := strconv.Atoi(c.query.Get("max-buckets")); n > 0 && n < len(list.Buckets) {
		list.Buckets = list.Buckets[:n]
		list.ContinuationToken = base64.RawURLEncoding.EncodeToString([]byte(list.Buckets[n-1].Name))
	}
	body, err := s3xml.Marshal(list)
	if err != nil {
		return err
	}
	sendDocument(w, body)
	return nil
}

func inRegion(b bucketEntry, region string) bool {
	return region == "" || b.BucketRegion == "" || b.BucketRegion == region
}

// allBuckets asks all upstreams in parallel for their buckets. The first error ends it.
func (g *bucketLists) allBuckets(ctx context.Context) (*bucketList, error) {
	names := g.Upstream.Names()
	parts := make([]*bucketList, len(names))
	group, ctx := errgroup.WithContext(ctx)
	for i, name := range names {
		group.Go(func() (err error) {
			parts[i], err = g.bucketsOf(ctx, name)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	all := &bucketList{}
	for _, part := range parts {
		all.Owner = cmp.Or(all.Owner, part.Owner)
		all.Buckets = append(all.Buckets, part.Buckets...)
	}
	return all, nil
}

// Upstreams, OwnerOf and BucketsOf implement limits.Buckets.
func (g *bucketLists) Upstreams() []string { return g.Upstream.Names() }

// OwnerOf returns the name of the upstream that a bucket belongs to.
func (g *bucketLists) OwnerOf(bucket string) string { return g.Upstream.Owner(bucket) }

// BucketsOf returns the names of the buckets that belong to an upstream.
func (g *bucketLists) BucketsOf(ctx context.Context, upstream string) (names []string, err error) {
	list, err := g.bucketsOf(ctx, upstream)
	if err != nil {
		return nil, err
	}
	for _, b := range list.Buckets {
		names = append(names, b.Name)
	}
	return names, nil
}

// bucketsOf asks an upstream for its buckets, page by page.
func (g *bucketLists) bucketsOf(ctx context.Context, upstream string) (*bucketList, error) {
	all := &bucketList{}
	for token := ""; ; {
		page, err := g.bucketPage(ctx, upstream, token)
		if err != nil {
			return nil, err
		}
		all.Owner = page.Owner
		for _, b := range page.Buckets {
			if g.Upstream.Owner(b.Name) == upstream {
				all.Buckets = append(all.Buckets, b)
			}
		}
		if page.ContinuationToken == "" || page.ContinuationToken == token {
			return all, nil
		}
		token = page.ContinuationToken
	}
}

// bucketPage is a page of ListBuckets in any XML namespace.
type bucketPage struct {
	Owner             *bucketOwner
	Buckets           []bucketEntry `xml:"Buckets>Bucket"`
	ContinuationToken string
}

func (g *bucketLists) bucketPage(ctx context.Context, upstream, token string) (*bucketPage, error) {
	r := &cold.Request{Op: "ListBuckets", Method: http.MethodGet, Upstream: upstream}
	if token != "" {
		r.Query = url.Values{"continuation-token": {token}}
	}
	resp, err := g.Upstream.Do(ctx, r)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, cold.NewResponseError(resp)
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxBucketList))
	resp.Body.Close()
	page := &bucketPage{}
	if err == nil {
		err = s3xml.Unmarshal(raw, page)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: list of buckets of upstream %s: %w", akigw.ErrUpstreamUnavailable, upstream, err)
	}
	return page, nil
}
