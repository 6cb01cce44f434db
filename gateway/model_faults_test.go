package gateway

import (
	"bytes"
	"crypto/md5"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/tiers/cold"
)

// readFault has the upstream answer the next reads wrongly. Whatever comes then
// is right, or an error, or is cut off.
func (m *machine) readFault(key akigw.Key) {
	kind := m.random.IntN(7)
	left := 1 + m.random.IntN(4)
	random := rand.New(rand.NewPCG(m.random.Uint64(), 1)) // the reads' own, under the lock
	fired := false
	reading := func(r *cold.Request) bool {
		if r.Method != http.MethodGet && r.Method != http.MethodHead || r.Key.Name == "" || left == 0 {
			return false
		}
		left--
		m.faults++
		fired = true
		return true
	}
	switch kind {
	case 0, 1:
		m.arm(func(r *cold.Request) (*http.Response, error) {
			if !reading(r) {
				return nil, nil
			}
			if kind == 0 {
				return nil, fmt.Errorf("%w: refused", akigw.ErrUpstreamUnavailable)
			}
			return s3mem.Response(http.StatusServiceUnavailable, nil, []byte("<Error><Code>SlowDown</Code></Error>")), nil
		}, nil)
	default:
		m.arm(nil, func(r *cold.Request, resp *http.Response) {
			if r.Method != http.MethodGet || resp.StatusCode >= 300 || resp.ContentLength < 2 || !reading(r) {
				return
			}
			body, _ := io.ReadAll(resp.Body)
			at := random.IntN(len(body))
			switch kind {
			case 2: // short, and ends as if it were whole
				body = body[:at]
			case 3: // corrupt, which a whole body with a digest shows
				if resp.StatusCode == http.StatusOK && !strings.Contains(resp.Header.Get("Etag"), "-") {
					body[at] ^= 1
				}
			case 4: // the wrong range
				if resp.StatusCode == http.StatusPartialContent {
					resp.Header.Set("Content-Range", "bytes 1-2/3")
				}
			case 5: // another version
				resp.Header.Set("Etag", `"another"`)
				resp.StatusCode = http.StatusPreconditionFailed
			case 6: // without an ETag, it cannot be cached
				resp.Header.Del("Etag")
			}
			resp.Body = io.NopCloser(bytes.NewReader(body))
		})
	}
	w := m.ask("GET", key, "", nil, nil)
	m.arm(nil, nil)
	switch {
	case fired && (w.Code >= 500 || w.Code == http.StatusPreconditionFailed || w.Code == http.StatusOK && !complete(w)):
		m.cut++
	case fired && kind == 6: // passed on as it came
	default:
		m.check(key, w, false)
	}
}

// writeFault has a PUT fail, before or after the upstream did it.
func (m *machine) writeFault(key akigw.Key) {
	if key.Bucket == back {
		return
	}
	v, done := m.value(), m.random.IntN(2) == 0
	m.arm(func(r *cold.Request) (*http.Response, error) {
		if r.Method != http.MethodPut || r.Key != key { // another key's upload in the background
			return nil, nil
		}
		m.faults++
		body := []byte{}
		if r.Body != nil {
			var err error
			if body, err = io.ReadAll(r.Body); err != nil {
				return nil, err
			}
		}
		if done {
			m.up.PutStored(key, s3mem.Stored{Body: body, ETag: v.ETag, Modified: m.up.Clock(), Header: http.Header{"X-Amz-Meta-Model": {v.Meta}}})
		}
		return nil, fmt.Errorf("%w: no answer", akigw.ErrUpstreamUnavailable)
	}, nil)
	w := m.ask("PUT", key, "", http.Header{"X-Amz-Meta-Model": {v.Meta}}, v.Body)
	m.arm(nil, nil)
	m.up.AwaitEvents()
	if w.Code != http.StatusServiceUnavailable {
		m.t.Errorf("PUT of %s without an answer: %d %s", key, w.Code, w.Body)
	}
	if done {
		m.model.Write(key, v)
	} else {
		m.model.Catch(key)
	}
}

// flushFault has the next uploads of what is written back fail, before or after the
// upstream did them, or be refused. Nobody is to see any of it.
func (m *machine) flushFault(key akigw.Key) {
	key.Bucket = back
	left, kind := 1+m.random.IntN(3), m.random.IntN(3)
	m.arm(func(r *cold.Request) (*http.Response, error) {
		if left == 0 || r.Key.Bucket != back || r.Method == http.MethodGet || r.Method == http.MethodHead {
			return nil, nil
		}
		left--
		m.faults++
		switch {
		case kind == 0:
			return s3mem.Response(http.StatusInternalServerError, nil, []byte("<Error><Code>InternalError</Code></Error>")), nil
		case kind == 1 && r.Op == "PutObject":
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return nil, err
			}
			sum := md5.Sum(body)
			m.up.PutStored(r.Key, s3mem.Stored{Body: body, ETag: fmt.Sprintf("\"%x\"", sum), Modified: m.up.Clock(), Header: http.Header{"X-Amz-Meta-Model": r.Header["X-Amz-Meta-Model"]}})
		}
		return nil, fmt.Errorf("%w: no answer", akigw.ErrUpstreamUnavailable)
	}, nil)
	for range 3 {
		m.put(key)
		m.get(key)
		m.list(key)
		key = akigw.Key{Bucket: back, Name: m.key().Name}
		m.delete(key)
		m.get(key)
	}
	m.arm(nil, nil)
}
