package remote

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
	"strings"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/s3xml"
	"github.com/akidb/akigw/tiers/cold"
	"github.com/akidb/akigw/vectors/segment"
)

// ErrAbsent means that the upstream does not have an object.
const ErrAbsent = akigw.Error("the upstream does not have the object")

const (
	// attempts is how often a request is sent that got no response, or one that may be another one
	// soon.
	attempts = 4
	// firstWait is the upper bound of the wait before the first repetition. It doubles with each.
	firstWait = 200 * time.Millisecond
	// patience bounds each request, and slowest adds to it for the bytes that it moves.
	patience = time.Minute
	slowest  = 256 << 10 // bytes per second
	// maxError is the size of the longest error document that is read.
	maxError = 64 << 10
)

// objects sends requests about the objects below a prefix. Names are relative to the prefix.
type objects struct {
	upstream       cold.Doer
	bucket, prefix string
}

func (o *objects) key(name string) akigw.Key {
	return akigw.Key{Bucket: o.bucket, Name: o.prefix + name}
}

// reply is a response whose body has been read.
type reply struct {
	status int
	header http.Header
	body   []byte // nil if the body of a success was written elsewhere
	length int64  // as announced, -1 for unknown
}

// do sends a request of or for up to size bytes and reads all of the response. The body of a success is
// written to sink, if that is not nil. The error wraps akigw.ErrUpstreamUnavailable if the outcome is
// not known.
func (o *objects) do(ctx context.Context, r *cold.Request, size int64, sink io.Writer) (reply, error) {
	within, cancel := context.WithTimeoutCause(ctx, patienceFor(size), cold.ErrDeadline)
	defer cancel()
	resp, err := o.upstream.Do(within, r)
	if err != nil {
		return reply{}, failed(r, err)
	}
	defer resp.Body.Close()
	rep := reply{status: resp.StatusCode, header: resp.Header, length: resp.ContentLength}
	var n int64
	if sink != nil && rep.status == http.StatusOK {
		n, err = io.Copy(sink, io.LimitReader(resp.Body, size+1))
	} else {
		limit := int64(maxError)
		if rep.status == http.StatusOK {
			limit = size + maxError
		}
		rep.body, err = io.ReadAll(io.LimitReader(resp.Body, limit))
		n = int64(len(rep.body))
	}
	if err == nil && r.Method == http.MethodGet && rep.status == http.StatusOK && rep.length >= 0 && n < min(rep.length, size+1) {
		err = akigw.ErrShortBody
	}
	var full *sinkError
	switch {
	case err == nil:
		return rep, nil
	case errors.As(err, &full):
		return reply{}, full.error
	}
	return reply{}, failed(r, err)
}

// patienceFor is how long a request may take that moves size bytes.
func patienceFor(size int64) time.Duration {
	return patience + time.Duration(size/slowest)*time.Second
}

// failed wraps the reason why a request got no complete response.
func failed(r *cold.Request, err error) error {
	if errors.Is(err, akigw.ErrUpstreamUnavailable) {
		return fmt.Errorf("%s %s: %w", r.Op, r.Key, err)
	}
	return fmt.Errorf("%s %s: %w: %w", r.Op, r.Key, akigw.ErrUpstreamUnavailable, err)
}

// sinkError is an error of the sink, which is none of the upstream.
type sinkError struct{ error }

// Unwrap returns the cause.
func (e *sinkError) Unwrap() error { return e.error }

// sink marks the errors of a writer.
type sink struct{ io.Writer }

// Write implements io.Writer.
func (s sink) Write(p []byte) (int, error) {
	n, err := s.Writer.Write(p)
	if err != nil {
		err = &sinkError{err}
	}
	return n, err
}

