package uploadpool

import (
	"bytes"
	"cmp"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/s3xml"
	"github.com/akidb/akigw/journal"
	"github.com/akidb/akigw/tiers/cold"
)

// remote sends requests to the upstream, and interprets its responses.
type remote struct {
	upstream  Upstream
	throttled *metrics.Counter // responses that asked for fewer requests
}

// result is how an attempt ended.
type result struct {
	err       error          // nil: the upstream has the entry, verified
	answer    http.Header    // of the response to a body; nil unless the cache has seen all of that body
	found     string         // ETag of an object whose upload had no such response; "" unless the cache has seen all of it
	wait      time.Duration  // minimum wait before the next attempt
	unknown   bool           // the upstream may have applied the request
	unsent    bool           // nothing was sent
	refused   bool           // the upstream refuses the gateway: all other attempts would fail as well
	final     string         // why no retry can succeed, "" if one may
	code      string         // of S3's error, "" for none
	progress  bool           // some of it was uploaded
	stored    journal.Stored // how the upstream describes the object
	seen      http.Header    // all of that description; nil for none
	proof     proof          // what the response to a body proves
	confirmed bool           // no older request can replace it any more
	change    Change         // must be ended before the journal releases the entry
}

// failure returns the error of a result for a waiting caller.
func (r result) failure() error {
	if r.code == noSuchUpload {
		return journal.ErrNoUpload
	}
	if r.err != nil && !errors.Is(r.err, akigw.ErrUpstreamUnavailable) {
		return fmt.Errorf("%w: %w", akigw.ErrUpstreamUnavailable, r.err)
	}
	return r.err
}

const (
	// throttledBase is the upper bound of the wait after a response that asks for fewer requests.
	throttledBase = time.Second
	// maxWait is the upper bound of all waits.
	maxWait = time.Minute
)

const (
	noSuchBucket = "NoSuchBucket"
	// noSuchUpload is the code for an upload that has ended, or never was.
	noSuchUpload = "NoSuchUpload"
)

const (
	errOther    = akigw.Error("the upstream does not have what it acknowledged")
	errReplaced = akigw.Error("a later write has taken its place")
)

// maxAnswer is the largest response that is read, in bytes: a thousand long keys fit.
const maxAnswer = 8 << 20

// judge determines what a response, or its absence, means for an entry. It closes the body. asked
// means that the request was only a query: whatever the response, the object may or may not exist,
// and can be sent again.
func (u *remote) judge(err error, resp *http.Response, asked bool) result {
	r := u.judgeBody(err, resp, nil)
	if asked && r.err != nil {
		r.unknown, r.final = true, ""
	}
	return r
}

// judgeBody is judge that also parses the document of a success into v.
func (u *remote) judgeBody(err error, resp *http.Response, v any) result {
	var body []byte
	if err == nil && resp != nil {
		body, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
		resp.Body.Close()
		if err != nil {
			err = fmt.Errorf("%w: the response broke off: %w", akigw.ErrUpstreamUnavailable, err)
		}
	}
	var refused *cold.ResponseError
	status, header := 0, http.Header{}
	switch {
	case errors.As(err, &refused):
		status, header, body = refused.Status, refused.Header, refused.Body
	case errors.Is(err, cold.ErrNotSent):
		return result{err: err, unsent: true}
	case err != nil: // the outcome is unknown
		return result{err: err, unknown: true}
	case resp == nil:
		return result{}
	default:
		status, header = resp.StatusCode, resp.Header
	}
	code := errorCode(body)
	if status < 300 && code == "" {
		if v != nil {
			err = s3xml.Unmarshal(body, v)
		}
		return result{err: err, unknown: err != nil}
	}
	return u.judgeError(status, code, header)
}

// judgeError is judge for an error response.
func (u *remote) judgeError(status int, code string, header http.Header) result {
	if status < 300 { // a 200 may carry an error document
		status = http.StatusInternalServerError
	}
	r := result{err: fmt.Errorf("the upstream answered %d %s", status, cmp.Or(code, http.StatusText(status))), code: code} // the response to a HEAD has no code
	switch {
	case status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests || code == "SlowDown":
		u.throttled.Inc()
		r.wait = rand.N(throttledBase) + retryAfter(header)
	case status == http.StatusForbidden || status == http.StatusUnauthorized || status/100 == 3:
		r.refused = true
	case status >= 500 || status == http.StatusRequestTimeout || conflicts(code) && status == http.StatusConflict || code == "RequestTimeout":
	case status == http.StatusBadRequest && (code == "BadDigest" || code == "IncompleteBody" || code == "ExpiredToken" || code == "InvalidToken" || code == ""):
	default:
		r.final = r.err.Error()
	}
	return r
}

// conflicts reports whether the code of a 409 says that another request is running. Other codes mean
// that this request can never succeed.
func conflicts(code string) bool {
	switch code {
	case "", "OperationAborted", "ConditionalRequestConflict":
		return true
	default:
		return false
	}
}

// retryAfter is the time that a response asks for, maxWait at most.
func retryAfter(h http.Header) time.Duration {
	secs, err := time.ParseDuration(h.Get("Retry-After") + "s")
	if err != nil || secs < 0 {
		return 0
	}
	return min(secs, maxWait)
}

