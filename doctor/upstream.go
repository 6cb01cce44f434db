package doctor

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/tiers/cold"
)

// Client sends requests to an upstream. The client of tiers/cold implements it, so that requests are
// sent as the gateway sends them.
type Client interface {
	Do(ctx context.Context, r *cold.Request) (*http.Response, error)
}

// Upstream is an S3 service behind a gateway.
type Upstream struct {
	Client Client
	Config cold.Config
	Name   string // table in the configuration: "upstream"
	// Bucket is a bucket in which an object may be written and deleted, "" for none.
	Bucket string
	// MD5ETags and Trailing are the settings of the same names.
	MD5ETags, Trailing bool
}

const (
	// patience bounds all checks of an upstream together.
	patience = 30 * time.Second
	// skewed and badlySkewed are clock skews that get a warning and a problem: S3 refuses
	// signatures at 15 minutes.
	skewed      = 30 * time.Second
	badlySkewed = 5 * time.Minute
	// probePrefix is the prefix of the objects that are created and deleted.
	probePrefix = ".akigw-doctor-"
)

// answer is a response of the upstream with its whole body.
type answer struct {
	status int
	header http.Header
	body   []byte
	code   string // from the error document
	region string // named in the error document
}

// ask sends a request.
func (u *Upstream) ask(ctx context.Context, r *cold.Request) (*answer, error) {
	if r.Method == http.MethodPut && r.Body == nil {
		r.Body = http.NoBody
	}
	resp, err := u.Client.Do(ctx, r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	a := &answer{status: resp.StatusCode, header: resp.Header, body: body}
	var document struct {
		Code   string
		Region string
	}
	if a.status >= 300 && xml.Unmarshal(body, &document) == nil {
		a.code, a.region = document.Code, document.Region
	}
	if a.region == "" {
		a.region = a.header.Get("x-amz-bucket-region")
	}
	return a, nil
}

// summary describes a response for people.
func (a *answer) summary() string {
	if a.code != "" {
		return fmt.Sprintf("%d %s", a.status, a.code)
	}
	return fmt.Sprint(a.status)
}

// Check checks the upstream.
func (u *Upstream) Check(ctx context.Context, r *Report) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	begun := time.Now()
	list, err := u.ask(ctx, &cold.Request{Op: "ListBuckets", Method: http.MethodGet})
	if err != nil {
		u.unreachable(r, err)
		return
	}
	u.clock(r, list, begun)
	if !u.reached(r, list) {
		return
	}
	if u.Bucket == "" {
		r.Add(Note, "permissions", "akigw doctor --bucket NAME writes one object there and deletes it", "permissions, checksums and versioning are not checked without a bucket")
		return
	}
	if u.bucket(ctx, r) {
		u.permissions(ctx, r)
	}
}

// setting is the full name of a setting of the upstream.
func (u *Upstream) setting(key string) string { return u.Name + "." + key }

// unreachable reports why there was no response.
func (u *Upstream) unreachable(r *Report, err error) {
	const check = "upstream"
	target, _ := url.Parse(u.Config.URL)
	var dns *net.DNSError
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var expired x509.CertificateInvalidError
	other := strings.Replace(u.Config.URL, "https://", "http://", 1)
	switch text := err.Error(); {
	case strings.Contains(text, "HTTP response to HTTPS client"), strings.Contains(text, "does not look like a TLS handshake"):
		r.Add(Problem, check, fmt.Sprintf("%s = %q", u.setting("url"), other), "%s speaks plain HTTP", u.Config.URL)
	case errors.As(err, &dns):
		r.Add(Problem, check, fmt.Sprintf("check the host name in %s, and at DNS (getent hosts %s)", u.setting("url"), target.Hostname()), "the host %q does not exist", target.Hostname())
	case errors.As(err, &authority):
		r.Add(Problem, check, "add its CA to the system's certificates (update-ca-certificates), or name it in SSL_CERT_FILE", "the certificate of %s is from a CA that this machine does not know", target.Host)
	case errors.As(err, &host):
		r.Add(Problem, check, fmt.Sprintf("use a name of the certificate in %s", u.setting("url")), "the certificate of %s is for other names: %v", target.Host, host)
	case errors.As(err, &expired):
		r.Add(Problem, check, "renew it there, or check this machine's clock", "the certificate of %s is not valid: %v", target.Host, expired)
	case errors.Is(err, syscall.ECONNREFUSED):
		r.Add(Problem, check, fmt.Sprintf("is it running? is the port in %s right?", u.setting("url")), "nothing listens on %s", target.Host)
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH):
		r.Add(Problem, check, "check routes and firewalls", "there is no route to %s", target.Host)
	case errors.Is(err, context.DeadlineExceeded) || strings.Contains(text, "timeout"):
		r.Add(Problem, check, "a firewall or a wrong address: try curl -v "+u.Config.URL, "%s does not respond", target.Host)
	case strings.Contains(text, "credentials"):
		r.Add(Problem, "credentials", fmt.Sprintf("check %s and what it refers to", u.setting("credentials")), "%v", err)
	default:
		r.Add(Problem, check, "try curl -v "+u.Config.URL, "%v", err)
	}
}

