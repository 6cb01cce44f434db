package gateway

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/size"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/internal/testing/storekit"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers"
	"github.com/akidb/akigw/tiers/cold"
)

// answering is one state in which an object can be read.
type answering struct {
	name  string
	b     *bench
	ready func(path string) // brings the object of a path into the state
	cache string            // what x-akigw-cache then says of a whole GET
}

// answeringBench is a gateway over up. With back, bucket "back" is written back, and nothing is
// flushed before runPool.
func answeringBench(t *testing.T, up *s3mem.Memory, hot size.Bytes, back bool, freshness rules.Freshness) *bench {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	config := tiers.Config{HotBytes: hot, WarmBytes: 64 << 20, BlockBytes: 64 << 10, SmallBytes: 4 << 10, FetchBytes: 128 << 10, ParallelFetches: 4, MD5ETags: true}
	c := testBack
	c.Dir = t.TempDir()
	book := rules.NewSet(nil, rules.Settings{Freshness: freshness, TTL: time.Hour, Back: back, Memory: true, Disk: true, Block: 64 << 10})
	kit := openKit(t, storekit.Options{Cache: config, WarmDir: filepath.Join(t.TempDir(), "warm"), Back: c, Batch: testBatch, Rules: book, Upstream: up, Log: log})
	t.Cleanup(func() { kit.Close() })
	b := kitBench(kit, up, up, log)
	b.g.handlers.uploads.minPart = 1
	return b
}

// writeAnswered writes objects that differ in what an answer depends on, to the journal of b.
// rewrite writes those that are no multipart uploads again, by their paths.
func writeAnswered(t *testing.T, b *bench) (paths []string, rewrite map[string]func(*bench)) {
	t.Helper()
	rewrite = map[string]func(*bench){}
	put := func(name string, body []byte, header http.Header) {
		if w := b.ask("root", "PUT", "/back/"+name, "", header, string(body)); w.Code != 200 || sentHeader(w, "x-akigw-commit") != "journal" {
			t.Fatalf("PUT %s: %d %s %v", name, w.Code, w.Body, w.Header())
		}
		paths = append(paths, "/back/"+name)
		rewrite["/back/"+name] = func(b *bench) {
			if w := b.ask("root", "PUT", "/back/"+name, "", header, string(body)); w.Code != 200 {
				t.Fatalf("PUT %s: %d %s", name, w.Code, w.Body)
			}
		}
	}
	for _, n := range []int{0, 1, 100, 4<<10 - 1, 4 << 10, 4<<10 + 1, 64<<10 - 1, 64 << 10, 64<<10 + 1, 128 << 10, 300_000} {
		put(fmt.Sprintf("%d", n), testkit.Bytes(uint64(n), n), nil)
	}
	body := testkit.Bytes(7, 70_000)
	put("described", body, http.Header{"Content-Type": {"text/x; charset=utf-8"}, "Cache-Control": {"max-age=9, private"}, "Content-Disposition": {`attachment; filename="a b"`}, "Content-Encoding": {"x-none"},
		"Content-Language": {"de, en"}, "Expires": {"Wed, 21 Oct 2026 07:28:00 GMT"}, "X-Amz-Meta-Color": {"blue"}, "X-Amz-Meta-Two-Words": {"a  b"}, "X-Amz-Meta-Empty": {""},
		"X-Amz-Meta-Utf-8": {"\u00fc\u6f22"}, "X-Amz-Meta-Encoded": {"=?UTF-8?Q?=C3=BC?="}, "X-Amz-Storage-Class": {"STANDARD"}})
	put("summed", body, http.Header{"X-Amz-Checksum-Crc32": {b64Of(uint64(crc32.ChecksumIEEE(body)), 4)}})
	put("summed-empty", nil, http.Header{"X-Amz-Checksum-Crc32": {"AAAAAA=="}})
	for _, sum := range []string{"", "CRC32"} {
		header := http.Header{"X-Amz-Meta-Parts": {"2"}}
		if sum != "" {
			header["X-Amz-Checksum-Algorithm"] = []string{sum}
		}
		path := "/back/parts" + sum
		_, id, _ := strings.Cut(b.ask("root", "POST", path, "uploads", header, "").Body.String(), "<UploadId>")
		id, _, _ = strings.Cut(id, "<")
		document := "<CompleteMultipartUpload>"
		for n, part := range [][]byte{testkit.Bytes(1, int(answeredParts[0])), testkit.Bytes(2, int(answeredParts[1]))} {
			w := b.ask("root", "PUT", path, fmt.Sprintf("uploadId=%s&partNumber=%d", id, n+1), nil, string(part))
			document += fmt.Sprintf("<Part><PartNumber>%d</PartNumber><ETag>%s</ETag>", n+1, tagOf(w))
			if v := sentHeader(w, "x-amz-checksum-crc32"); v != "" {
				document += "<ChecksumCRC32>" + v + "</ChecksumCRC32>"
			}
			document += "</Part>"
		}
		if w := b.ask("root", "POST", path, "uploadId="+id, nil, document+"</CompleteMultipartUpload>"); w.Code != 200 || sentHeader(w, "x-akigw-commit") != "journal" {
			t.Fatalf("Complete: %d %s", w.Code, w.Body)
		}
		paths = append(paths, path)
	}
	return paths, rewrite
}

