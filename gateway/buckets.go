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
	"github.com/akidb/akigw/writeback/overlay"
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

// maxBucketList bounds one upstream's answer in bytes: 10,000 buckets fit.
const maxBucketList = 4 << 20

// listBuckets answers ListBuckets. With several upstreams, it is one list of
// what each of them has and is asked for; if one does not answer, there is no
// list, because a part of it would look like all.
func (g *Gateway) listBuckets(w *answer, c *Call, id sigv4.Identity) error {
	if len(g.Upstream.Names()) == 1 {
		return g.pass(w, c, id)
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
	w.Header().Set("Content-Type", "application/xml")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body) // a client that has gone does not read its answer
	return nil
}

func inRegion(b bucketEntry, region string) bool {
	return region == "" || b.BucketRegion == "" || b.BucketRegion == region
}

// allBuckets are the buckets of all upstreams: of each those that it is asked for. All of them
// are asked at once, and the first error ends it.
func (g *Gateway) allBuckets(ctx context.Context) (*bucketList, error) {
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
	for i, part := range parts {
		all.Owner = cmp.Or(all.Owner, part.Owner)
		for _, b := range part.Buckets {
			if g.Upstream.Owner(b.Name) == names[i] {
				all.Buckets = append(all.Buckets, b)
			}
		}
	}
	return all, nil
}

// bucketsOf asks one upstream for all its buckets.
func (g *Gateway) bucketsOf(ctx context.Context, upstream string) (*bucketList, error) {
	all := &bucketList{}
	for {
		r := &cold.Request{Op: "ListBuckets", Method: http.MethodGet, Upstream: upstream}
		if all.ContinuationToken != "" {
			r.Query = url.Values{"continuation-token": {all.ContinuationToken}}
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
		var page struct { // whatever its namespace is
			Owner             *bucketOwner
			Buckets           []bucketEntry `xml:"Buckets>Bucket"`
			ContinuationToken string
		}
		if err == nil {
			err = s3xml.Unmarshal(raw, &page)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: list of buckets of upstream %s: %w", akigw.ErrUpstreamUnavailable, upstream, err)
		}
		all.Owner, all.Buckets = page.Owner, append(all.Buckets, page.Buckets...)
		if page.ContinuationToken == "" || page.ContinuationToken == all.ContinuationToken {
			return all, nil
		}
		all.ContinuationToken = page.ContinuationToken
	}
}

// checkUpstreams refuses a copy from one upstream to another: neither could do
// it.
func (g *Gateway) checkUpstreams(c *Call) error {
	if g.Writes.Reserved(c.key) || c.source != nil && g.Writes.Reserved(c.source.key) {
		return errReserved
	}
	if c.source == nil || g.Upstream.Owner(c.source.key.Bucket) == g.Upstream.Owner(c.key.Bucket) {
		return nil
	}
	return s3err.NotImplemented.With("The source and the destination of this copy are on different upstreams: get the object and put it.")
}

// errReserved is the answer to who names a key of the gateway's own.
var errReserved = s3err.AccessDenied.With("Keys that begin with " + overlay.ReservedPrefix + " are the gateway's own in this bucket.")