// clock compares the clocks.
func (u *Upstream) clock(r *Report, a *answer, begun time.Time) {
	const check = "clock"
	date, err := http.ParseTime(a.header.Get("Date"))
	if err != nil {
		r.Add(Note, check, "", "the upstream's responses have no Date")
		return
	}
	skew := time.Duration(0)
	if ended := time.Now(); date.Before(begun.Add(-time.Second)) {
		skew = date.Sub(begun)
	} else if date.After(ended.Add(time.Second)) {
		skew = date.Sub(ended)
	}
	const remedy = "set the clocks: timedatectl set-ntp true, or chronyd; in a container, the host's"
	switch {
	case skew.Abs() > badlySkewed:
		r.Add(Problem, check, remedy, "the upstream's clock differs from this machine's by %v: signatures are refused", skew.Round(time.Second))
	case skew.Abs() > skewed:
		r.Add(Warning, check, remedy, "the upstream's clock differs from this machine's by %v", skew.Round(time.Second))
	default:
		r.ok(check, "it agrees with the upstream's")
	}
}

// reached judges the response to ListBuckets.
func (u *Upstream) reached(r *Report, a *answer) bool {
	const check = "upstream"
	text := string(a.body)
	switch {
	case a.status == http.StatusBadRequest && strings.Contains(text, "HTTP request to an HTTPS server"), strings.Contains(text, "plain HTTP request was sent to HTTPS port"):
		r.Add(Problem, check, fmt.Sprintf("%s = %q", u.setting("url"), strings.Replace(u.Config.URL, "http://", "https://", 1)), "%s speaks HTTPS", u.Config.URL)
		return false
	case strings.Contains(a.header.Get("Content-Type"), "html") || strings.Contains(strings.ToLower(text[:min(len(text), 200)]), "<html"):
		r.Add(Problem, check, fmt.Sprintf("the address of the S3 API in %s: MinIO's console has another port than its API, 9001 instead of 9000", u.setting("url")), "%s responds with a web page: it is not an S3 service, or it is its console", u.Config.URL)
		return false
	}
	switch a.code {
	case "InvalidAccessKeyId":
		r.Add(Problem, "credentials", fmt.Sprintf("the right key pair in %s and %s (AKIGW_UPSTREAM_ACCESS_KEY, AKIGW_UPSTREAM_SECRET_KEY)", u.setting("access_key"), u.setting("secret_key")), "the upstream does not know the access key %q", u.Config.AccessKey)
		return false
	case "SignatureDoesNotMatch":
		r.Add(Problem, "credentials", fmt.Sprintf("the right secret in %s (AKIGW_UPSTREAM_SECRET_KEY); look for a missing end, quotes and blanks", u.setting("secret_key")), "the upstream knows the access key %q, but the secret is wrong", u.Config.AccessKey)
		return false
	case "ExpiredToken", "InvalidToken", "TokenRefreshRequired":
		r.Add(Problem, "credentials", fmt.Sprintf("new ones; %s can fetch them by itself", u.setting("credentials")), "the credentials have expired: %s", a.summary())
		return false
	case "RequestTimeTooSkewed":
		return false // clock has reported it
	case "AuthorizationHeaderMalformed", "IllegalLocationConstraintException":
		r.wrongRegion(u, a)
		return false
	case "PermanentRedirect", "TemporaryRedirect":
		r.Add(Problem, check, fmt.Sprintf("the endpoint of the bucket's region in %s", u.setting("url")), "the upstream redirects to another endpoint: %s", a.summary())
		return false
	}
	switch {
	case a.status == http.StatusOK && strings.Contains(text, "ListAllMyBucketsResult"):
		r.ok(check, "%s responds and accepts the credentials", u.Config.URL)
		return true
	case a.status == http.StatusForbidden:
		if a.region != "" && a.region != u.Config.Region {
			r.wrongRegion(u, a)
			return false
		}
		r.Add(Note, check, "s3:ListAllMyBuckets, if clients need to list buckets", "%s responds, but these credentials may not list buckets", u.Config.URL)
		return true
	}
	r.Add(Problem, check, "is this the address of an S3 service?", "%s responds %s to ListBuckets", u.Config.URL, a.summary())
	return false
}

