package embedded

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/akidb/akigw/internal/testing/testkit"
)

// TestReads: ranges, parts, conditions and overrides of GET and HEAD.
func TestReads(t *testing.T) {
	s, do := open(t, testkit.MemoryDir(t))
	defer s.Close()
	ok(t, do("PUT", "/bucket", nil, nil))
	ok(t, do("PUT", "/bucket/k", http.Header{"Content-Type": {"text/x"}}, []byte("0123456789")))
	m := begin(t, do, nil)
	m.put([]byte(strings.Repeat("a", minPart)), nil, "")
	m.put([]byte("tail"), nil, "")
	ok(t, m.complete("", nil))
	ok(t, do("PUT", "/bucket/multi", http.Header{"X-Amz-Copy-Source": {"bucket/k"}}, nil))
	ok(t, do("PUT", "/bucket/k", http.Header{"Content-Type": {"text/x"}}, []byte("0123456789")))
	ok(t, do("PUT", "/bucket/empty", nil, nil))
	tag := etagOf([]byte("0123456789"))
	modified := ok(t, do("HEAD", "/bucket/k", nil, nil)).Header().Get("Last-Modified")
	const past, future = "Mon, 01 Jan 2001 00:00:00 GMT", "Fri, 01 Jan 2100 00:00:00 GMT"
	for _, c := range []struct {
		name, target string
		header       http.Header
		status       int
		body         string
		says         http.Header
	}{
		{"range", "k", http.Header{"Range": {"bytes=2-3"}}, 206, "23", http.Header{"Content-Range": {"bytes 2-3/10"}}},
		{"no such range", "k", http.Header{"Range": {"bytes=10-"}}, 416, "", http.Header{"Content-Range": {"bytes */10"}}},
		{"if range, same", "k", http.Header{"Range": {"bytes=2-3"}, "If-Range": {tag}}, 206, "23", nil},
		{"if range, other", "k", http.Header{"Range": {"bytes=2-3"}, "If-Range": {`"x"`}}, 200, "0123456789", nil},
		{"if range, date", "k", http.Header{"Range": {"bytes=2-3"}, "If-Range": {modified}}, 206, "23", nil},
		{"if range, other date", "k", http.Header{"Range": {"bytes=2-3"}, "If-Range": {past}}, 200, "0123456789", nil},
		{"match", "k", http.Header{"If-Match": {tag}}, 200, "0123456789", nil},
		{"no match", "k", http.Header{"If-Match": {`"x"`}}, 412, "", nil},
		{"none match", "k", http.Header{"If-None-Match": {tag}}, 304, "", http.Header{"Etag": {tag}}},
		{"modified", "k", http.Header{"If-Modified-Since": {past}}, 200, "0123456789", nil},
		{"not modified", "k", http.Header{"If-Modified-Since": {future}}, 304, "", nil},
		{"unmodified", "k", http.Header{"If-Unmodified-Since": {future}}, 200, "0123456789", nil},
		{"not unmodified", "k", http.Header{"If-Unmodified-Since": {past}}, 412, "", nil},
		{"a part", "multi?partNumber=2", nil, 206, "tail", http.Header{"X-Amz-Mp-Parts-Count": {"2"}, "Content-Range": {"bytes 5242880-5242883/5242884"}}},
		{"no such part", "multi?partNumber=3", nil, 416, "", nil},
		{"part zero", "multi?partNumber=0", nil, 400, "", nil},
		{"a part of one", "k?partNumber=1", nil, 206, "0123456789", http.Header{"X-Amz-Mp-Parts-Count": nil}},
		{"a part of an empty object", "empty?partNumber=1", nil, 200, "", nil},
		{"part and range", "multi?partNumber=1", http.Header{"Range": {"bytes=0-1"}}, 400, "", nil},
		{"overrides", "k?response-content-type=a/b&response-content-disposition=attachment&response-cache-control=no-store&response-content-encoding=x&response-content-language=de&response-expires=" + url.QueryEscape(past), nil, 200, "0123456789",
			http.Header{"Content-Type": {"a/b"}, "Content-Disposition": {"attachment"}, "Cache-Control": {"no-store"}, "Content-Encoding": {"x"}, "Content-Language": {"de"}, "Expires": {past}}},
		{"the version of a bucket without versions", "k?versionId=null", nil, 200, "0123456789", nil},
		{"a version", "k?versionId=v1", nil, 501, "", nil},
	} {
		for _, method := range []string{"GET", "HEAD"} {
			w := do(method, "/bucket/"+c.target, c.header, nil)
			if w.Code != c.status || method == "GET" && c.status < 300 && w.Body.String() != c.body {
				t.Errorf("%s, %s: %d %.100q", c.name, method, w.Code, w.Body)
			}
			for name, values := range c.says {
				if !slices.Equal(w.Header()[name], values) {
					t.Errorf("%s, %s: %s is %q, want %q", c.name, method, name, w.Header()[name], values)
				}
			}
		}
	}
}

