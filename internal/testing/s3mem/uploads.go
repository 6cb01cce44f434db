package s3mem

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/akidb/akigw/tiers/cold"
)

func (m *Memory) part(r *cold.Request, body []byte) (*http.Response, error) {
	n, err := strconv.Atoi(r.Query.Get("partNumber"))
	m.mu.Lock()
	defer m.mu.Unlock()
	u := m.uploadLocked(r)
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
	if m.uploadLocked(r) == nil {
		return refuse(http.StatusNotFound, "NoSuchUpload"), nil
	}
	delete(m.uploads, r.Query.Get("uploadId"))
	return Response(http.StatusNoContent, nil, nil), nil
}

// listParts implements ListParts, in pages of 20.
func (m *Memory) listParts(r *cold.Request) (*http.Response, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	u := m.uploadLocked(r)
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
	u := m.uploadLocked(r)
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
	var sizes []int64
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
		body, sizes = append(body, part...), append(sizes, int64(len(part)))
	}
	m.mu.Lock()
	delete(m.uploads, r.Query.Get("uploadId"))
	m.mu.Unlock()
	etag := fmt.Sprintf("\"%x-%d\"", all.Sum(nil), len(request.Part))
	m.PutStored(r.Key, Stored{Body: body, ETag: etag, Modified: m.now(), Header: u.header, Parts: sizes})
	return Response(http.StatusOK, nil, []byte("<CompleteMultipartUploadResult><ETag>"+etag+"</ETag></CompleteMultipartUploadResult>")), nil
}
