package gateway

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/akidb/akigw"
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
	consent, err := askConsent(r.Context(), g.Upstream, c.key, header)
	if err != nil {
		return err
	}
	relayHeader(w.Header(), consent, http.StatusOK)
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(http.StatusOK)
	return nil
}

// askConsent asks the upstream whether it allows an origin what the header of a preflight says. It returns
// the upstream's header, or AccessForbidden.
func askConsent(ctx context.Context, upstream Upstream, key akigw.Key, header http.Header) (http.Header, error) {
	resp, err := upstream.Do(ctx, &cold.Request{Op: preflightOp, Method: http.MethodOptions, Key: key, Header: header})
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 || resp.Header.Get("Access-Control-Allow-Origin") == "" {
		return nil, s3err.AccessForbidden
	}
	return resp.Header, nil
}

// consentPatience is how long a form waits for the upstream's consent to its origin.
const consentPatience = 2 * time.Second

// share lets a page of another origin read the response to its form, if the upstream allows that. The
// upstream is asked as by a preflight, because the PutObject that it gets is not what the page sends. Without
// an answer the form is stored all the same, and the page cannot read the response.
func (g *formUploads) share(w *answer, c *call) {
	if _, host, _ := strings.Cut(c.form.origin, "://"); c.form.origin == "" || strings.EqualFold(host, c.Host) {
		return
	}
	ctx, cancel := context.WithTimeout(c.Context(), consentPatience)
	defer cancel()
	consent, err := askConsent(ctx, g.Upstream, akigw.Key{Bucket: c.key.Bucket}, http.Header{"Origin": {c.form.origin}, "Access-Control-Request-Method": {http.MethodPost}})
	if err != nil {
		return
	}
	for name, values := range consent {
		if name == "Vary" || strings.HasPrefix(name, "Access-Control-") {
			w.Header()[name] = values
		}
	}
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