// TestPages: ListBuckets, ListMultipartUploads and ListParts in pages of each size.
func TestPages(t *testing.T) {
	s, do := open(t, testkit.MemoryDir(t))
	defer s.Close()
	buckets := []string{"aaa", "bucket", "bucket-2", "ccc"}
	for _, name := range buckets {
		ok(t, do("PUT", "/"+name, nil, nil))
	}
	uploads := []string{"a", "a/b", "a/c", "b+ c", "d", "d", "e/f/g", "e/h"}
	for _, key := range uploads {
		ok(t, do("POST", "/bucket/"+url.PathEscape(key)+"?uploads", nil, nil))
	}
	id := between(ok(t, do("POST", "/ccc/k?uploads", nil, nil)).Body.String(), "<UploadId>", "</UploadId>")
	for n := 1; n <= 9; n += 2 {
		ok(t, do("PUT", fmt.Sprintf("/ccc/k?partNumber=%d&uploadId=%s", n, id), nil, []byte("part")))
	}
	for _, c := range []struct {
		name, target, size string
		query              url.Values
		element, outer     string
		markers            map[string]string // parameter of the next page, by the element that has it
		want               []string
	}{
		{"buckets", "/", "max-buckets", nil, "Name", "Bucket", map[string]string{"ContinuationToken": "continuation-token"}, buckets},
		{"buckets with a prefix", "/", "max-buckets", url.Values{"prefix": {"bucket"}}, "Name", "Bucket", map[string]string{"ContinuationToken": "continuation-token"}, buckets[1:3]},
		{"uploads", "/bucket", "max-uploads", url.Values{"uploads": {""}, "encoding-type": {"url"}}, "Key", "Upload", map[string]string{"NextKeyMarker": "key-marker", "NextUploadIdMarker": "upload-id-marker"}, uploads},
		{"uploads with a delimiter", "/bucket", "max-uploads", url.Values{"uploads": {""}, "encoding-type": {"url"}, "delimiter": {"/"}}, "Key", "Upload", map[string]string{"NextKeyMarker": "key-marker", "NextUploadIdMarker": "upload-id-marker"}, []string{"a", "a/", "b+ c", "d", "d", "e/"}},
		{"uploads with a prefix", "/bucket", "max-uploads", url.Values{"uploads": {""}, "encoding-type": {"url"}, "prefix": {"e/"}}, "Key", "Upload", map[string]string{"NextKeyMarker": "key-marker", "NextUploadIdMarker": "upload-id-marker"}, []string{"e/f/g", "e/h"}},
		{"parts", "/ccc/k", "max-parts", url.Values{"uploadId": {id}}, "PartNumber", "Part", map[string]string{"NextPartNumberMarker": "part-number-marker"}, []string{"1", "3", "5", "7", "9"}},
	} {
		for size := 1; size <= len(c.want)+1; size++ {
			var got []string
			q := url.Values{}
			for name, values := range c.query {
				q[name] = values
			}
			q.Set(c.size, fmt.Sprint(size))
			for more := true; more; {
				text := ok(t, do("GET", c.target+"?"+q.Encode(), nil, nil)).Body.String()
				page := slices.Concat(texts(text, "<"+c.outer+">", "<"+c.element+">", "</"+c.element+">"), texts(text, "<CommonPrefixes>", "<Prefix>", "</Prefix>"))
				if len(page) > size || len(got) > len(c.want) {
					t.Fatalf("%s in pages of %d: %q and %q", c.name, size, got, page)
				}
				got = append(got, page...)
				more = strings.Contains(text, "<IsTruncated>true") || strings.Contains(text, "<ContinuationToken>")
				for element, param := range c.markers {
					q.Del(param)
					if v := between(text, "<"+element+">", "</"+element+">"); more && v != "" {
						marker, err := url.PathUnescape(v)
						if err != nil {
							t.Fatal(err)
						}
						q.Set(param, marker)
					}
				}
			}
			if slices.Sort(got); !slices.Equal(got, c.want) {
				t.Errorf("%s in pages of %d: %q, want %q", c.name, size, got, c.want)
			}
		}
		if w := do("GET", c.target+"?"+c.query.Encode()+"&"+c.size+"=x", nil, nil); w.Code != 400 {
			t.Errorf("%s in pages of x: %d %s", c.name, w.Code, w.Body)
		}
	}
}

