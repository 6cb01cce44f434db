package e2e

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/akidb/akigw/internal/testing/s3client"
	"github.com/akidb/akigw/internal/testing/testkit"
)

// TestUploadIsCached: 256 MiB are uploaded in parts, four at a time, and read whole, by a range and by a
// part's number. None of it is fetched from the upstream, which is at most asked whether it is current.
func TestUploadIsCached(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, rule string
		heads      int // most validations for three reads
	}{
		{"exclusive", `freshness = "exclusive"`, 2}, // for the headers, and for the part
		{"strict", `freshness = "strict"`, 4},
		{"written-back", `freshness = "exclusive"` + "\nwrite = \"back\"", 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := startGateway(t, options{plain: true, config: "[cache]\nhot_bytes = \"64MiB\"\nwarm_bytes = \"1GiB\"\n[[rule]]\n" + c.rule + "\n"})
			b := newBucket(t, g, "collection")
			const parts, size = 32, 8 << 20
			uploadInParts(t, b, "k", parts, size)
			for deadline := time.Now().Add(time.Minute); g.status().Pending > 0; time.Sleep(50 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("not flushed: %+v", g.status())
				}
			}
			heads := func() int { return int(g.metric("akigw_cold_requests_total", `op="HeadObject"`)) }
			before := heads()
			wantParts(t, b, "k", parts, size)
			from := 5*size - 1000
			if a := b.client.Must(t, "GET", "/collection/k", "", http.Header{"Range": {fmt.Sprintf("bytes=%d-%d", from, from+1_999_999)}}, nil); a.Status != 206 ||
				!bytes.Equal(a.Body[1000:], partContent(6, size)[:1_999_000]) || !bytes.Equal(a.Body[:1000], partContent(5, size)[size-1000:]) {
				t.Errorf("range: %d, %d bytes", a.Status, len(a.Body))
			}
			if a := b.client.Must(t, "GET", "/collection/k", "partNumber=7", nil, nil); a.Status != 206 || !bytes.Equal(a.Body, partContent(7, size)) {
				t.Errorf("part 7: %d, %d bytes", a.Status, len(a.Body))
			}
			if n := g.objectGets(); n > 0 {
				t.Errorf("%d object GETs reached the upstream", n)
			}
			if n := heads() - before; n > c.heads {
				t.Errorf("%d validations reached the upstream", n)
			}
		})
	}
}

// partContent is the content of a part.
func partContent(number, size int) []byte { return testkit.Bytes(uint64(number), size) }

// uploadInParts uploads an object in parts of one size, four at a time.
func uploadInParts(t *testing.T, b *bucketOf, key string, parts, size int) {
	t.Helper()
	path := "/" + b.name + "/" + key
	var begun struct {
		UploadID string `xml:"UploadId"`
	}
	if a := b.client.Must(t, "POST", path, "uploads=", nil, nil); a.Status != 200 || xml.Unmarshal(a.Body, &begun) != nil {
		t.Fatalf("CreateMultipartUpload: %d %s", a.Status, a.Body)
	}
	tags, slots := make([]string, parts), make(chan bool, 4)
	var wait sync.WaitGroup
	for i := range parts {
		slots <- true
		wait.Go(func() {
			defer func() { <-slots }()
			r, err := b.client.Request("PUT", path, fmt.Sprintf("partNumber=%d&uploadId=%s", i+1, begun.UploadID), nil, partContent(i+1, size))
			var a *s3client.Answer
			if err == nil {
				a, err = b.client.Do(r)
			}
			if err != nil || a.Status != 200 {
				t.Errorf("part %d: %v %v", i+1, a, err)
				return
			}
			tags[i] = a.Header.Get("Etag")
		})
	}
	wait.Wait()
	var list strings.Builder
	for i, tag := range tags {
		fmt.Fprintf(&list, "<Part><PartNumber>%d</PartNumber><ETag>%s</ETag></Part>", i+1, tag)
	}
	if a := b.client.Must(t, "POST", path, "uploadId="+begun.UploadID, nil, []byte("<CompleteMultipartUpload>"+list.String()+"</CompleteMultipartUpload>")); a.Status != 200 || !bytes.Contains(a.Body, []byte("<ETag>")) {
		t.Fatalf("CompleteMultipartUpload: %d %s", a.Status, a.Body)
	}
}

// wantParts reads an object whole and compares it part by part.
func wantParts(t *testing.T, b *bucketOf, key string, parts, size int) {
	t.Helper()
	r, err := b.client.Request("GET", "/"+b.name+"/"+key, "", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 || resp.ContentLength != int64(parts*size) {
		t.Fatalf("GET: %d, %d bytes", resp.StatusCode, resp.ContentLength)
	}
	got := make([]byte, size)
	for i := range parts {
		if _, err := io.ReadFull(resp.Body, got); err != nil || !bytes.Equal(got, partContent(i+1, size)) {
			t.Fatalf("part %d: other bytes, or %v", i+1, err)
		}
	}
}
