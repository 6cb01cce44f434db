package s3mem

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/s3xml"
	"github.com/akidb/akigw/tiers/cold"
)

func (m *Memory) read(r *cold.Request) (*http.Response, error) {
	o, ok := m.Get(r.Key)
	if !ok {
		return Response(http.StatusNotFound, http.Header{"Content-Type": {"application/xml"}}, []byte("<Error><Code>NoSuchKey</Code></Error>")), nil
	}
	h := http.Header{"Etag": {o.ETag}, "Last-Modified": {o.Modified.UTC().Format(http.TimeFormat)}, "Accept-Ranges": {"bytes"}, "Content-Type": {"text/plain"}}
	for name, values := range o.Header {
		h[name] = values
	}
	if m.KMS.Load() {
		h.Set("X-Amz-Server-Side-Encryption", "aws:kms")
	}
	err := akigw.ConditionsOf(r.Header).Check(&akigw.Object{ETag: o.ETag, LastModified: o.Modified.Truncate(time.Second)})
	if errors.Is(err, akigw.ErrNotModified) {
		return Response(http.StatusNotModified, h, nil), nil
	} else if err != nil {
		return Response(http.StatusPreconditionFailed, nil, []byte("<Error><Code>PreconditionFailed</Code></Error>")), nil
	}
	if number := r.Query.Get("partNumber"); number != "" {
		return o.answerPart(r.Method, number, h), nil
	}
	spec := akigw.ParseRange(r.Header.Get("Range"))
	rng, err := spec.Resolve(int64(len(o.Body)))
	if err != nil {
		return Response(http.StatusRequestedRangeNotSatisfiable, nil, []byte("<Error><Code>InvalidRange</Code></Error>")), nil
	}
	status := http.StatusOK
	if spec.Partial(int64(len(o.Body))) {
		status = http.StatusPartialContent
		h.Set("Content-Range", rng.ContentRange(int64(len(o.Body))))
	}
	return o.answer(r.Method, status, h, rng), nil
}

// answer returns the response to a read of a range.
func (o *Stored) answer(method string, status int, h http.Header, rng akigw.Range) *http.Response {
	resp := Response(status, h, o.Body[rng.Start:rng.End()])
	if method == http.MethodHead {
		resp.Body = http.NoBody
	}
	return resp
}

// answerPart returns the response to a read by part number.
func (o *Stored) answerPart(method, number string, h http.Header) *http.Response {
	rng, ok := o.part(number)
	if !ok {
		return refuse(http.StatusRequestedRangeNotSatisfiable, "InvalidPartNumber")
	}
	if o.Parts != nil {
		h.Set("X-Amz-Mp-Parts-Count", strconv.Itoa(len(o.Parts)))
	}
	status := http.StatusOK
	if len(o.Body) > 0 {
		status = http.StatusPartialContent
		h.Set("Content-Range", rng.ContentRange(int64(len(o.Body))))
	}
	return o.answer(method, status, h, rng)
}

// putIf stores an object under the conditions of a PutObject. If a condition fails, it returns the
// error response.
func (m *Memory) putIf(r *cold.Request, o Stored) *http.Response {
	m.mu.Lock()
	defer m.mu.Unlock()
	now, there := m.objects[r.Key]
	match := r.Header.Get("If-Match")
	switch {
	case match != "" && !there:
		return Response(http.StatusNotFound, nil, []byte("<Error><Code>NoSuchKey</Code></Error>"))
	case match != "" && match != now.ETag, r.Header.Get("If-None-Match") == "*" && there:
		return Response(http.StatusPreconditionFailed, nil, []byte("<Error><Code>PreconditionFailed</Code></Error>"))
	}
	m.putLocked(r.Key, o)
	return nil
}

// metadata returns the headers of a PUT that are stored with the object.
func metadata(h http.Header) http.Header {
	kept := http.Header{}
	for name, values := range h {
		if strings.HasPrefix(name, "X-Amz-Meta-") || name == "Content-Type" || name == "Cache-Control" {
			kept[name] = values
		}
	}
	return kept
}

