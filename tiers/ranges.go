package tiers

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/tiers/cold"
)

// skip reads and discards n bytes of the body of a key.
func skip(body io.Reader, key akigw.Key, n int64) error {
	if _, err := io.CopyN(io.Discard, body, n); err != nil {
		return fmt.Errorf("%w: %s: %w", akigw.ErrShortBody, key, err)
	}
	return nil
}

// readHeader returns the headers of a GET. It always requests checksums: the body is verified with
// them, and clients may ask for them later.
func readHeader(byteRange, ifMatch string) http.Header {
	h := http.Header{"X-Amz-Checksum-Mode": {"ENABLED"}}
	if byteRange != "" {
		h.Set("Range", byteRange)
	}
	if ifMatch != "" {
		h.Set("If-Match", ifMatch)
	}
	return h
}

// alignedRange widens a range to whole blocks of size bytes; "" is the whole object. A suffix range
// is widened by one block, so that it contains a block boundary whatever the size of the object.
func alignedRange(spec akigw.RangeSpec, size int64) string {
	if spec.Whole() {
		return ""
	}
	if n, ok := spec.Suffix(); ok {
		if n > 1<<62 {
			return ""
		}
		return "bytes=-" + strconv.FormatInt(n+size, 10)
	}
	first, last := spec.Bounds()
	start := first - first%size
	if last < 0 || last > 1<<62 {
		return fmt.Sprintf("bytes=%d-", start)
	}
	return fmt.Sprintf("bytes=%d-%d", start, last-last%size+size-1)
}

// wholeBlocks returns the blocks that lie completely inside a received range.
func wholeBlocks(got akigw.Range, size, block int64) (first, end int64) {
	first = (got.Start + block - 1) / block
	end = got.End() / block
	if got.End() == size {
		end = (size + block - 1) / block
	}
	return first, max(first, end)
}

// answeredRange returns which bytes a 200 or 206 response carries, and the size of the object.
func answeredRange(resp *http.Response) (akigw.Range, int64, error) {
	if resp.ContentLength < 0 {
		return akigw.Range{}, 0, ErrUncacheable
	}
	if resp.StatusCode == http.StatusOK {
		return akigw.Range{Length: resp.ContentLength}, resp.ContentLength, nil
	}
	if cold.NoBytes(resp) {
		return akigw.Range{}, 0, nil
	}
	var first, last, size int64
	value := resp.Header.Get("Content-Range")
	if _, err := fmt.Sscanf(strings.TrimSpace(value), "bytes %d-%d/%d", &first, &last, &size); err != nil ||
		first < 0 || last < first || last >= size || last-first+1 != resp.ContentLength {
		return akigw.Range{}, 0, fmt.Errorf("%w: upstream answered with Content-Range %q and Content-Length %d", ErrUncacheable, value, resp.ContentLength)
	}
	return akigw.Range{Start: first, Length: last - first + 1}, size, nil
}
