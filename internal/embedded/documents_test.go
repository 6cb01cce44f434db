package embedded

import (
	"encoding/xml"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/akidb/akigw/internal/s3xml"
)

// read parses a document as a client that accepts every character reference.
func read(t *testing.T, w *httptest.ResponseRecorder, v any) {
	t.Helper()
	if w.Code != 200 || strings.ContainsAny(w.Body.String(), "\x01\x02\x1f\r\uFFFD\uFFFE") {
		t.Errorf("%d: a bare or a replaced character in %q", w.Code, w.Body)
	}
	if err := s3xml.Unmarshal(w.Body.Bytes(), v); err != nil {
		t.Errorf("%v: %q", err, w.Body)
	}
}

// TestControlCharacters: every document can contain keys that XML 1.0 cannot hold.
func TestControlCharacters(t *testing.T) {
	s, do := open(t, t.TempDir())
	defer s.Close()
	do("PUT", "/bucket", nil, nil)
	keys := []string{"a\x01b", "c\rd", "e\x1f/f", "g\uFFFE", "h<&>"}
	path := func(key string) string { return "/bucket/" + strings.ReplaceAll(url.PathEscape(key), "%2F", "/") }
	var names, uploads []string
	for _, key := range keys {
		if w := do("PUT", path(key), nil, []byte("x")); w.Code != 200 {
			t.Fatal(w.Code, w.Body)
		}
		var begun struct{ Key, UploadId string }
		read(t, do("POST", path(key)+"?uploads", nil, nil), &begun)
		upload := "?uploadId=" + begun.UploadId
		part := do("PUT", path(key)+upload+"&partNumber=1", nil, []byte("x")).Header().Get("Etag")
		var parts, done struct{ Key string }
		read(t, do("GET", path(key)+upload, nil, nil), &parts)
		var open struct{ Upload []struct{ Key string } }
		read(t, do("GET", "/bucket?uploads", nil, nil), &open)
		uploads = append(uploads, open.Upload[0].Key)
		read(t, do("POST", path(key)+upload, nil, []byte("<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>"+part+"</ETag></Part></CompleteMultipartUpload>")), &done)
		if begun.Key != key || parts.Key != key || done.Key != key {
			t.Errorf("%q: %q, %q, %q", key, begun.Key, parts.Key, done.Key)
		}
	}
	var list struct {
		Prefix, Delimiter, Marker string
		Contents                  []struct{ Key string }
		CommonPrefixes            []struct{ Prefix string }
	}
	read(t, do("GET", "/bucket?delimiter=%1f&marker=%02", nil, nil), &list)
	for _, c := range list.Contents {
		names = append(names, c.Key)
	}
	if want := []string{"a\x01b", "c\rd", "g\uFFFE", "h<&>"}; !slices.Equal(names, want) || len(list.CommonPrefixes) != 1 || list.CommonPrefixes[0].Prefix != "e\x1f" || list.Delimiter != "\x1f" || list.Marker != "\x02" {
		t.Errorf("listed %q and %q, delimiter %q, marker %q", names, list.CommonPrefixes, list.Delimiter, list.Marker)
	}
	if !slices.Equal(uploads, keys) {
		t.Errorf("ListMultipartUploads names %q", uploads)
	}
	document := "<Delete>"
	for _, key := range keys {
		document += "<Object><Key>" + string(s3xml.AppendEscaped(nil, key)) + "</Key></Object>"
	}
	var deleted struct{ Deleted []struct{ Key string } }
	read(t, do("POST", "/bucket?delete", nil, []byte(document+"</Delete>")), &deleted)
	for i, o := range deleted.Deleted {
		if o.Key != keys[i] {
			t.Errorf("DeleteObjects names %q instead of %q", o.Key, keys[i])
		}
	}
	var rest struct{ Contents []struct{ Key string } }
	if read(t, do("GET", "/bucket", nil, nil), &rest); len(deleted.Deleted) != len(keys) || len(rest.Contents) > 0 {
		t.Errorf("%d deleted, %q left", len(deleted.Deleted), rest.Contents)
	}
}

