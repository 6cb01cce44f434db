package testkit

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
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

// The operations of Memory besides those on plain objects: copies, multipart uploads, listings.

func etagOf(body []byte) string {
	sum := md5.Sum(body)
	return `"` + hex.EncodeToString(sum[:]) + `"`
}

// etagOf returns the ETag that a body gets now.
func (m *Memory) etagOf(body []byte) string {
	if m.KMS.Load() {
		return etagOf(append([]byte("encrypted "), body...))
	}
	return etagOf(body)
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

func refuse(status int, code string) *http.Response {
	return Response(status, http.Header{"Content-Type": {"application/xml"}}, []byte("<Error><Code>"+code+"</Code></Error>"))
}

// copy implements CopyObject.
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

// memoryUpload is an open multipart upload.
type memoryUpload struct {
	key    akigw.Key
	header http.Header
	parts  map[int][]byte
	sums   map[int]string // of the parts, as elements of ListParts
}

// upload returns the upload that a request names, nil if there is none. The caller holds mu.
func (m *Memory) upload(r *cold.Request) *memoryUpload {
	if u := m.uploads[r.Query.Get("uploadId")]; u != nil && u.key == r.Key {
		return u
	}
	return nil
}

// Uploads returns the number of open multipart uploads.
func (m *Memory) Uploads() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.uploads)
}

func (m *Memory) part(r *cold.Request, body []byte) (*http.Response, error) {
	n, err := strconv.Atoi(r.Query.Get("partNumber"))
	m.mu.Lock()
	defer m.mu.Unlock()
	u := m.upload(r)
	if err != nil || u == nil {
		return refuse(http.StatusNotFound, "NoSuchUpload"), nil
	}
	u.parts[n], u.sums[n] = body, ""
	for name, values := range r.Header {
		if algorithm, ok := strings.CutPrefix(name, "X-Amz-Checksum-"); ok {
			u.sums[n] = fmt.Sprintf("<Checksum%[1]s>%[2]s</Checksum%[1]s>", strings.ToUpper(algorithm), values[0])
		}
	}
	return Response(http.StatusOK, http.Header{"Etag": {m.etagOf(body)}}, nil), nil
}

func (m *Memory) abort(r *cold.Request) (*http.Response, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.upload(r) == nil {
		return refuse(http.StatusNotFound, "NoSuchUpload"), nil
	}
	delete(m.uploads, r.Query.Get("uploadId"))
	return Response(http.StatusNoContent, nil, nil), nil
}

// listParts implements ListParts, in pages of 20.
func (m *Memory) listParts(r *cold.Request) (*http.Response, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	u := m.upload(r)
	if u == nil {
		return refuse(http.StatusNotFound, "NoSuchUpload"), nil
	}
	marker, _ := strconv.Atoi(r.Query.Get("part-number-marker")) // absent is 0
	var b bytes.Buffer
	b.WriteString("<ListPartsResult>")
	listed := 0
	for _, n := range slices.Sorted(maps.Keys(u.parts)) {
		if n <= marker {
			continue
		}
		if listed == 20 {
			fmt.Fprintf(&b, "<NextPartNumberMarker>%d</NextPartNumberMarker><IsTruncated>true</IsTruncated>", marker)
			break
		}
		fmt.Fprintf(&b, "<Part><PartNumber>%d</PartNumber><ETag>%s</ETag><Size>%d</Size>%s</Part>", n, m.etagOf(u.parts[n]), len(u.parts[n]), u.sums[n])
		listed, marker = listed+1, n
	}
	b.WriteString("</ListPartsResult>")
	return Response(http.StatusOK, nil, b.Bytes()), nil
}

// listUploads implements ListMultipartUploads, in the order of key and ID.
func (m *Memory) listUploads(r *cold.Request) (*http.Response, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	ids := slices.DeleteFunc(slices.Collect(maps.Keys(m.uploads)), func(id string) bool { return m.uploads[id].key.Bucket != r.Key.Bucket })
	slices.SortFunc(ids, func(a, b string) int { return strings.Compare(m.uploads[a].key.Name+a, m.uploads[b].key.Name+b) })
	most, err := strconv.Atoi(r.Query.Get("max-uploads"))
	if err != nil {
		most = 1000
	}
	marker, after := r.Query.Get("key-marker"), r.Query.Get("upload-id-marker")
	var b bytes.Buffer
	b.WriteString("<ListMultipartUploadsResult>")
	listed, last := 0, ""
	for _, id := range ids {
		name := m.uploads[id].key.Name
		if !strings.HasPrefix(name, r.Query.Get("prefix")) || name < marker || name == marker && marker != "" && (after == "" || id <= after) {
			continue
		}
		if listed == most {
			b.WriteString("<NextKeyMarker>" + m.uploads[last].key.Name + "</NextKeyMarker><NextUploadIdMarker>" + last + "</NextUploadIdMarker><IsTruncated>true</IsTruncated>")
			break
		}
		b.WriteString("<Upload><Key>")
		_ = xml.EscapeText(&b, []byte(name)) // a buffer does not fail
		b.WriteString("</Key><UploadId>" + id + "</UploadId></Upload>")
		listed, last = listed+1, id
	}
	b.WriteString("</ListMultipartUploadsResult>")
	return Response(http.StatusOK, nil, b.Bytes()), nil
}

// multipart implements CreateMultipartUpload and CompleteMultipartUpload.
func (m *Memory) multipart(r *cold.Request) (*http.Response, error) {
	if r.Query.Has("delete") {
		return m.deleteObjects(r)
	}
	m.mu.Lock()
	if r.Query.Has("uploads") {
		defer m.mu.Unlock()
		id := fmt.Sprintf("upload-%03d", m.counts["uploads"])
		m.counts["uploads"]++
		m.uploads[id] = &memoryUpload{r.Key, metadata(r.Header), map[int][]byte{}, map[int]string{}}
		return Response(http.StatusOK, nil, []byte("<InitiateMultipartUploadResult><UploadId>"+id+"</UploadId></InitiateMultipartUploadResult>")), nil
	}
	u := m.upload(r)
	parts := map[int][]byte{}
	if u != nil {
		maps.Copy(parts, u.parts)
	}
	m.mu.Unlock()
	var request struct {
		Part []struct {
			PartNumber int
			ETag       string
		}
	}
	switch {
	case u == nil:
		return refuse(http.StatusNotFound, "NoSuchUpload"), nil
	case xml.NewDecoder(r.Body).Decode(&request) != nil:
		return refuse(http.StatusBadRequest, "MalformedXML"), nil
	}
	var body []byte
	all := md5.New()
	for _, p := range request.Part {
		part, ok := parts[p.PartNumber]
		if !ok || strings.Trim(m.etagOf(part), `"`) != strings.Trim(p.ETag, `"`) {
			return refuse(http.StatusBadRequest, "InvalidPart"), nil
		}
		sum, err := hex.DecodeString(strings.Trim(m.etagOf(part), `"`))
		if err != nil {
			return nil, err
		}
		all.Write(sum)
		body = append(body, part...)
	}
	m.mu.Lock()
	delete(m.uploads, r.Query.Get("uploadId"))
	m.mu.Unlock()
	etag := fmt.Sprintf("\"%x-%d\"", all.Sum(nil), len(request.Part))
	m.PutStored(r.Key, Stored{Body: body, ETag: etag, Modified: m.now(), Header: u.header})
	return Response(http.StatusOK, nil, []byte("<CompleteMultipartUploadResult><ETag>"+etag+"</ETag></CompleteMultipartUploadResult>")), nil
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
