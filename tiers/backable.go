package tiers

import (
	"context"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/tiers/cold"
)

// bucketState is whether writes to a bucket may be written back: it is there, is not
// versioned, and gives ETags that can be promised.
type bucketState struct {
	ok     bool
	asked  time.Time
	asking bool
	unlike bool // its ETags are not those that would be promised
}

// bucketTrust is how long it is trusted that a bucket is not versioned.
const bucketTrust = time.Minute

// backable reports whether writes to a bucket may be written back: it has to be
// there and unversioned. What was known last holds while the upstream is asked
// again, and while it does not answer.
func (s *Store) backable(ctx context.Context, bucket string) bool {
	b := s.back
	b.mu.Lock()
	state := b.buckets[bucket]
	if state != nil {
		defer b.mu.Unlock()
		if !state.asking && time.Since(state.asked) > bucketTrust {
			state.asking = true
			s.work.Go(func() { s.askBucket(s.ctx, bucket) })
		}
		return state.ok
	}
	b.mu.Unlock()
	return s.askBucket(ctx, bucket)
}

// forgetBucket has the upstream asked of a bucket before the next write to it.
func (b *back) forgetBucket(bucket string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.buckets, bucket)
}

// askBucket asks the upstream of a bucket and remembers the answer.
func (s *Store) askBucket(ctx context.Context, bucket string) bool {
	ok, err := s.unversioned(ctx, bucket)
	if ok && err == nil {
		ok, err = s.md5ETags(ctx, bucket)
	}
	b := s.back
	b.mu.Lock()
	defer b.mu.Unlock()
	state := b.buckets[bucket]
	if err != nil {
		if state != nil {
			state.asking = false
		}
		return state != nil && state.ok
	}
	if state != nil && state.unlike {
		ok = false
	}
	b.buckets[bucket] = &bucketState{ok: ok, asked: time.Now(), unlike: state != nil && state.unlike}
	return ok
}

// unversioned asks whether a bucket is there and not versioned (GetBucketVersioning).
func (s *Store) unversioned(ctx context.Context, bucket string) (bool, error) {
	resp, err := s.upstream.Do(ctx, &cold.Request{Op: "GetBucketVersioning", Method: http.MethodGet, Key: akigw.Key{Bucket: bucket}, Query: url.Values{"versioning": {""}}, Header: http.Header{}})
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return false, err
	}
	switch resp.StatusCode {
	case http.StatusOK:
		var answer struct {
			XMLName xml.Name
			Status  string
		}
		if err := xml.Unmarshal(body, &answer); err != nil || answer.XMLName.Local != "VersioningConfiguration" {
			return false, fmt.Errorf("%w: GetBucketVersioning of %s: no VersioningConfiguration", akigw.ErrUpstreamUnavailable, bucket)
		}
		return answer.Status == "", nil
	case http.StatusNotImplemented, http.StatusMethodNotAllowed: // it knows no versions
		head, err := s.upstream.Do(ctx, &cold.Request{Op: "HeadBucket", Method: http.MethodHead, Key: akigw.Key{Bucket: bucket}, Header: http.Header{}})
		if err != nil {
			return false, err
		}
		head.Body.Close()
		return head.StatusCode == http.StatusOK, nil
	case http.StatusNotFound, http.StatusForbidden:
		return false, nil
	}
	return false, fmt.Errorf("%w: GetBucketVersioning of %s: %d", akigw.ErrUpstreamUnavailable, bucket, resp.StatusCode)
}

// md5ETags asks whether the ETags of new objects of a bucket are MD5 sums, as the
// journal promises (GetBucketEncryption): they are not with keys of a KMS. Who may not
// be told is taken at its word, see unlike.
func (s *Store) md5ETags(ctx context.Context, bucket string) (bool, error) {
	resp, err := s.upstream.Do(ctx, &cold.Request{Op: "GetBucketEncryption", Method: http.MethodGet, Key: akigw.Key{Bucket: bucket}, Query: url.Values{"encryption": {""}}, Header: http.Header{}})
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil || resp.StatusCode != http.StatusOK {
		return err == nil, err
	}
	var answer struct {
		XMLName xml.Name
		Rule    []struct {
			ApplyServerSideEncryptionByDefault struct{ SSEAlgorithm string }
		}
	}
	if xml.Unmarshal(body, &answer) != nil || answer.XMLName.Local != "ServerSideEncryptionConfiguration" {
		return true, nil
	}
	for _, rule := range answer.Rule {
		if strings.HasPrefix(rule.ApplyServerSideEncryptionByDefault.SSEAlgorithm, "aws:kms") {
			return false, nil
		}
	}
	return true, nil
}

// unlike says that the upstream gave an object of a bucket another ETag than the one
// that was promised: nothing more is, as long as the gateway runs.
func (b *back) unlike(bucket string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.buckets[bucket] = &bucketState{asked: time.Now(), unlike: true}
}