// errorCode returns the code in an S3 error document, "" if body is not one.
func errorCode(body []byte) string {
	var document struct {
		XMLName xml.Name
		Code    string
	}
	if !bytes.Contains(body, []byte("<Error")) || s3xml.Unmarshal(body, &document) != nil || document.XMLName.Local != "Error" {
		return ""
	}
	if document.Code == "" {
		return "Unknown"
	}
	return document.Code
}

// head returns the upstream's description of a key. h is nil if there is no object.
func (u *remote) head(ctx context.Context, key akigw.Key) (h http.Header, size int64, there bool, err error) {
	resp, err := u.upstream.Do(ctx, &cold.Request{Op: "HeadObject", Method: http.MethodHead, Key: key, Header: http.Header{}})
	if err != nil {
		return nil, 0, false, err
	}
	resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusNotFound:
		return nil, 0, false, nil
	case http.StatusOK:
		return resp.Header, resp.ContentLength, true, nil
	}
	return nil, 0, false, &cold.ResponseError{Status: resp.StatusCode, Header: resp.Header}
}

// has checks whether the upstream has the object that e describes: its size, its ETag, and those of
// its headers for which same returns true. An upstream may store headers in another form, so they
// only matter if it is unknown whether it received this upload: then the object there may have the
// same bytes with other metadata. seen is the upstream's description.
func (u *remote) has(ctx context.Context, e *journal.Entry, same func(header string) bool) (seen http.Header, there bool, err error) {
	seen, size, found, err := u.head(ctx, e.Key)
	switch {
	case err != nil:
		return nil, false, err
	case !found:
		return nil, e.Deleted, nil
	case e.Deleted || size != e.Size || !sameETag(seen.Get("Etag"), e.ETag):
		return nil, false, nil
	}
	for name, values := range e.Header {
		if got := seen[name]; same != nil && same(name) && strings.Join(got, ",") != strings.Join(values, ",") {
			return nil, false, nil
		}
	}
	return seen, true, nil
}

// described reports whether a header is part of the description of an object.
func described(header string) bool {
	switch header {
	case "Content-Type", "Content-Encoding", "Content-Disposition", "Content-Language", "Cache-Control":
		return true
	}
	return strings.HasPrefix(header, "X-Amz-Meta-")
}

// storedAs reads from a response how the upstream describes an object.
func storedAs(h http.Header) (s journal.Stored) {
	s.Modified, _ = http.ParseTime(h.Get("Last-Modified")) // without one it stays zero
	s.Version = h.Get("X-Amz-Version-Id")
	return s
}

// sameETag compares ETags: not every upstream puts quotes around them.
func sameETag(a, b string) bool { return strings.Trim(a, `"`) == strings.Trim(b, `"`) }

// uploadedParts returns the parts of an upload that the upstream has (ListParts).
func (u *remote) uploadedParts(ctx context.Context, key akigw.Key, id string, repeat bool) (all []journal.Part, r result) {
	for marker := ""; ; {
		var page partsPage
		query := url.Values{"uploadId": {id}}
		if marker != "" {
			query.Set("part-number-marker", marker)
		}
		resp, err := u.upstream.Do(ctx, &cold.Request{Op: "ListParts", Method: http.MethodGet, Key: key, Query: query, Header: http.Header{}, Repeat: repeat})
		repeat = false
		if r := u.judgeBody(err, resp, &page); r.err != nil {
			r.unknown, r.final = false, "" // a query changes nothing
			return nil, r
		}
		all = append(all, page.parts()...)
		if !page.IsTruncated || page.NextPartNumberMarker == marker {
			return all, result{}
		}
		marker = page.NextPartNumberMarker
	}
}

// partsPage is the document of a response to ListParts.
type partsPage struct {
	IsTruncated          bool
	NextPartNumberMarker string
	Part                 []struct {
		PartNumber   int
		ETag         string
		Size         int64
		LastModified time.Time
		Other        []struct {
			XMLName xml.Name
			Value   string `xml:",chardata"`
		} `xml:",any"`
	}
}

// parts returns the parts of a page, with their checksums.
func (page *partsPage) parts() (all []journal.Part) {
	for _, part := range page.Part {
		header := http.Header{}
		for _, e := range part.Other {
			if algorithm, ok := strings.CutPrefix(e.XMLName.Local, "Checksum"); ok {
				header.Set("X-Amz-Checksum-"+algorithm, e.Value)
			}
		}
		all = append(all, journal.Part{Number: part.PartNumber, Size: part.Size, ETag: part.ETag, Modified: part.LastModified, Header: header})
	}
	return all
}

// abort aborts a multipart upload, and reports whether the upstream no longer has it.
func (u *remote) abort(ctx context.Context, key akigw.Key, id string) bool {
	resp, err := u.upstream.Do(ctx, &cold.Request{Op: "AbortMultipartUpload", Method: http.MethodDelete, Key: key, Query: url.Values{"uploadId": {id}}, Header: http.Header{}})
	r := u.judge(err, resp, false)
	return r.err == nil || resp != nil && resp.StatusCode == http.StatusNotFound
}