// wrongRegion reports the region that the upstream expects.
func (r *Report) wrongRegion(u *Upstream, a *answer) {
	remedy := fmt.Sprintf("the region of the service in %s (AKIGW_UPSTREAM_REGION)", u.setting("region"))
	if a.region != "" {
		remedy = fmt.Sprintf("%s = %q", u.setting("region"), a.region)
	}
	r.Add(Problem, "region", remedy, "the upstream is not in region %q: %s", u.Config.Region, a.summary())
}

// bucket checks that the bucket exists.
func (u *Upstream) bucket(ctx context.Context, r *Report) bool {
	const check = "bucket"
	a, err := u.ask(ctx, &cold.Request{Op: "ListObjectsV2", Method: http.MethodGet, Key: akigw.Key{Bucket: u.Bucket}, Query: url.Values{"list-type": {"2"}, "max-keys": {"1"}}})
	switch {
	case err != nil:
		u.unreachable(r, err)
		return false
	case a.code == "NoSuchBucket" || a.status == http.StatusNotFound:
		r.Add(Problem, check, fmt.Sprintf("create it (aws s3 mb s3://%s), or name another one", u.Bucket), "the bucket %q does not exist", u.Bucket)
		return false
	case a.code == "AuthorizationHeaderMalformed" || a.status == http.StatusMovedPermanently:
		r.wrongRegion(u, a)
		return false
	case a.status == http.StatusForbidden:
		r.denied("list", "s3:ListBucket on the bucket", a)
	case a.status != http.StatusOK:
		r.Add(Problem, check, "", "listing %q: %s", u.Bucket, a.summary())
		return false
	default:
		r.ok(check, "%q exists and can be listed", u.Bucket)
	}
	if a, err = u.ask(ctx, &cold.Request{Op: "GetBucketVersioning", Method: http.MethodGet, Key: akigw.Key{Bucket: u.Bucket}, Query: url.Values{"versioning": {""}}}); err == nil && a.status == http.StatusOK {
		switch {
		case bytes.Contains(a.body, []byte("<Status>Enabled</Status>")):
			r.Add(Note, "versioning", "a lifecycle rule for noncurrent versions", "%q keeps old versions: overwritten objects cost money until they are removed", u.Bucket)
		case bytes.Contains(a.body, []byte("<Status>Suspended</Status>")):
			r.Add(Note, "versioning", "", "versioning of %q is suspended", u.Bucket)
		default:
			r.ok("versioning", "%q keeps no old versions", u.Bucket)
		}
	}
	return true
}

// denied reports which permission is missing.
func (r *Report) denied(what, right string, a *answer) {
	r.Add(Problem, "permissions", right+", for the upstream's credentials", "they may not %s: %s", what, a.summary())
}

// permissions writes an object, reads it in all the ways that the gateway uses, and deletes it.
func (u *Upstream) permissions(ctx context.Context, r *Report) {
	key := akigw.Key{Bucket: u.Bucket, Name: probePrefix + rand.Text()}
	body := []byte("akigw doctor was here and is going to delete this object")
	digest := sha256.Sum256(body)
	problems := r.Count(Problem)
	put, err := u.ask(ctx, &cold.Request{Op: "PutObject", Method: http.MethodPut, Key: key, Body: bytes.NewReader(body), Length: int64(len(body)), SHA256: hex.EncodeToString(digest[:])})
	if err != nil {
		u.unreachable(r, err)
		return
	}
	if put.status != http.StatusOK {
		r.denied("write objects", "s3:PutObject", put)
		return
	}
	defer func() {
		ctx := context.WithoutCancel(ctx)
		gone, err := u.ask(ctx, &cold.Request{Op: "DeleteObject", Method: http.MethodDelete, Key: key})
		if err != nil || gone.status >= 300 {
			r.Add(Problem, "permissions", fmt.Sprintf("s3:DeleteObject, for the upstream's credentials; delete s3://%s", key), "they may not delete objects, and %s remains", key)
		} else if r.Count(Problem) == problems {
			r.ok("permissions", "objects in %q can be written, read, uploaded in parts and deleted", u.Bucket)
		}
	}()
	etag := strings.Trim(put.header.Get("Etag"), `"`)
	sum := md5.Sum(body)
	if plain := etag == hex.EncodeToString(sum[:]); plain != u.MD5ETags {
		if plain {
			r.Add(Note, "ETags", "cache.md5_etags = true lets bodies be verified by them", "the upstream's plain ETags are MD5 digests")
		} else {
			r.Add(Problem, "ETags", "cache.md5_etags = false", "the upstream's ETags are not MD5 digests (encryption?), but the configuration says that they are: everything would look damaged")
		}
	}
	u.reads(ctx, r, key, body, put.header.Get("Etag"))
	u.multipart(ctx, r, key)
	u.trailing(ctx, r, key, body)
}

