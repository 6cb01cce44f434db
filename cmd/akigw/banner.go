package main

import (
	"fmt"
	"io"
	"path/filepath"

	"github.com/akidb/akigw/server"
)

// banner prints the gateway's addresses and settings and how to use it. It ends with the line
// "ready", which scripts wait for.
func banner(w io.Writer, c *server.Config, s *server.Server) {
	scheme := "http"
	if c.Gateway.TLSCert != "" {
		scheme = "https"
	}
	endpoint := scheme + "://" + s.Addr().String()
	fmt.Fprintf(w, "akigw %s\n", version)
	fmt.Fprintf(w, "  S3 endpoint  %s   (region %s)\n", endpoint, c.Gateway.Region)
	upstream := c.Upstream.URL
	if upstream == "" {
		upstream = "embedded, for trials only: gofakes3 over " + filepath.Join(c.Process.Data, "embedded")
	}
	fmt.Fprintf(w, "  upstream     %s   (freshness %s)\n", upstream, c.Cache.Freshness)
	if c.Cache.Shadow.On() {
		fmt.Fprintf(w, "  SHADOW       %s: every request goes to the upstream; what the cache would save: akigw shadow report\n", c.Cache.Shadow)
	}
	fmt.Fprintf(w, "  admin        http://%s/metrics\n", s.AdminAddr())
	fmt.Fprintf(w, "  console      http://%s/\n", s.AdminAddr())
	trial := s.Trial()
	if trial != nil && trial.Admin != nil {
		fmt.Fprintf(w, "  log in with  %s   %s\n", trial.Admin.AccessKey, trial.Admin.SecretKey)
	}
	fmt.Fprintf(w, "  data         %s\n", c.Process.Data)
	if c.Faults.Enable {
		fmt.Fprintf(w, "  FAULTS       enabled: faults can be injected into the upstream and the disk (akigw faults); not for production\n")
	}
	if trial != nil {
		access, secret := trial.Root.AccessKey, trial.Root.SecretKey
		fmt.Fprintf(w, "  access key   %s\n  secret key   %s\n", access, secret)
		fmt.Fprintf(w, "\nTry it:\n\n  AWS_ACCESS_KEY_ID=%s AWS_SECRET_ACCESS_KEY=%s AWS_DEFAULT_REGION=%s aws --endpoint-url %s s3 mb s3://demo-bucket\n\n",
			access, secret, c.Gateway.Region, endpoint)
	}
	fmt.Fprintln(w, "ready")
}