func b64Of(sum uint64, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(sum >> (8 * (n - 1 - i)))
	}
	return base64.StdEncoding.EncodeToString(b)
}

// answeredRequests are the reads of one object with this ETag: whatever decides about an answer.
func answeredRequests(etag string) (all []http.Header, queries []string) {
	const past, future, other = "Mon, 01 Jan 2024 00:00:00 GMT", "Fri, 01 Jan 2100 00:00:00 GMT", `"0123456789abcdef0123456789abcdef"`
	add := func(query string, pairs ...string) {
		h := http.Header{}
		for i := 0; i < len(pairs); i += 2 {
			h[pairs[i]] = []string{pairs[i+1]}
		}
		all, queries = append(all, h), append(queries, query)
	}
	add("")
	for _, r := range []string{"bytes=0-", "bytes=0-0", "bytes=1-4", "bytes=-1", "bytes=-0", "bytes=-4096", "bytes=-65536", "bytes=-65537", "bytes=-99999999", "bytes=-99999999999999999999", "bytes=0-99999999", "bytes=0-99999999999999999999",
		"bytes=99-", "bytes=100-", "bytes=4095-4096", "bytes=65535-65536", "bytes=65536-", "bytes=131071-", "bytes=131072-", "bytes=200000-200001", "bytes=999999-", "bytes=999999-1999999", "bytes=99999999999999999999-",
		"bytes=4-1", "bytes=", "bytes=-", "bytes=a-b", "bytes=0-1,3-4", "bytes=0-1, -1", "bytes=0-1,", "octets=0-1", "Bytes=0-1", "bytes= 0-1", "bytes=0 - 1", "bytes=+0-1", "0-1", "none"} {
		add("", "Range", r)
	}
	for _, c := range [][]string{
		{"If-Match", etag}, {"If-Match", other}, {"If-Match", "*"}, {"If-Match", strings.Trim(etag, `"`)}, {"If-Match", other + ", " + etag}, {"If-Match", "W/" + etag},
		{"If-None-Match", etag}, {"If-None-Match", other}, {"If-None-Match", "*"}, {"If-None-Match", "W/" + etag}, {"If-None-Match", other + "," + etag},
		{"If-Modified-Since", past}, {"If-Modified-Since", "nonsense"}, {"If-Modified-Since", future}, {"If-Unmodified-Since", past}, {"If-Unmodified-Since", future}, {"If-Unmodified-Since", "nonsense"},
		{"If-Match", etag, "If-Unmodified-Since", past}, {"If-Match", other, "If-None-Match", etag}, {"If-None-Match", other, "If-Modified-Since", past}, {"If-None-Match", etag, "If-Modified-Since", past},
		{"If-None-Match", other, "If-Modified-Since", future}, {"If-Match", etag, "If-None-Match", etag}, {"If-Unmodified-Since", past, "If-None-Match", etag}, {"If-Unmodified-Since", past, "If-Modified-Since", future},
	} {
		add("", c...)
		add("", append(c, "Range", "bytes=0-3")...)
		add("", append(c, "Range", "bytes=999999-")...)
	}
	for _, mode := range []string{"ENABLED", "enabled", "other"} {
		for _, r := range []string{"", "bytes=0-", "bytes=1-2", "bytes=-1"} {
			if add("", "X-Amz-Checksum-Mode", mode); r != "" {
				all[len(all)-1]["Range"] = []string{r}
			}
		}
		add("partNumber=1", "X-Amz-Checksum-Mode", mode)
	}
	for _, n := range []string{"0", "1", "2", "3", "10000", "10001", "x", ""} {
		add("partNumber=" + n)
	}
	add("partNumber=1", "Range", "bytes=0-1")
	add("partNumber=2", "If-Match", other)
	add("partNumber=2", "If-None-Match", etag)
	add("partNumber=9", "If-None-Match", etag)
	for _, q := range []string{"response-content-type=image/png", "response-cache-control=no-cache", "response-content-disposition=inline%3Ba", "response-content-encoding=y", "response-content-language=fr",
		"response-expires=Thu,%2001%20Jan%202026%2000:00:00%20GMT", "response-content-type=", "response-etag=x", "response-content-type=a&response-expires=b", "x-id=GetObject"} {
		add(q)
		add(q, "Range", "bytes=0-0")
		add(q, "If-None-Match", etag)
	}
	add("versionId=null2")
	return all, queries
}