// copy is CopyObject.
func (m *Memory) copy(r *cold.Request) (*http.Response, error) {
	path, err := url.PathUnescape(r.Header.Get("X-Amz-Copy-Source"))
	if err != nil {
		return refuse(http.StatusBadRequest, "InvalidArgument"), nil
	}
	bucket, name, _ := strings.Cut(path, "/")
	o, ok := m.Get(akigw.Key{Bucket: bucket, Name: name})
	if !ok {
		return refuse(http.StatusNotFound, "NoSuchKey"), nil
	}
	conditions := akigw.Conditions{IfMatch: r.Header.Get("X-Amz-Copy-Source-If-Match"), IfNoneMatch: r.Header.Get("X-Amz-Copy-Source-If-None-Match"),
		IfModifiedSince: r.Header.Get("X-Amz-Copy-Source-If-Modified-Since"), IfUnmodifiedSince: r.Header.Get("X-Amz-Copy-Source-If-Unmodified-Since")}
	if conditions.Check(&akigw.Object{ETag: o.ETag, LastModified: o.Modified.Truncate(time.Second)}) != nil {
		return refuse(http.StatusPreconditionFailed, "PreconditionFailed"), nil
	}
	if r.Header.Get("X-Amz-Metadata-Directive") == "REPLACE" {
		o.Header = metadata(r.Header)
	}
	o.Modified = m.now()
	m.PutStored(r.Key, o)
	return Response(http.StatusOK, nil, []byte("<CopyObjectResult><ETag>"+o.ETag+"</ETag></CopyObjectResult>")), nil
}

// deleteObjects implements DeleteObjects.
func (m *Memory) deleteObjects(r *cold.Request) (*http.Response, error) {
	var request struct{ Object []struct{ Key string } }
	document, err := io.ReadAll(r.Body)
	if err == nil {
		err = s3xml.UnmarshalStrict(document, "Delete", &request)
	}
	if err != nil {
		return refuse(http.StatusBadRequest, "MalformedXML"), nil
	}
	var b bytes.Buffer
	b.WriteString("<DeleteResult>")
	for _, o := range request.Object {
		m.Delete(akigw.Key{Bucket: r.Key.Bucket, Name: o.Key})
		b.WriteString("<Deleted>")
		s3xml.WriteElement(&b, "Key", o.Key)
		b.WriteString("</Deleted>")
	}
	b.WriteString("</DeleteResult>")
	return Response(http.StatusOK, http.Header{"Content-Type": {"application/xml"}}, b.Bytes()), nil
}

// list implements ListObjects and ListObjectsV2, with or without encoding-type=url, and without
// tokens.
func (m *Memory) list(r *cold.Request) (*http.Response, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	q := r.Query
	prefix, delimiter, after, max := q.Get("prefix"), q.Get("delimiter"), q.Get("start-after")+q.Get("marker"), 1000
	if n, err := strconv.Atoi(q.Get("max-keys")); err == nil {
		max = min(n, max)
	}
	var names []string
	for key := range m.objects {
		if key.Bucket == r.Key.Bucket && strings.HasPrefix(key.Name, prefix) && key.Name > after {
			names = append(names, key.Name)
		}
	}
	slices.Sort(names)
	text := func(s string) string {
		if q.Get("encoding-type") == "url" {
			return url.QueryEscape(s)
		}
		return string(s3xml.AppendEscaped(nil, s))
	}
	var contents, prefixes bytes.Buffer
	n, last, truncated := 0, "", false
	for _, name := range names {
		common := ""
		if i := strings.Index(name[len(prefix):], delimiter); delimiter != "" && i >= 0 {
			common = name[:len(prefix)+i+len(delimiter)]
		}
		if common != "" && common == last {
			continue
		}
		if truncated = n == max; truncated {
			break
		}
		n, last = n+1, common
		if common != "" {
			fmt.Fprintf(&prefixes, "<CommonPrefixes><Prefix>%s</Prefix></CommonPrefixes>", text(common))
			continue
		}
		o := m.objects[akigw.Key{Bucket: r.Key.Bucket, Name: name}]
		element, version := "Contents", ""
		if q.Has("versions") {
			element, version = "Version", "<VersionId>null</VersionId><IsLatest>true</IsLatest>"
		}
		fmt.Fprintf(&contents, "<%s><Key>%s</Key>%s<LastModified>%s</LastModified><ETag>%s</ETag><Size>%d</Size></%s>", element, text(name), version, o.Modified.UTC().Format("2006-01-02T15:04:05.000Z"), o.ETag, len(o.Body), element)
	}
	root := "ListBucketResult"
	if q.Has("versions") {
		root = "ListVersionsResult"
	}
	body := fmt.Sprintf("<%s><EncodingType>%s</EncodingType><IsTruncated>%t</IsTruncated>%s%s</%s>", root, q.Get("encoding-type"), truncated, contents.String(), prefixes.String(), root)
	return Response(http.StatusOK, http.Header{"Content-Type": {"application/xml"}}, []byte(body)), nil
}

// Response returns a response with the given status, headers and body.
func Response(status int, h http.Header, body []byte) *http.Response {
	if h == nil {
		h = http.Header{}
	}
	return &http.Response{StatusCode: status, Header: h, ContentLength: int64(len(body)), Body: io.NopCloser(bytes.NewReader(body))}
}

func refuse(status int, code string) *http.Response {
	return Response(status, http.Header{"Content-Type": {"application/xml"}}, []byte("<Error><Code>"+code+"</Code></Error>"))
}
