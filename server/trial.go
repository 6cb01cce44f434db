package server

import (
	"crypto/rand"
	"log/slog"
	"net/http"

	"github.com/akidb/akigw/internal/embedded"
	"github.com/akidb/akigw/internal/s3err"
	"github.com/akidb/akigw/sigv4"
)

// startTrialUpstream starts the embedded upstream if no other is configured, and sets the configuration
// to it. Only this process knows its key pair.
func startTrialUpstream(c *Config, log *slog.Logger, opened *closers) error {
	if c.Upstream.URL != "" {
		return nil
	}
	c.Upstream.AccessKey, c.Upstream.SecretKey = "EMBEDDED"+rand.Text()[:12], rand.Text()
	c.Upstream.Credentials = "static"
	c.Upstream.TrailingChecksums = true
	c.Upstream.Identity = "embedded" // its address differs at each start
	own := &sigv4.Verifier{Region: c.Upstream.Region, Keys: sigv4.StaticKeys{c.Upstream.AccessKey: c.Upstream.SecretKey}}
	upstream, err := embedded.Open(c.path("embedded"), func(r *http.Request) error { return verify(own, r) }, log)
	if err != nil {
		return err
	}
	opened.add(upstream.Close)
	c.Upstream.URL, err = upstream.Listen("127.0.0.1:0")
	return err
}

// verify verifies the signature of a request and arranges for its body to be verified as it is read.
func verify(v *sigv4.Verifier, r *http.Request) error {
	query, err := sigv4.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return s3err.InvalidURI
	}
	id, payload, err := v.Verify(r, r.URL.Path, query)
	if err == nil && id.Anonymous() {
		err = s3err.AccessDenied
	}
	if err == nil {
		payload.Plain(r)
	}
	return err
}
