package gateway

import (
	"crypto/md5"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/akidb/akigw/internal/s3xml"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/tiers/cold"
)

// controlKeys are keys that XML 1.0 cannot hold, or holds as references only.
var controlKeys = []string{"a\x01b", "a\rb", "a\nb", "a\tb", "d\x02/e\x03", "f\x1f\uFFFE", "g\uFFFF", "h&<>\"'"}

func references(key string) string { return string(s3xml.AppendEscaped(nil, key)) }

// documentOf reads an answer as a client would that accepts every reference.
func documentOf(t *testing.T, body []byte, v any) {
	t.Helper()
	if strings.ContainsAny(string(body), "\x01\x02\x03\x1f\r\uFFFD\uFFFE\uFFFF") {
		t.Errorf("a bare or a replaced character in %q", body)
	}
	if err := s3xml.Unmarshal(body, v); err != nil {
		t.Errorf("%v: %q", err, body)
	}
}

// TestControlCharactersInMergedListings: keys, common prefixes, and what was asked for are told
// as they are, with and without encoding-type, whether they are pending or upstream.
func TestControlCharactersInMergedListings(t *testing.T) {
	for _, encoding := range []string{"", "url"} {
		for _, version := range []string{"1", "2"} {
			b := backBench(t)
			b.teach(t, "x\x01y")
			for i, key := range controlKeys {
				if i%2 == 0 {
					b.up.Put(backKey(key), []byte("x"))
				} else if w := b.ask("root", "PUT", "/back/"+key, "", nil, "x"); w.Code != 200 || sentHeader(w, "x-akigw-commit") != "journal" {
					t.Fatalf("PUT %q: %d %s", key, w.Code, w.Body)
				}
			}
			decode := func(s string) string { return decodedName(s, encoding) }
			for _, c := range []struct {
				prefix, delimiter, after string
				want                     []string
			}{
				{"", "", "", controlKeys},
				{"d\x02", "/", "", []string{"d\x02/"}},
				{"", "\x03", "a\x01b", []string{"a\tb", "a\nb", "a\rb", "d\x02/e\x03", "f\x1f\uFFFE", "g\uFFFF", "h&<>\"'"}},
			} {
				query := url.Values{"prefix": {c.prefix}, "delimiter": {c.delimiter}, "encoding-type": {encoding}}
				marker := "marker"
				if version == "2" {
					marker = "start-after"
					query.Set("list-type", "2")
				}
				query.Set(marker, c.after)
				w := b.ask("root", "GET", "/back", query.Encode(), nil, "")
				var got struct {
					Prefix, Delimiter, Marker, StartAfter string
					listing
				}
				documentOf(t, w.Body.Bytes(), &got)
				var names []string
				for _, o := range got.Contents {
					names = append(names, decode(o.Key))
				}
				for _, p := range got.CommonPrefixes {
					names = append(names, decode(p.Prefix))
				}
				slices.Sort(names)
				if want := slices.Sorted(slices.Values(c.want)); !slices.Equal(names, want) {
					t.Errorf("version %s, encoding %q, %q: %q, want %q", version, encoding, query, names, want)
				}
				if decode(got.Prefix) != c.prefix || decode(got.Delimiter) != c.delimiter || decode(got.Marker+got.StartAfter) != c.after {
					t.Errorf("version %s, encoding %q: %q is answered with prefix %q, delimiter %q, marker %q", version, encoding, query, got.Prefix, got.Delimiter, got.Marker+got.StartAfter)
				}
			}
		}
	}
}

// TestControlCharactersFromAnUpstream: an upstream that ignores encoding-type may send references,
// or the characters themselves.
func TestControlCharactersFromAnUpstream(t *testing.T) {
	b := backBench(t)
	b.teach(t, "x\x01y")
	b.up.Before = func(r *cold.Request) (*http.Response, error) {
		switch r.Op {
		case "ListObjectsV2":
			return s3mem.Response(200, nil, []byte("<ListBucketResult><Contents><Key>a&#x1;b</Key><Owner><ID>o&#2;</ID></Owner></Contents><Contents><Key>c\x02d</Key></Contents><CommonPrefixes><Prefix>e&#31;/</Prefix></CommonPrefixes></ListBucketResult>")), nil
		case "ListMultipartUploads":
			return s3mem.Response(200, nil, []byte("<ListMultipartUploadsResult><Upload><Key>a&#x1;b</Key><UploadId>u</UploadId><Owner><ID>o&#2;</ID></Owner></Upload></ListMultipartUploadsResult>")), nil
		}
		return nil, nil
	}
	body := b.ask("root", "GET", "/back", "list-type=2", nil, "").Body
	for _, want := range []string{"<Key>a&#x1;b</Key><Owner><ID>o&#x2;</ID></Owner>", "<Key>c&#x2;d</Key>", "<Prefix>e&#x1F;/</Prefix>"} {
		if !strings.Contains(body.String(), want) {
			t.Errorf("no %s in %q", want, body)
		}
	}
	if w := b.ask("root", "POST", "/back/mine\x01", "uploads", nil, ""); w.Code != 200 {
		t.Fatal(w.Code, w.Body)
	}
	body = b.ask("root", "GET", "/back", "uploads&prefix=%01&delimiter=%02&key-marker=%03", nil, "").Body
	for _, want := range []string{"<Prefix>&#x1;</Prefix>", "<Delimiter>&#x2;</Delimiter>", "<KeyMarker>&#x3;</KeyMarker>", "<Key>a&#x1;b</Key>", "<ID>o&#x2;</ID>"} {
		if !strings.Contains(body.String(), want) {
			t.Errorf("no %s in %q", want, body)
		}
	}
}

