package gateway

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
)

// TestListPartsOfAMovedUpload: parts keep their checksums in ListParts when the journal has no
// room for them and they are upstream.
func TestListPartsOfAMovedUpload(t *testing.T) {
	config := testBack
	config.MaxPendingBytes = 1 << 20
	b := backBenchWith(t, config)
	u := b.upload(t, "/back/k", http.Header{"X-Amz-Checksum-Algorithm": {"SHA256"}})
	for i := range 4 {
		body := strings.Repeat(string(rune('a'+i)), 400_000)
		sum := sha256.Sum256([]byte(body))
		u.mustPart(i+1, body, http.Header{"X-Amz-Checksum-Sha256": {base64.StdEncoding.EncodeToString(sum[:])}})
	}
	if b.up.Uploads() != 1 || b.up.Count("PUT") == 0 {
		t.Fatalf("%d uploads upstream with %d parts", b.up.Uploads(), b.up.Count("PUT"))
	}
	if w := u.ask("GET", "", nil, ""); strings.Count(w.Body.String(), "<Part>") != 4 || strings.Count(w.Body.String(), "<ChecksumSHA256>") != 4 {
		t.Errorf("ListParts: %d %s", w.Code, w.Body)
	}
}