// code is the S3 code of an error document, "" for another body.
func (rep *reply) code() string {
	var document struct {
		XMLName xml.Name
		Code    string
	}
	if !bytes.Contains(rep.body, []byte("<Error")) || s3xml.Unmarshal(rep.body, &document) != nil || document.XMLName.Local != "Error" {
		return ""
	}
	return cmp.Or(document.Code, "Unknown")
}

// transient reports whether the same request may succeed soon. Whether it was carried out is unknown:
// a proxy may have answered.
func (rep *reply) transient() bool {
	switch rep.status {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusConflict:
		return true
	case http.StatusBadRequest: // the body was damaged on its way, or the connection broke
		code := rep.code()
		return code == "BadDigest" || code == "IncompleteBody" || code == "RequestTimeout" || code == "XAmzContentSHA256Mismatch"
	}
	return rep.status >= 500 && rep.status != http.StatusNotImplemented || rep.status < 300 && rep.code() != ""
}

// refusal is the error for a response that is no success.
func (o *objects) refusal(r *cold.Request, rep *reply) error {
	what := fmt.Sprintf("%s %s: the upstream answered %d %s", r.Op, r.Key, rep.status, cmp.Or(rep.code(), http.StatusText(rep.status)))
	e := &cold.ResponseError{Status: rep.status, Header: rep.header, Body: rep.body}
	switch {
	case rep.transient():
		return fmt.Errorf("%s: %w: %w", what, akigw.ErrUpstreamUnavailable, e)
	case rep.code() == "NoSuchBucket":
		return fmt.Errorf("%s: create the bucket of vectors.bucket, or name another one: %w", what, e)
	case rep.status == http.StatusForbidden || rep.status == http.StatusUnauthorized:
		return fmt.Errorf("%s: allow the gateway's upstream key to get, put, delete and list objects below vectors.prefix: %w", what, e)
	case rep.status == http.StatusNotFound:
		return fmt.Errorf("%s: %w", what, ErrAbsent)
	}
	return fmt.Errorf("%s: %w", what, e)
}