// TestControlCharactersInMultipartUploads: every document of an upload in the journal names its
// key.
func TestControlCharactersInMultipartUploads(t *testing.T) {
	b := backBench(t)
	b.teach(t, "x\x01y")
	for _, key := range controlKeys {
		path := "/back/" + key
		var begun struct{ Key, UploadId string }
		documentOf(t, b.ask("root", "POST", path, "uploads", nil, "").Body.Bytes(), &begun)
		if begun.Key != key {
			t.Errorf("CreateMultipartUpload of %q names %q", key, begun.Key)
		}
		upload := "uploadId=" + url.QueryEscape(begun.UploadId)
		part := b.ask("root", "PUT", path, upload+"&partNumber=1", nil, "part")
		var parts, uploads, done struct {
			Key    string
			Upload []struct{ Key string }
		}
		documentOf(t, b.ask("root", "GET", path, upload, nil, "").Body.Bytes(), &parts)
		documentOf(t, b.ask("root", "GET", "/back", "uploads", nil, "").Body.Bytes(), &uploads)
		w := b.ask("root", "POST", path, upload, nil, "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>"+tagOf(part)+"</ETag></Part></CompleteMultipartUpload>")
		documentOf(t, w.Body.Bytes(), &done)
		if parts.Key != key || len(uploads.Upload) != 1 || uploads.Upload[0].Key != key || done.Key != key {
			t.Errorf("%q: ListParts names %q, ListMultipartUploads %q, CompleteMultipartUpload %q", key, parts.Key, uploads.Upload, done.Key)
		}
	}
}

// TestControlCharactersInDeleteObjects: references name keys, in the journal and through. A
// bare control character is malformed, as it is for S3.
func TestControlCharactersInDeleteObjects(t *testing.T) {
	for _, bucket := range []string{"back", "strict"} {
		b := backBench(t)
		b.teach(t, "x\x01y")
		document := "<Delete>"
		for _, key := range controlKeys {
			b.up.Put(keyOf(bucket, key), []byte("x"))
			document += "<Object><Key>" + references(key) + "</Key></Object>"
		}
		document += "</Delete>"
		ask := func(document string) (int, []string) {
			sum := md5.Sum([]byte(document))
			w := b.ask("root", "POST", "/"+bucket, "delete", http.Header{"Content-Md5": {base64.StdEncoding.EncodeToString(sum[:])}}, document)
			var got struct{ Deleted []struct{ Key string } }
			documentOf(t, w.Body.Bytes(), &got)
			var names []string
			for _, o := range got.Deleted {
				names = append(names, o.Key)
			}
			return w.Code, names
		}
		if code, names := ask(document); code != 200 || !slices.Equal(names, controlKeys) {
			t.Errorf("%s: %d %q", bucket, code, names)
		}
		if bucket == "back" {
			b.runPool(t)
			if err := b.writes.DrainBucket(t.Context(), "back"); err != nil {
				t.Error(err)
			}
		}
		if b.up.Len() != 0 {
			t.Errorf("%s: %d objects are left upstream", bucket, b.up.Len())
		}
		for _, malformed := range []string{"a\x01", "a&#0;", "a\uFFFE"} {
			if code, _ := ask("<Delete><Object><Key>" + malformed + "</Key></Object></Delete>"); code != 400 {
				t.Errorf("%s: %q: %d", bucket, malformed, code)
			}
		}
	}
}

// TestControlCharactersInErrors: an error names the key or the argument that it is about.
func TestControlCharactersInErrors(t *testing.T) {
	b := backBench(t)
	b.teach(t, "x\x01y")
	if w := b.ask("root", "DELETE", "/back/a\x01b", "", nil, ""); w.Code != 204 {
		t.Fatal(w.Code)
	}
	for _, c := range []struct{ method, path, query, want string }{
		{"GET", "/back/a\x01b", "", "<Key>a&#x1;b</Key>"},
		{"GET", "/back", "encoding-type=%01", "<ArgumentValue>&#x1;</ArgumentValue>"},
	} {
		w := b.ask("root", c.method, c.path, c.query, nil, "")
		var e struct{ Code string }
		documentOf(t, w.Body.Bytes(), &e)
		if w.Code < 400 || e.Code == "" || !strings.Contains(w.Body.String(), c.want) {
			t.Errorf("%s %q: %d %q", c.method, c.path, w.Code, w.Body)
		}
	}
}