// perState are headers that say where an answer comes from, or when.
var perState = map[string]bool{"x-amz-request-id": true, "x-amz-id-2": true, "x-akigw-cache": true, "x-akigw-upstream-request-id": true, "age": true, "date": true}

var requestIDs = regexp.MustCompile(`<(RequestId|HostId)>[^<]*<`)

// telling is an answer without what may differ from state to state.
func telling(w *httptest.ResponseRecorder) string {
	var lines []string
	for name, values := range w.Header() {
		name = strings.ToLower(name)
		switch {
		case perState[name]:
		case name == "last-modified": // a flush dates the object
			lines = append(lines, name)
		case name == "content-length" && w.Code >= 300:
		default:
			lines = append(lines, name+": "+strings.Join(values, ","))
		}
	}
	slices.Sort(lines)
	body := requestIDs.ReplaceAllString(w.Body.String(), "<$1><")
	if len(body) > 1000 {
		body = fmt.Sprintf("%d bytes, %x", len(body), crc32.ChecksumIEEE([]byte(body)))
	}
	return fmt.Sprintf("%d\n%s\n%s", w.Code, strings.Join(lines, "\n"), body)
}

// waits reports whether a read of a part waits until the object is upstream, because the journal
// cannot say what the upstream makes of such a part.
func waits(path, query string) bool {
	number, ok := strings.CutPrefix(query, "partNumber=")
	n, err := strconv.Atoi(number)
	return ok && err == nil && n > 0 && n <= maxParts && !(strings.HasPrefix(path, "/back/parts") && n <= len(answeredParts))
}

// seenIn is an answer, and the first state in which it was seen.
type seenIn struct{ state, answer string }

// lacking are the lines of an answer that another does not have.
func lacking(answer, other string) string {
	lines, others := strings.Split(answer, "\n"), strings.Split(other, "\n")
	return strings.Join(slices.DeleteFunc(lines, func(line string) bool { return slices.Contains(others, line) }), "; ")
}

