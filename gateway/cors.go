package gateway

import (
	"net/http"
	"slices"
	"strings"

	"github.com/akidb/akigw/gateway/httpguard"
	"github.com/akidb/akigw/internal/s3err"
	"github.com/akidb/akigw/tiers/cold"
)

// preflights answers CORS preflights ("OPTIONS object").
type preflights struct {
	Upstream Upstream
	domains  []string
}

// answer asks the upstream whether it allows a browser's origin. Browsers send no credentials with
// a preflight, so it is the only request that is not verified. Only the bucket, the key and the
// browser's question go upstream, and only a consent is passed back: a refusal does not reveal
// whether the bucket exists.
func (g *preflights) answer(w *answer, r *http.Request) error {
	c, err := parse(r, g.domains)
	if err != nil {
		return err
	}
	header := http.Header{}
	for _, name := range [...]string{"Origin", "Access-Control-Request-Method", "Access-Control-Request-Headers"} { // Fetch standard, "CORS-preflight request"
		if values := r.Header[name]; len(values) > 0 {
			header[name] = values[:1]
		}
	}
	if c.level() == ServiceLevel || header.Get("Origin") == "" || r.ContentLength != 0 {
		return s3err.BadRequest
	}
	if err := checkPreflight(header); err != nil {
		return err
	}
	resp, err := g.Upstream.Do(r.Context(), &cold.Request{Op: preflightOp, Method: http.MethodOptions, Key: c.key, Header: header})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 || resp.Header.Get("Access-Control-Allow-Origin") == "" {
		return s3err.AccessForbidden
	}
	relayHeader(w.Header(), resp.Header, resp.StatusCode)
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(http.StatusOK)
	return nil
}

const preflightOp = "OptionsObject"

// checkPreflight refuses values that cannot be a method or header of an S3 request, whatever the
// bucket.
func checkPreflight(header http.Header) error {
	bad := func(message string) error {
		return s3err.BadRequest.With(message)
	}
	if method := header.Get("Access-Control-Request-Method"); !slices.Contains(methods(), method) {
		return bad("Invalid Access-Control-Request-Method: " + method)
	}
	for name := range strings.SplitSeq(header.Get("Access-Control-Request-Headers"), ",") {
		if trimmed := strings.Trim(name, " "); trimmed != "" && !httpguard.Token(trimmed) {
			return bad(`Access-Control-Request-Headers "` + name + `" contains invalid character.`)
		}
	}
	return nil
}