// TestDeleteObjectsRefusals: a request that cannot be carried out exactly as asked changes nothing.
func TestDeleteObjectsRefusals(t *testing.T) {
	s, do := open(t, t.TempDir())
	defer s.Close()
	do("PUT", "/bucket", nil, nil)
	do("PUT", "/bucket/k", nil, []byte("x"))
	for document, want := range map[string]int{
		"<Delete></Delete>":                                                              400,
		"<Delete><Object><Key>k</Key></Object>":                                          400,
		"<Other><Object><Key>k</Key></Object></Other>":                                   400,
		"<Delete><Object><Key></Key></Object></Delete>":                                  400,
		"<Delete>" + strings.Repeat("<Object><Key>k</Key></Object>", 1001) + "</Delete>": 400,
	} {
		if w := do("POST", "/bucket?delete", nil, []byte(document)); w.Code != want {
			t.Errorf("%.80s: %d %s", document, w.Code, w.Body)
		}
	}
	for document, code := range map[string]string{
		"<Delete><Object><Key>k</Key><VersionId>v</VersionId></Object></Delete>": "NotImplemented",
		"<Delete><Object><Key>k</Key><ETag>e</ETag></Object></Delete>":           "PreconditionFailed",
	} {
		var answer struct{ Error struct{ Key, Code string } }
		if read(t, do("POST", "/bucket?delete", nil, []byte(document)), &answer); answer.Error.Key != "k" || answer.Error.Code != code {
			t.Errorf("%s: %+v", document, answer.Error)
		}
	}
	if w := do("GET", "/bucket/k", nil, nil); w.Code != 200 {
		t.Error("the object is gone")
	}
	if w := do("POST", "/bucket?delete", nil, []byte("<Delete><Quiet>true</Quiet><Object><Key>k</Key><VersionId>null</VersionId></Object></Delete>")); w.Code != 200 || strings.Contains(w.Body.String(), "Deleted") {
		t.Errorf("quietly: %d %s", w.Code, w.Body)
	}
	if w := do("POST", "/none?delete", nil, []byte("<Delete><Object><Key>k</Key></Object></Delete>")); w.Code != 404 {
		t.Errorf("absent bucket: %d", w.Code)
	}
}

// TestUploadListing: pages, prefixes and encoding of ListMultipartUploads.
func TestUploadListing(t *testing.T) {
	s, do := open(t, t.TempDir())
	defer s.Close()
	do("PUT", "/bucket", nil, nil)
	for _, key := range []string{"a%20b", "c/d", "c/e", "f"} {
		do("POST", "/bucket/"+key+"?uploads", nil, nil)
	}
	var list struct {
		EncodingType, NextKeyMarker, NextUploadIdMarker string
		IsTruncated                                     bool
		Upload                                          []struct{ Key string }
		CommonPrefixes                                  []struct{ Prefix string }
	}
	get := func(query string) {
		t.Helper()
		list.Upload, list.CommonPrefixes, list.IsTruncated = nil, nil, false
		if err := xml.Unmarshal(do("GET", "/bucket?uploads&"+query, nil, nil).Body.Bytes(), &list); err != nil {
			t.Fatal(err)
		}
	}
	if get("encoding-type=url&delimiter=/&prefix="); len(list.Upload) != 2 || list.Upload[0].Key != "a%20b" || list.EncodingType != "url" || len(list.CommonPrefixes) != 1 || list.CommonPrefixes[0].Prefix != "c/" {
		t.Errorf("%+v", list)
	}
	if get("max-uploads=1&prefix=c/"); len(list.Upload) != 1 || !list.IsTruncated || list.NextKeyMarker != "c/d" {
		t.Fatalf("%+v", list)
	}
	if get("prefix=c/&key-marker=c/d&upload-id-marker=" + list.NextUploadIdMarker); len(list.Upload) != 1 || list.Upload[0].Key != "c/e" {
		t.Errorf("%+v", list)
	}
	for _, query := range []string{"max-uploads=x", "max-uploads=-1", "encoding-type=other"} {
		if w := do("GET", "/bucket?uploads&"+query, nil, nil); w.Code != 400 {
			t.Errorf("%s: %d", query, w.Code)
		}
	}
	if w := do("GET", "/none?uploads", nil, nil); w.Code != 404 {
		t.Errorf("absent bucket: %d", w.Code)
	}
}