// texts returns the texts of an element within each occurrence of another one.
func texts(document, outer, from, to string) (all []string) {
	for _, part := range strings.Split(document, outer)[1:] {
		text, err := url.PathUnescape(between(part, from, to))
		if err != nil {
			return []string{err.Error()}
		}
		all = append(all, text)
	}
	return all
}

// TestBucketLocation: a bucket reports the location that it was created with.
func TestBucketLocation(t *testing.T) {
	s, do := open(t, testkit.MemoryDir(t))
	defer s.Close()
	in := []byte("<CreateBucketConfiguration><LocationConstraint>eu-central-1</LocationConstraint></CreateBucketConfiguration>")
	ok(t, do("PUT", "/there", nil, in))
	ok(t, do("PUT", "/there", nil, in))
	ok(t, do("PUT", "/here", nil, nil))
	if w := do("PUT", "/there", nil, nil); w.Code != 409 || !strings.Contains(w.Body.String(), "BucketAlreadyOwnedByYou") {
		t.Errorf("creating it elsewhere: %d %s", w.Code, w.Body)
	}
	for name, want := range map[string]string{"there": ">eu-central-1</LocationConstraint>", "here": "></LocationConstraint>"} {
		if w := ok(t, do("GET", "/"+name+"?location", nil, nil)); !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: %s", name, w.Body)
		}
	}
	for _, name := range []string{"Upper", "a", "192.168.0.1", "a_b"} {
		if w := do("PUT", "/"+name, nil, nil); w.Code != 400 || !strings.Contains(w.Body.String(), "InvalidBucketName") {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
}

// TestReadsOfWhatIsReplaced: a GET returns the whole object that it found, even if the object is
// replaced or deleted before the body is sent. The files are removed when the GET ends.
func TestReadsOfWhatIsReplaced(t *testing.T) {
	s, do := open(t, testkit.MemoryDir(t))
	defer s.Close()
	ok(t, do("PUT", "/bucket", nil, nil))
	for _, change := range []string{"PUT", "DELETE"} {
		m := begin(t, do, nil)
		m.put([]byte(strings.Repeat("a", minPart)), nil, "")
		m.put([]byte("tail"), nil, "")
		ok(t, m.complete("", nil))
		w := &pausing{ResponseRecorder: httptest.NewRecorder(), first: func() { ok(t, do(change, "/bucket/k", nil, []byte("new"))) }}
		s.ServeHTTP(w, httptest.NewRequest("GET", "/bucket/k", nil))
		if w.Body.Len() != minPart+4 || !strings.HasSuffix(w.Body.String(), "atail") {
			t.Errorf("%s in the middle of a GET: %d bytes", change, w.Body.Len())
		}
	}
	if all := files(t, s); len(all) != 0 {
		t.Errorf("%d files are left", len(all))
	}
	// Concurrent readers and writers of one key: every response is one of the objects.
	var wait sync.WaitGroup
	ok(t, do("PUT", "/bucket/k", nil, []byte("0000")))
	for i := range 4 {
		wait.Go(func() {
			for n := range 50 {
				if w := do("PUT", "/bucket/k", nil, fmt.Appendf(nil, "%d%03d", i, n)); w.Code != 200 {
					t.Errorf("%d %s", w.Code, w.Body)
				}
			}
		})
		wait.Go(func() {
			for range 200 {
				if w := do("GET", "/bucket/k", nil, nil); w.Code != 200 || w.Body.Len() != 4 {
					t.Errorf("%d %q", w.Code, w.Body)
				}
			}
		})
	}
	wait.Wait()
	if all := files(t, s); len(all) != 1 {
		t.Errorf("%d files are left, want the object's", len(all))
	}
}

// pausing calls first before the first byte of a response is written.
type pausing struct {
	*httptest.ResponseRecorder
	first func()
}

func (p *pausing) Write(b []byte) (int, error) {
	if p.first != nil {
		first := p.first
		p.first = nil
		first()
	}
	return p.ResponseRecorder.Write(b)
}