// service makes of Memory a service that keeps what describes an object and knows parts and
// checksums, as S3 does, besides what it makes of ranges.
type service struct {
	*s3mem.Memory
	mu        sync.Mutex
	described map[string]http.Header // by key; guarded by mu
	// ranges may change the answer to a GET of a range.
	ranges func(r *cold.Request, resp *http.Response)
	// noRanges answers with whole objects.
	noRanges bool
}

func newService(noRanges bool, ranges func(*cold.Request, *http.Response)) *service {
	s := &service{Memory: s3mem.New(), described: map[string]http.Header{}, ranges: ranges, noRanges: noRanges}
	s.Before, s.After = s.before, s.after
	return s
}

func (s *service) before(r *cold.Request) (*http.Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case r.Op == "PutObject" || r.Op == "CreateMultipartUpload":
		h := http.Header{"Content-Type": {"binary/octet-stream"}}
		for name, values := range r.Header {
			if strings.HasPrefix(name, "X-Amz-Meta-") || strings.HasPrefix(name, "X-Amz-Checksum-") || strings.HasPrefix(name, "Content-") && name != "Content-Md5" || name == "Cache-Control" || name == "Expires" {
				h[name] = values
			}
		}
		if h.Get("X-Amz-Checksum-Algorithm") != "" {
			h.Del("X-Amz-Checksum-Algorithm")
			h["X-Amz-Checksum-Crc32"], h["X-Amz-Checksum-Type"] = []string{compositeSum}, []string{"COMPOSITE"}
		} else if h.Get("X-Amz-Checksum-Crc32") != "" {
			h["X-Amz-Checksum-Type"] = []string{"FULL_OBJECT"}
		}
		s.described[r.Key.Name] = h
	case r.Method == http.MethodGet && r.Key.Name != "" && s.noRanges:
		r.Header = r.Header.Clone()
		delete(r.Header, "Range")
	}
	return nil, nil
}

func (s *service) after(r *cold.Request, resp *http.Response) {
	if r.Key.Name == "" || r.Method != http.MethodGet && r.Method != http.MethodHead || len(r.Query) > 0 && !r.Query.Has("partNumber") {
		return
	}
	s.mu.Lock()
	h := s.described[r.Key.Name]
	s.mu.Unlock()
	whole := resp.StatusCode == http.StatusOK && !r.Query.Has("partNumber") && r.Header.Get("Range") == ""
	if resp.StatusCode < 300 {
		for name, values := range h {
			if !strings.HasPrefix(name, "X-Amz-Checksum-") || whole && r.Header.Get("X-Amz-Checksum-Mode") == "ENABLED" {
				resp.Header[name] = values
			}
		}
	}
	if r.Query.Has("partNumber") && resp.StatusCode < 300 {
		s.part(r, resp)
	} else if r.Method == http.MethodGet {
		s.ranges(r, resp)
	}
}

// part makes of a whole object one of its parts.
func (s *service) part(r *cold.Request, resp *http.Response) {
	o, _ := s.Get(r.Key)
	parts := []akigw.Range{{Length: int64(len(o.Body))}}
	if strings.HasPrefix(r.Key.Name, "parts") {
		parts = []akigw.Range{{Length: answeredParts[0]}, {Start: answeredParts[0], Length: answeredParts[1]}}
		resp.Header["X-Amz-Mp-Parts-Count"] = []string{"2"}
	}
	n, err := strconv.Atoi(r.Query.Get("partNumber"))
	if err != nil || n < 1 || n > len(parts) {
		*resp = *s3mem.Response(416, nil, []byte("<Error><Code>InvalidPartNumber</Code></Error>"))
		return
	}
	p := parts[n-1]
	if len(o.Body) > 0 {
		resp.StatusCode, resp.Header["Content-Range"] = 206, []string{p.ContentRange(int64(len(o.Body)))}
	}
	if len(parts) > 1 && r.Header.Get("X-Amz-Checksum-Mode") == "ENABLED" && r.Key.Name == "partsCRC32" {
		resp.Header["X-Amz-Checksum-Crc32"] = []string{b64Of(uint64(crc32.ChecksumIEEE(o.Body[p.Start:p.End()])), 4)}
	}
	resp.ContentLength = p.Length
	if r.Method == http.MethodGet {
		resp.Body = io.NopCloser(bytes.NewReader(o.Body[p.Start:p.End()]))
	}
}

