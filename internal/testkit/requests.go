package testkit

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/tiers/cold"
)

// What Memory does besides plain objects: copies, multipart uploads, listings.

func etagOf(body []byte) string {
	sum := md5.Sum(body)
	return `"` + hex.EncodeToString(sum[:]) + `"`
}

// metadata is what is kept of the headers of a PUT.
func metadata(h http.Header) http.Header {
	kept := http.Header{}
	for name, values := range h {
		if strings.HasPrefix(name, "X-Amz-Meta-") || name == "Content-Type" {
			kept[name] = values
		}
	}
	return kept
}

func refuse(status int, code string) *http.Response {
	return Response(status, http.Header{"Content-Type": {"application/xml"}}, []byte("<Error><Code>"+code+"</Code></Error>"))
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
	if r.Header.Get("X-Amz-Metadata-Directive") == "REPLACE" {
		o.Header = metadata(r.Header)
	}
	o.Modified = m.now()
	m.PutStored(r.Key, o)
	return Response(http.StatusOK, nil, []byte("<CopyObjectResult><ETag>"+o.ETag+"</ETag></CopyObjectResult>")), nil
}

// part is UploadPart.
func (m *Memory) part(r *cold.Request, body []byte) (*http.Response, error) {
	n, err := strconv.Atoi(r.Query.Get("partNumber"))
	m.mu.Lock()
	defer m.mu.Unlock()
	parts := m.uploads[r.Query.Get("uploadId")]
	if err != nil || parts == nil {
		return refuse(http.StatusNotFound, "NoSuchUpload"), nil
	}
	parts[n] = body
	return Response(http.StatusOK, http.Header{"Etag": {etagOf(body)}}, nil), nil
}

// multipart is CreateMultipartUpload and CompleteMultipartUpload.
func (m *Memory) multipart(r *cold.Request) (*http.Response, error) {
	if r.Query.Has("delete") {
		return m.deleteObjects(r)
	}
	if r.Query.Has("uploads") {
		m.mu.Lock()
		defer m.mu.Unlock()
		id := "upload-" + strconv.Itoa(len(m.uploads)+m.counts["uploads"])
		m.counts["uploads"]++
		m.uploads[id] = map[int][]byte{}
		return Response(http.StatusOK, nil, []byte("<InitiateMultipartUploadResult><UploadId>"+id+"</UploadId></InitiateMultipartUploadResult>")), nil
	}
	id := r.Query.Get("uploadId")
	m.mu.Lock()
	parts := m.uploads[id]
	delete(m.uploads, id)
	m.mu.Unlock()
	if parts == nil {
		return refuse(http.StatusNotFound, "NoSuchUpload"), nil
	}
	var body []byte
	all := md5.New()
	for _, n := range slices.Sorted(maps.Keys(parts)) {
		sum := md5.Sum(parts[n])
		all.Write(sum[:])
		body = append(body, parts[n]...)
	}
	etag := fmt.Sprintf("\"%x-%d\"", all.Sum(nil), len(parts))
	m.PutStored(r.Key, Stored{Body: body, ETag: etag, Modified: m.now()})
	return Response(http.StatusOK, nil, []byte("<CompleteMultipartUploadResult><ETag>"+etag+"</ETag></CompleteMultipartUploadResult>")), nil
}

// deleteObjects is DeleteObjects.
func (m *Memory) deleteObjects(r *cold.Request) (*http.Response, error) {
	var request struct{ Object []struct{ Key string } }
	if err := xml.NewDecoder(r.Body).Decode(&request); err != nil {
		return refuse(http.StatusBadRequest, "MalformedXML"), nil
	}
	var b bytes.Buffer
	b.WriteString("<DeleteResult>")
	for _, o := range request.Object {
		m.Delete(akigw.Key{Bucket: r.Key.Bucket, Name: o.Key})
		b.WriteString("<Deleted><Key>")
		_ = xml.EscapeText(&b, []byte(o.Key)) // a buffer does not fail
		b.WriteString("</Key></Deleted>")
	}
	b.WriteString("</DeleteResult>")
	return Response(http.StatusOK, http.Header{"Content-Type": {"application/xml"}}, b.Bytes()), nil
}

// list is ListObjects and ListObjectsV2, with encoding-type=url or without, and
// without tokens.
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
		var b bytes.Buffer
		_ = xml.EscapeText(&b, []byte(s)) // a buffer does not fail
		return b.String()
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
		fmt.Fprintf(&contents, "<Contents><Key>%s</Key><ETag>%s</ETag><Size>%d</Size></Contents>", text(name), o.ETag, len(o.Body))
	}
	body := fmt.Sprintf("<ListBucketResult><EncodingType>%s</EncodingType><IsTruncated>%t</IsTruncated>%s%s</ListBucketResult>", q.Get("encoding-type"), truncated, contents.String(), prefixes.String())
	return Response(http.StatusOK, http.Header{"Content-Type": {"application/xml"}}, []byte(body)), nil
}