// wait waits before repetition n, from 0. It returns the error of ctx if that ends first.
func wait(ctx context.Context, n int) error {
	select {
	case <-time.After(rand.N(firstWait<<n) + 1):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// repeat calls f until it returns no akigw.ErrUpstreamUnavailable, up to attempts times.
func repeat(ctx context.Context, f func() error) error {
	for n := 0; ; n++ {
		err := f()
		if err == nil || !errors.Is(err, akigw.ErrUpstreamUnavailable) || n == attempts-1 {
			return err
		}
		if ended := wait(ctx, n); ended != nil {
			return errors.Join(ended, err)
		}
	}
}

// object is an object that was read.
type object struct {
	body []byte
	etag string // as the upstream wrote it
	date string // of the response: the upstream's clock
}

// get reads a document. The error is ErrAbsent if there is none.
func (o *objects) get(ctx context.Context, name string) (got object, err error) {
	r := &cold.Request{Op: "GetObject", Method: http.MethodGet, Key: o.key(name), Header: http.Header{"Cache-Control": {"no-cache"}}}
	err = repeat(ctx, func() error {
		rep, err := o.do(ctx, r, segment.MaxDocument, nil)
		if err == nil && (rep.status != http.StatusOK || rep.code() != "") {
			err = o.refusal(r, &rep)
		}
		if err == nil && rep.header.Get("Etag") == "" {
			err = fmt.Errorf("%s: %w: the response has no ETag, without which no conditional write is possible", r.Key, ErrConditions)
		}
		got = object{rep.body, rep.header.Get("Etag"), rep.header.Get("Date")}
		return err
	})
	return got, err
}

// condition is a condition of a PutObject.
type condition struct{ ifMatch, ifNoneMatch string }

// create is the condition that there is no object.
var create = condition{ifNoneMatch: "*"}

// replacing is the condition that the object has an ETag, or that there is none if etag is "".
func replacing(etag string) condition {
	if etag == "" {
		return create
	}
	return condition{ifMatch: etag}
}

// errCondition means that the upstream refused a write because of its condition.
const errCondition = akigw.Error("the condition of the write was not met")

// put writes a document once, under a condition. The error is errCondition if the upstream refused it
// for that, and akigw.ErrUpstreamUnavailable if it is not known whether the document was written. etag
// may be "".
func (o *objects) put(ctx context.Context, name string, document []byte, c condition) (etag string, err error) {
	header := http.Header{"Content-Type": {"application/json"}}
	if c.ifMatch != "" {
		header.Set("If-Match", c.ifMatch)
	}
	if c.ifNoneMatch != "" {
		header.Set("If-None-Match", c.ifNoneMatch)
	}
	r := &cold.Request{Op: "PutObject", Method: http.MethodPut, Key: o.key(name), Header: header, Body: bytes.NewReader(document), Length: int64(len(document)), SHA256: digest(document)}
	rep, err := o.do(ctx, r, int64(len(document)), nil)
	switch {
	case err != nil:
		return "", err
	case rep.status/100 == 2 && rep.code() == "":
		return rep.header.Get("Etag"), nil
	case rep.status == http.StatusPreconditionFailed, rep.status == http.StatusNotFound && c.ifMatch != "" && rep.code() != "NoSuchBucket":
		return "", fmt.Errorf("%s: %w", r.Key, errCondition)
	}
	return "", o.refusal(r, &rep)
}

// head returns the headers and the size of an object, ErrAbsent if there is none.
func (o *objects) head(ctx context.Context, name string) (h http.Header, size int64, err error) {
	r := &cold.Request{Op: "HeadObject", Method: http.MethodHead, Key: o.key(name), Header: http.Header{"X-Amz-Checksum-Mode": {"ENABLED"}}}
	err = repeat(ctx, func() error {
		rep, err := o.do(ctx, r, 0, nil)
		if err == nil && rep.status != http.StatusOK {
			err = o.refusal(r, &rep)
		}
		h, size = rep.header, rep.length
		return err
	})
	return h, size, err
}

// remove deletes an object. It is no error if there is none.
func (o *objects) remove(ctx context.Context, name string) error {
	r := &cold.Request{Op: "DeleteObject", Method: http.MethodDelete, Key: o.key(name), Header: http.Header{}}
	return repeat(ctx, func() error {
		rep, err := o.do(ctx, r, 0, nil)
		if err == nil && rep.status/100 != 2 && (rep.status != http.StatusNotFound || rep.code() == "NoSuchBucket") {
			err = o.refusal(r, &rep)
		}
		return err
	})
}

// list calls yield with the objects whose names begin with dir, in order.
func (o *objects) list(ctx context.Context, dir string, yield func(name string, o cold.Listed) error) error {
	last, stopped := "", error(nil) // the last key, and the error of yield
	return repeat(ctx, func() error {
		within, cancel := context.WithTimeoutCause(ctx, listPatience, cold.ErrDeadline)
		defer cancel()
		err := cold.List(within, o.upstream, o.bucket, o.prefix+dir, last, func(l cold.Listed) error {
			name, ok := strings.CutPrefix(l.Key, o.prefix)
			if ok && l.Key > last { // an upstream may ignore the prefix, or repeat itself
				stopped = yield(name, l)
			}
			last = max(last, l.Key)
			return stopped
		})
		var refused *cold.ResponseError
		switch {
		case stopped != nil:
			return stopped
		case errors.As(err, &refused):
			rep := reply{status: refused.Status, header: refused.Header, body: refused.Body}
			return o.refusal(&cold.Request{Op: "ListObjectsV2", Key: o.key(dir)}, &rep)
		case err != nil:
			return failed(&cold.Request{Op: "ListObjectsV2", Key: o.key(dir)}, err)
		}
		return nil
	})
}

// listPatience bounds a listing: a million objects are a thousand pages.
const listPatience = 10 * time.Minute