// answeredParts are the sizes of the parts of objects that have some.
var answeredParts = [2]int64{100_000, 30_000}

// compositeSum is the CRC32 of their CRC32s.
var compositeSum = func() string {
	var sums []byte
	for i, n := range answeredParts {
		sums = binary.BigEndian.AppendUint32(sums, crc32.ChecksumIEEE(testkit.Bytes(uint64(i+1), int(n))))
	}
	return b64Of(uint64(crc32.ChecksumIEEE(sums)), 4) + "-2"
}()

// endOfNothing reports whether an answer is to a GET of the last bytes of an empty object.
func endOfNothing(r *cold.Request, resp *http.Response) bool {
	return strings.HasPrefix(r.Header.Get("Range"), "bytes=-") && resp.StatusCode == 200 && resp.ContentLength == 0
}

// upstreamKinds are what services make of ranges.
var upstreamKinds = map[string]func() *service{
	"S3": func() *service { return newService(false, func(*cold.Request, *http.Response) {}) },
	"the end of nothing is a part": func() *service { // MinIO
		return newService(false, func(r *cold.Request, resp *http.Response) {
			if endOfNothing(r, resp) {
				resp.StatusCode, resp.Header["Content-Range"] = 206, []string{"bytes 0--1/0"}
			}
		})
	},
	"the end of nothing is no range": func() *service {
		return newService(false, func(r *cold.Request, resp *http.Response) {
			if endOfNothing(r, resp) {
				*resp = *s3mem.Response(416, http.Header{"Content-Range": {"bytes */0"}}, []byte("<Error><Code>InvalidRange</Code><Message>of the upstream</Message></Error>"))
			}
		})
	},
	"ranges are whole objects": func() *service { return newService(true, func(*cold.Request, *http.Response) {}) },
}

