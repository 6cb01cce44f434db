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
		if strings.HasPrefix(name, "X-Amz-Meta-") {
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

// list is ListObjectsV2 by prefix, in one page.
func (m *Memory) list(r *cold.Request) (*http.Response, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var names []string
	for key := range m.objects {
		if key.Bucket == r.Key.Bucket && strings.HasPrefix(key.Name, r.Query.Get("prefix")) {
			names = append(names, key.Name)
		}
	}
	slices.Sort(names)
	var b bytes.Buffer
	b.WriteString("<ListBucketResult>")
	for _, name := range names {
		o := m.objects[akigw.Key{Bucket: r.Key.Bucket, Name: name}]
		b.WriteString("<Contents><Key>")
		_ = xml.EscapeText(&b, []byte(name)) // a buffer does not fail
		fmt.Fprintf(&b, "</Key><ETag>%s</ETag><Size>%d</Size></Contents>", o.ETag, len(o.Body))
	}
	b.WriteString("</ListBucketResult>")
	return Response(http.StatusOK, http.Header{"Content-Type": {"application/xml"}}, b.Bytes()), nil
}
