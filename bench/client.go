package bench

import (
	"context"
	"encoding/binary"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7/pkg/s3utils"
	"github.com/minio/minio-go/v7/pkg/signer"
	"golang.org/x/sync/errgroup"
)

// Endpoint is an S3 service with credentials for it.
type Endpoint struct {
	URL                  string // "http://127.0.0.1:9000"
	AccessKey, SecretKey string
	Region               string
	// HTTP sends the requests; nil is a client with as many connections as are needed.
	HTTP *http.Client
}

// open checks the endpoint.
func (e *Endpoint) open() error {
	u, err := url.Parse(e.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return fmt.Errorf("%q is not the address of an S3 service, such as http://127.0.0.1:9000", e.URL)
	}
	e.URL = strings.TrimSuffix(e.URL, "/")
	if e.HTTP == nil {
		e.HTTP = &http.Client{Timeout: 2 * time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: 1 << 12, DisableCompression: true, ReadBufferSize: 64 << 10, WriteBufferSize: 64 << 10}}
	}
	return nil
}

// unsigned is the payload hash of requests whose signature does not cover the body.
const unsigned = "UNSIGNED-PAYLOAD"

// do sends a signed request. The caller closes the body of the response.
func (e *Endpoint) do(ctx context.Context, method, bucket, key string, query url.Values, header http.Header, content *body) (*http.Response, error) {
	path := "/" + bucket
	if key != "" {
		path += "/" + key
	}
	target := e.URL + s3utils.EncodePath(path)
	if len(query) > 0 {
		target += "?" + strings.ReplaceAll(query.Encode(), "+", "%20")
	}
	r, err := http.NewRequestWithContext(ctx, method, target, nil)
	if err != nil {
		return nil, err
	}
	for name, values := range header {
		r.Header[name] = values
	}
	r.Header.Set("X-Amz-Content-Sha256", unsigned)
	if content != nil {
		r.ContentLength = content.size
		r.Body = content
		r.GetBody = func() (io.ReadCloser, error) {
			again := *content
			again.at = 0
			return &again, nil
		}
	}
	return e.HTTP.Do(signer.SignV4(*r, e.AccessKey, e.SecretKey, "", e.Region))
}

// statusError is a response that is not a success.
type statusError struct {
	op, code string
	status   int
}

// Error implements error.
func (e *statusError) Error() string { return fmt.Sprintf("%s: %d %s", e.op, e.status, e.code) }

// failed converts a response into an error and closes it.
func failed(op string, resp *http.Response) error {
	defer resp.Body.Close()
	var document struct{ Code string }
	raw, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10)) // without a readable body there is no code
	_ = xml.Unmarshal(raw, &document)
	return &statusError{op, document.Code, resp.StatusCode}
}

// buffers holds buffers for reading bodies.
var buffers = sync.Pool{New: func() any { b := make([]byte, 128<<10); return &b }}

// tierOf returns the tier that a response came from, "" if the endpoint does not say.
func tierOf(resp *http.Response) string { return resp.Header.Get("X-Akigw-Cache") }

// versionHeader carries the version of an object.
const versionHeader = "X-Amz-Meta-Version"

// get reads an object, or length bytes of it from an offset if length is positive, and verifies the
// content. versions, if not nil, checks the version of the object.
func (e *Endpoint) get(ctx context.Context, bucket, key string, item uint64, size, from, length int64, versions func(version uint64) error) (tier string, err error) {
	header, want := http.Header{}, http.StatusOK
	if length > 0 {
		header["Range"], want = []string{fmt.Sprintf("bytes=%d-%d", from, from+length-1)}, http.StatusPartialContent
	}
	resp, err := e.do(ctx, http.MethodGet, bucket, key, nil, header, nil)
	if err != nil {
		return "", err
	}
	if resp.StatusCode != want {
		return "", failed("GetObject", resp)
	}
	defer resp.Body.Close()
	buffer := buffers.Get().(*[]byte)
	defer buffers.Put(buffer)
	var version uint64
	if length > 0 {
		if version, err = strconv.ParseUint(resp.Header.Get(versionHeader), 10, 64); err != nil {
			return "", fmt.Errorf("%w: no %s in the response", errWrong, versionHeader)
		}
		err = compare(resp.Body, newBody(item, version, size), from, from+length, *buffer)
	} else {
		version, err = verify(resp.Body, item, size, *buffer)
	}
	if err == nil && versions != nil {
		err = versions(version)
	}
	return tierOf(resp), err
}

// put stores a version of an object.
func (e *Endpoint) put(ctx context.Context, bucket, key string, b *body) error {
	header := http.Header{versionHeader: {strconv.FormatUint(binary.BigEndian.Uint64(b.head[16:]), 10)}}
	resp, err := e.do(ctx, http.MethodPut, bucket, key, nil, header, b)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return failed("PutObject", resp)
	}
	return resp.Body.Close()
}

// putAll stores the first version of objects 0 to n-1, several in parallel. stored, if not nil, is
// called regularly with the number of objects that were begun.
func (e *Endpoint) putAll(ctx context.Context, bucket string, n, atOnce int, key func(n int) string, sizes Sizes, stored func(n int)) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for n := range n {
		if ctx.Err() != nil {
			break
		}
		group.Go(func() error { return e.put(ctx, bucket, key(n), newBody(uint64(n), 1, sizes.of(uint64(n)))) })
		if stored != nil && n%100 == 0 {
			stored(n)
		}
	}
	return group.Wait()
}

// head requests the headers of an object, and checks its size.
func (e *Endpoint) head(ctx context.Context, bucket, key string, size int64) (tier string, err error) {
	resp, err := e.do(ctx, http.MethodHead, bucket, key, nil, nil, nil)
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", failed("HeadObject", resp)
	}
	resp.Body.Close()
	if resp.ContentLength != size {
		return "", fmt.Errorf("%w: HEAD reports %d bytes instead of %d", errWrong, resp.ContentLength, size)
	}
	return tierOf(resp), nil
}

// list lists the first keys of a prefix, and checks that they have the prefix and are in order.
func (e *Endpoint) list(ctx context.Context, bucket, prefix string, least int) error {
	resp, err := e.do(ctx, http.MethodGet, bucket, "", url.Values{"list-type": {"2"}, "prefix": {prefix}, "max-keys": {"100"}}, nil, nil)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return failed("ListObjectsV2", resp)
	}
	defer resp.Body.Close()
	var page struct{ Contents []struct{ Key string } }
	if err := xml.NewDecoder(resp.Body).Decode(&page); err != nil {
		return err
	}
	last := ""
	for _, c := range page.Contents {
		if c.Key <= last || !strings.HasPrefix(c.Key, prefix) {
			return fmt.Errorf("%w: %q in a listing of %q after %q", errWrong, c.Key, prefix, last)
		}
		last = c.Key
	}
	if len(page.Contents) < least {
		return fmt.Errorf("%w: %d keys in a listing of %q, which has at least %d", errWrong, len(page.Contents), prefix, least)
	}
	return nil
}

// makeBucket creates a bucket unless it exists.
func (e *Endpoint) makeBucket(ctx context.Context, bucket string) error {
	resp, err := e.do(ctx, http.MethodPut, bucket, "", nil, nil, nil)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusConflict {
		return failed("CreateBucket", resp)
	}
	return resp.Body.Close()
}
