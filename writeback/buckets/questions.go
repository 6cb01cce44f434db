package buckets

import (
	"bytes"
	"context"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/tiers/cold"
	"github.com/akidb/akigw/writeback/facts"
)

// Upstream answers queries about buckets.
type Upstream interface {
	// Do sends a signed request and returns the response, whatever its status.
	Do(ctx context.Context, r *cold.Request) (*http.Response, error)
	// Origin returns a number for the endpoint that a bucket's objects come from.
	Origin(bucket string) uint64
}

// prober queries the upstream about a bucket before writes to it are acknowledged. Upstreams differ
// in the root elements and namespaces of their responses, so a response is interpreted by its child
// elements.
type prober struct{ upstream Upstream }

// id identifies a bucket as the upstream's account sees it.
func (p prober) id(bucket string) facts.ID {
	id := facts.ID{Endpoint: p.upstream.Origin(bucket), Bucket: bucket}
	if u, ok := p.upstream.(interface{ Account(bucket string) string }); ok {
		id.Account = u.Account(bucket)
	}
	return id
}

// maxFactAnswer is the largest response about a bucket, in bytes.
const maxFactAnswer = 64 << 10

// ask asks the upstream whether writes to a bucket can be acknowledged before it has them. An error
// means that there was no answer.
func (p prober) ask(ctx context.Context, bucket string) (facts.Reason, error) {
	reason, err := p.versioning(ctx, bucket)
	if err != nil || reason != facts.None {
		return reason, err
	}
	return p.encryption(ctx, bucket)
}

// send sends a query about a bucket, and reads the response.
func (p prober) send(ctx context.Context, op, method, bucket, parameter string) (status int, body []byte, err error) {
	r := &cold.Request{Op: op, Method: method, Key: akigw.Key{Bucket: bucket}, Header: http.Header{}}
	if parameter != "" {
		r.Query = url.Values{parameter: {""}}
	}
	resp, err := p.upstream.Do(ctx, r)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxFactAnswer))
	if err != nil {
		err = fmt.Errorf("%w: %s of %s: %w", akigw.ErrUpstreamUnavailable, op, bucket, err)
	}
	return resp.StatusCode, body, err
}

// noAnswer returns the error for a status that says nothing about the bucket.
func noAnswer(op, bucket string, status int) error {
	return fmt.Errorf("%w: %s of %s: %w", akigw.ErrUpstreamUnavailable, op, bucket, statusError(status))
}

// refused reports whether a status refuses a question for good.
func refused(status int) bool {
	return status/100 == 4 && status != http.StatusTooManyRequests && status != http.StatusRequestTimeout
}

// statusError is a response that does not answer the query.
type statusError int

func (e statusError) Error() string { return fmt.Sprintf("status %d", int(e)) }

// versioning asks whether a bucket exists and keeps no versions (GetBucketVersioning).
func (p prober) versioning(ctx context.Context, bucket string) (facts.Reason, error) {
	const op = "GetBucketVersioning"
	status, body, err := p.send(ctx, op, http.MethodGet, bucket, "versioning")
	if err != nil {
		return facts.None, err
	}
	switch status {
	case http.StatusOK:
		return versioningOf(body), nil
	case http.StatusNotImplemented, http.StatusMethodNotAllowed: // the upstream has no versioning
		return p.presence(ctx, bucket)
	case http.StatusNotFound:
		return facts.Absent, nil
	case http.StatusForbidden:
		return facts.Forbidden, nil
	}
	return facts.None, noAnswer(op, bucket, status)
}

// presence asks whether a bucket exists (HeadBucket).
func (p prober) presence(ctx context.Context, bucket string) (facts.Reason, error) {
	const op = "HeadBucket"
	status, _, err := p.send(ctx, op, http.MethodHead, bucket, "")
	switch {
	case err != nil:
		return facts.None, err
	case status == http.StatusOK:
		return facts.None, nil
	case status == http.StatusForbidden:
		return facts.Forbidden, nil
	case refused(status):
		return facts.Absent, nil
	}
	return facts.None, noAnswer(op, bucket, status)
}

// versioningOf parses a response to GetBucketVersioning. Its root is VersioningConfiguration at AWS
// and GetBucketVersioningResponse at moto; any root is accepted whose children are those of the S3
// API.
func versioningOf(body []byte) facts.Reason {
	var answer struct {
		XMLName  xml.Name
		Status   string
		Children []struct{ XMLName xml.Name } `xml:",any"`
		// These say nothing about the bucket's objects.
		MfaDelete, MFADelete string
		ExcludeFolders       string // MinIO's
		ExcludedPrefixes     []struct{}
	}
	root := ""
	if decodeLenient(body, &answer) == nil {
		root = answer.XMLName.Local
	}
	understood := len(answer.Children) == 0 && (answer.Status != "" || strings.Contains(root, "Versioning"))
	switch {
	case root == "" || root == "Error" || !understood:
		return facts.Unreadable
	case strings.TrimSpace(answer.Status) == "":
		return facts.None
	}
	return facts.Versioned
}

// decodeLenient decodes a document as encoding/xml does: names without a namespace match elements
// in any namespace.
func decodeLenient(body []byte, v any) error {
	d := xml.NewDecoder(bytes.NewReader(body))
	// The charset does not matter: all names and values are ASCII.
	d.CharsetReader = func(_ string, r io.Reader) (io.Reader, error) { return r, nil }
	return d.Decode(v)
}

// encryption asks whether the ETags of new objects of a bucket are MD5 sums, as the journal
// promises (GetBucketEncryption): with KMS keys they are not. An upstream that does not say is
// assumed to use MD5 sums; the first object with another ETag disproves it.
func (p prober) encryption(ctx context.Context, bucket string) (facts.Reason, error) {
	const op = "GetBucketEncryption"
	status, body, err := p.send(ctx, op, http.MethodGet, bucket, "encryption")
	switch {
	case err != nil:
		return facts.None, err
	case status == http.StatusOK:
		return encryptionOf(body), nil
	case status == http.StatusNotImplemented || refused(status):
		return facts.None, nil // none is configured, or the gateway lacks the permission to ask
	}
	return facts.None, noAnswer(op, bucket, status)
}

// encryptionOf parses a response to GetBucketEncryption, with any root element.
func encryptionOf(body []byte) facts.Reason {
	var answer struct {
		Rule []struct {
			ApplyServerSideEncryptionByDefault struct{ SSEAlgorithm string }
		}
		Wrapped []struct {
			ApplyServerSideEncryptionByDefault struct{ SSEAlgorithm string }
		} `xml:"ServerSideEncryptionConfiguration>Rule"`
	}
	if decodeLenient(body, &answer) != nil {
		return facts.None
	}
	for _, rule := range append(answer.Rule, answer.Wrapped...) {
		if strings.HasPrefix(strings.TrimSpace(rule.ApplyServerSideEncryptionByDefault.SSEAlgorithm), "aws:kms") {
			return facts.Encrypted
		}
	}
	return facts.None
}
