package gateway

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/tiers/cold"
)

// TestRelocate: however a document comes, its Location and nothing else of it
// is replaced.
func TestRelocate(t *testing.T) {
	const address = "https://s3.example/bucket/a&b"
	for _, c := range []struct{ name, in, want string }{
		{"a result", "<?xml version=\"1.0\"?>\n<R><Location>http://10.0.0.1:7000/bucket/a%26b</Location><Bucket>bucket</Bucket></R>", "<?xml version=\"1.0\"?>\n<R><Location>https://s3.example/bucket/a&amp;b</Location><Bucket>bucket</Bucket></R>"},
		{"behind white space that keeps alive", strings.Repeat(" \n", 20_000) + "<R><Location>x</Location></R>", strings.Repeat(" \n", 20_000) + "<R><Location>https://s3.example/bucket/a&amp;b</Location></R>"},
		{"none", "<R><ETag>\"x\"</ETag></R>", "<R><ETag>\"x\"</ETag></R>"},
		{"none that is closed", "<R><Location/></R>", "<R><Location/></R>"},
		{"empty", "<R><Location></Location></R>", "<R><Location>https://s3.example/bucket/a&amp;b</Location></R>"},
		{"in text", "<R>Location&gt;x&lt;</R>", "<R>Location&gt;x&lt;</R>"},
		{"no document", "", ""},
		{"no tags", "Internal > Server", "Internal > Server"},
		{"a huge tag", "<" + strings.Repeat("a", 3*maxElement) + "><Location>x</Location>", "<" + strings.Repeat("a", 3*maxElement) + "><Location>https://s3.example/bucket/a&amp;b</Location>"},
	} {
		for reader, wrap := range map[string]func(io.Reader) io.Reader{
			"at once": func(r io.Reader) io.Reader { return r }, "byte by byte": iotest.OneByteReader, "with the end": iotest.DataErrReader,
		} {
			for _, length := range []int64{-1, int64(len(c.in))} {
				resp := &http.Response{Body: io.NopCloser(wrap(strings.NewReader(c.in))), ContentLength: length}
				if err := relocate(resp, address); err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(iotest.OneByteReader(resp.Body))
				if err != nil || string(got) != c.want || length >= 0 && resp.ContentLength != int64(len(got)) {
					t.Errorf("%s, %s: %v, length %d\n%.300q\nwant\n%.300q", c.name, reader, err, resp.ContentLength, got, c.want)
				}
			}
		}
	}
	for _, length := range []int64{-1, 100} {
		resp := &http.Response{Body: io.NopCloser(io.MultiReader(strings.NewReader("<R><Location>http://10.0"), iotest.ErrReader(io.ErrUnexpectedEOF))), ContentLength: length}
		err := relocate(resp, address)
		var got []byte
		if err == nil {
			got, err = io.ReadAll(resp.Body)
		}
		if !errors.Is(err, io.ErrUnexpectedEOF) || strings.Contains(string(got), "10.0") {
			t.Errorf("cut off: %q, %v", got, err)
		}
	}
}

// TestLocationOfACompletedUpload is the address that the client used.
//
// Scenarios: S31.
func TestLocationOfACompletedUpload(t *testing.T) {
	b := newBench(t, rootAlone, rootAlone)
	b.up.Before = func(*cold.Request) (*http.Response, error) {
		return s3mem.Response(200, nil, []byte("<CompleteMultipartUploadResult><Location>http://10.0.0.1:7000/bucket/k</Location></CompleteMultipartUploadResult>")), nil
	}
	w := b.ask("root", "POST", "/bucket/a b/ü", "uploadId=u", nil, "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>x</ETag></Part></CompleteMultipartUpload>")
	if got := w.Body.String(); w.Code != 200 || !strings.Contains(got, "/bucket/a%20b/%C3%BC</Location>") || !strings.Contains(got, "<Location>http://") || strings.Contains(got, "10.0.0.1") {
		t.Errorf("%d %s", w.Code, got)
	}
}
