package sigv4

import (
	"io"
	"net/http"
	"testing"

	"github.com/akidb/akigw/internal/s3err"
)

// TestFraming: errors in the aws-chunked framing are reported as S3 reports them, and no data after
// an error is released.
//
// Scenarios: S18.
func TestFraming(t *testing.T) {
	const trailer, short = "x-amz-checksum-crc32:AAAAAA==\r\n", "The request body terminated unexpectedly"
	for _, c := range []struct {
		name, announced, body string
		code, message         string // empty: no error
	}{
		{"whole", "x-amz-checksum-crc32", "5\r\nhello\r\n0\r\n" + trailer + "\r\n", "", ""},
		{"several chunks", "x-amz-checksum-crc32", "1\r\nh\r\n4\r\nello\r\n0\r\n" + trailer + "\r\n", "", ""},
		{"no trailer announced", "", "5\r\nhello\r\n0\r\n\r\n", "", ""},
		{"no last line", "", "5\r\nhello\r\n0\r\n", "IncompleteBody", short},
		{"no line behind the trailer", "x-amz-checksum-crc32", "5\r\nhello\r\n0\r\n" + trailer, "IncompleteBody", short},
		{"a size that is no number", "", "z\r\nhello\r\n0\r\n\r\n", "IncompleteBody", short},
		{"a size that is too small", "", "4\r\nhello\r\n0\r\n\r\n", "IncompleteBody", short},
		{"a signature that was not announced", "", "5;chunk-signature=" + emptySHA256 + "\r\nhello\r\n0\r\n\r\n", "IncompleteBody", short},
		{"line feeds alone", "", "5\nhello\n0\n\n", "IncompleteBody", short},
		{"more than announced", "", "6\r\nhello!\r\n0\r\n\r\n", "IncompleteBody", "You did not provide the number of bytes specified by the Content-Length HTTP header"},
		{"less than announced", "", "4\r\nhell\r\n0\r\n\r\n", "IncompleteBody", "You did not provide the number of bytes specified by the Content-Length HTTP header"},
		{"no trailer", "x-amz-checksum-crc32", "5\r\nhello\r\n0\r\n\r\n", "MalformedTrailerError", ""},
		{"another trailer", "x-amz-checksum-sha1", "5\r\nhello\r\n0\r\n" + trailer + "\r\n", "MalformedTrailerError", ""},
		{"a trailer that was not announced", "", "5\r\nhello\r\n0\r\n" + trailer + "\r\n", "MalformedTrailerError", ""},
		{"a trailer twice", "x-amz-checksum-crc32", "5\r\nhello\r\n0\r\n" + trailer + trailer + "\r\n", "MalformedTrailerError", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := http.Header{"X-Amz-Decoded-Content-Length": {"5"}}
			if c.announced != "" {
				h.Set("X-Amz-Trailer", c.announced)
			}
			_, payload, err := verify(verifier(), signed(t, "PUT", "/bucket/key", "", h, []byte(c.body), unsignedTrailer))
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(payload)
			switch {
			case c.code == "" && (err != nil || string(got) != "hello"):
				t.Errorf("%q, %v", got, err)
			case c.code != "" && c.message == "":
				c.message = s3err.MalformedTrailer.Err().Message
				fallthrough
			case c.code != "":
				expectMessage(t, err, c.code, c.message)
			}
		})
	}
	t.Run("signed, no trailer announced", func(t *testing.T) {
		_, _, err := verify(verifier(), signed(t, "PUT", "/bucket/key", "", http.Header{"X-Amz-Decoded-Content-Length": {"5"}}, nil, streamingTrailer))
		expectMessage(t, err, "MalformedTrailerError", s3err.MalformedTrailer.Err().Message)
	})
}