// reads checks that an object can be read, and that the upstream evaluates conditions and ranges.
func (u *Upstream) reads(ctx context.Context, r *Report, key akigw.Key, body []byte, etag string) {
	get := func(h http.Header) *answer {
		a, err := u.ask(ctx, &cold.Request{Op: "GetObject", Method: http.MethodGet, Key: key, Header: h})
		if err != nil {
			return &answer{body: []byte(err.Error())}
		}
		return a
	}
	switch a := get(nil); {
	case a.status == http.StatusForbidden:
		r.denied("read objects", "s3:GetObject", a)
		return
	case a.status != http.StatusOK || !bytes.Equal(a.body, body):
		r.Add(Problem, "reads", "", "the content read differs from the content written: %s, %d bytes instead of %d", a.summary(), len(a.body), len(body))
		return
	}
	var missing []string
	if a := get(http.Header{"If-None-Match": {etag}}); a.status != http.StatusNotModified {
		missing = append(missing, "If-None-Match")
	}
	if a := get(http.Header{"If-Match": {`"00000000000000000000000000000000"`}}); a.status != http.StatusPreconditionFailed {
		missing = append(missing, "If-Match")
	}
	if a := get(http.Header{"Range": {"bytes=2-4"}}); a.status != http.StatusPartialContent || !bytes.Equal(a.body, body[2:5]) {
		missing = append(missing, "Range")
	}
	if len(missing) > 0 {
		r.Add(Problem, "conditions", "another service, or a proxy before it that passes these headers on", "the upstream ignores %s: versions cannot be told apart while they are read", strings.Join(missing, ", "))
		return
	}
	r.ok("conditions", "If-Match, If-None-Match and ranges work")
}

// multipart checks that multipart uploads can be created and aborted.
func (u *Upstream) multipart(ctx context.Context, r *Report, key akigw.Key) {
	a, err := u.ask(ctx, &cold.Request{Op: "CreateMultipartUpload", Method: http.MethodPost, Key: key, Query: url.Values{"uploads": {""}}})
	if err != nil || a.status != http.StatusOK {
		if err == nil {
			r.denied("begin multipart uploads", "s3:PutObject", a)
		}
		return
	}
	var begun struct{ UploadId string }
	if err := xml.Unmarshal(a.body, &begun); err != nil {
		r.Add(Problem, "permissions", "", "CreateMultipartUpload: %v", err)
		return
	}
	if a, err = u.ask(ctx, &cold.Request{Op: "AbortMultipartUpload", Method: http.MethodDelete, Key: key, Query: url.Values{"uploadId": {begun.UploadId}}}); err == nil && a.status >= 300 {
		r.denied("abort multipart uploads", "s3:AbortMultipartUpload", a)
	}
}

// trailing checks the setting of trailing checksums.
func (u *Upstream) trailing(ctx context.Context, r *Report, key akigw.Key, body []byte) {
	if !u.Trailing {
		return
	}
	sum := binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE(body))
	a, err := u.ask(ctx, &cold.Request{Op: "PutObject", Method: http.MethodPut, Key: key, Body: bytes.NewReader(body), Length: int64(len(body)), Trailer: http.Header{"X-Amz-Checksum-Crc32": {base64.StdEncoding.EncodeToString(sum)}}})
	switch {
	case err != nil:
		r.Add(Warning, "checksums", u.setting("trailing_checksums")+" = false", "an upload with a trailing checksum failed: %v", err)
	case a.status >= 300:
		r.Add(Problem, "checksums", u.setting("trailing_checksums")+" = false", "the upstream rejects trailing checksums, which new SDKs send: %s", a.summary())
	default:
		back, err := u.ask(ctx, &cold.Request{Op: "GetObject", Method: http.MethodGet, Key: key})
		if err == nil && back.status == http.StatusOK && !bytes.Equal(back.body, body) {
			r.Add(Problem, "checksums", u.setting("trailing_checksums")+" = false", "the upstream stores the frame of trailing checksums (aws-chunked) as if it were data")
			return
		}
		r.ok("checksums", "trailing checksums work")
	}
}