// TestAnswersDoNotDependOnTheTier: a read of an object is answered the same while it is pending,
// just flushed, unknown, in memory and on disk, whatever decides about the answer and whatever
// the upstream makes of ranges.
func TestAnswersDoNotDependOnTheTier(t *testing.T) {
	for kind, service := range upstreamKinds {
		t.Run(kind, func(t *testing.T) {
			if kind == "S3" {
				testkit.WithoutRace(t, "it sends one request after the other, ten times as many as of the other kinds")
			}
			t.Parallel()
			up := service().Memory
			writer := answeringBench(t, up, 64<<20, true, rules.Exclusive)
			paths, rewrite := writeAnswered(t, writer)
			if kind != "S3" { // for which the range and the size decide
				paths = []string{"/back/0", "/back/100", "/back/65537", "/back/summed-empty"}
			}
			whole := func(b *bench, path string) *httptest.ResponseRecorder { return b.ask("root", "GET", path, "", nil, "") }
			get := func(b *bench) func(string) { return func(path string) { whole(b, path) } }
			purged := func(b *bench) func(string) {
				return func(path string) {
					if _, err := b.store.Purge(t.Context(), akigw.Pattern{Bucket: back}); err != nil {
						t.Fatal(err)
					}
				}
			}
			nothing := func(string) {}
			want := map[string]seenIn{}
			compare := func(s answering) {
				for _, path := range paths {
					s.ready(path)
					w := whole(s.b, path)
					if got := sentHeader(w, "x-akigw-cache"); s.cache != "" && got != s.cache {
						t.Errorf("%s: GET %s comes from %q, want %s", s.name, path, got, s.cache)
					}
					headers, queries := answeredRequests(tagOf(w))
					for i, header := range headers {
						if kind != "S3" && header.Get("Range") == "" {
							continue
						}
						for _, method := range []string{"GET", "HEAD"} {
							if s.name == "pending" && waits(path, queries[i]) {
								continue
							}
							s.ready(path)
							request := fmt.Sprint(method, " ", path, "?", queries[i], " ", header)
							got := telling(s.b.ask("root", method, path, queries[i], header, ""))
							if first, known := want[request]; !known {
								want[request] = seenIn{s.name, got}
							} else if first.answer != got {
								t.Errorf("%s\n%s: %s\n%s: %s", request, first.state, lacking(first.answer, got), s.name, lacking(got, first.answer))
							}
						}
					}
				}
			}
			compare(answering{"pending", writer, nothing, "overlay"})
			all := paths
			writer.runPool(t)
			if err := writer.writes.DrainBucket(t.Context(), back); err != nil {
				t.Fatal(err)
			}
			if len(up.KeysOf(back)) < len(paths) {
				t.Fatalf("only %q are upstream", up.KeysOf(back))
			}
			compare(answering{"flushed", writer, nothing, ""})
			paths = slices.DeleteFunc(slices.Clone(paths), func(path string) bool {
				return !slices.Contains([]string{"/back/0", "/back/1", "/back/described", "/back/summed"}, path)
			})
			compare(answering{"just flushed", writer, func(path string) {
				rewrite[path](writer)
				if err := writer.writes.Drain(t.Context(), keyOf(back, path[len("/back/"):])); err != nil {
					t.Fatal(err)
				}
			}, ""})
			through := answeringBench(t, up, 64<<20, false, rules.Exclusive)
			compare(answering{"just written through", through, func(path string) { rewrite[path](through) }, "hot"})
			paths = all
			first := map[string]bool{}
			for _, s := range []answering{
				{"hot", answeringBench(t, up, 64<<20, false, rules.Exclusive), nil, "hot"},
				{"hot, validated", answeringBench(t, up, 64<<20, false, rules.Strict), nil, "hot"},
				{"warm", answeringBench(t, up, 0, false, rules.Exclusive), nil, "warm"},
				{"warm, validated", answeringBench(t, up, 0, false, rules.Strict), nil, "warm"},
				{"cold", answeringBench(t, up, 64<<20, false, rules.Exclusive), nil, "cold"},
			} {
				switch {
				case s.name == "cold":
					s.ready = purged(s.b)
				case s.ready == nil:
					fill := get(s.b)
					s.ready = func(path string) {
						if key := s.name + path; !first[key] {
							first[key] = true
							fill(path)
						}
					}
				}
				compare(s)
			}
		})
	}
}

// TestEndOfNothingPastTheCache: a read that only the upstream can answer gets no Content-Range that
// RFC 9110 has no form for either.
func TestEndOfNothingPastTheCache(t *testing.T) {
	up := upstreamKinds["the end of nothing is a part"]().Memory
	b := answeringBench(t, up, 64<<20, false, rules.Exclusive)
	up.Put(keyOf(back, "0"), nil)
	for _, header := range []http.Header{{"Range": {"bytes=-1"}, "Cache-Control": {"no-store"}}, {"Range": {"bytes=-1"}, "If-Range": {`"x"`}}, {"Range": {"bytes=-1"}, "Origin": {"http://a"}}} {
		if w := b.ask("root", "GET", "/back/0", "", header, ""); w.Code != 200 || w.Header().Get("Content-Range") != "" || sentHeader(w, "x-akigw-cache") != "bypass" {
			t.Errorf("%v: %d %v", header, w.Code, w.Header())
		}
	}
}
