package main

import (
	"fmt"
	"io"
	"net"
	"path/filepath"

	"github.com/akidb/akigw/access"
)

// banner tells a person what runs and how to use it, and ends with the line
// "ready", which scripts wait for.
func banner(w io.Writer, c *config, trial bool, trialAdmin *access.Key, s3, operator net.Addr) {
	scheme := "http"
	if c.Gateway.TLSCert != "" {
		scheme = "https"
	}
	endpoint := scheme + "://" + s3.String()
	fmt.Fprintf(w, "akigw %s\n", version)
	fmt.Fprintf(w, "  S3 endpoint  %s   (region %s)\n", endpoint, c.Gateway.Region)
	upstream := c.Upstream.URL
	if c.embedded {
		upstream = "embedded, for trials only: gofakes3 over " + filepath.Join(c.Process.Data, "embedded")
	}
	fmt.Fprintf(w, "  upstream     %s   (freshness %s)\n", upstream, c.Cache.Freshness)
	fmt.Fprintf(w, "  admin        http://%s/metrics\n", operator)
	fmt.Fprintf(w, "  console      http://%s/\n", operator)
	if trialAdmin != nil {
		fmt.Fprintf(w, "  log in with  %s   %s\n", trialAdmin.AccessKey, trialAdmin.SecretKey)
	}
	fmt.Fprintf(w, "  data         %s\n", c.Process.Data)
	if c.Faults.Enable {
		fmt.Fprintf(w, "  FAULTS       enabled: the upstream can be broken on purpose (akigw faults); not for production\n")
	}
	if trial {
		fmt.Fprintf(w, "  access key   %s\n  secret key   %s\n", c.Gateway.AccessKey, c.Gateway.SecretKey)
		fmt.Fprintf(w, "\nTry it:\n\n  AWS_ACCESS_KEY_ID=%s AWS_SECRET_ACCESS_KEY=%s AWS_DEFAULT_REGION=%s aws --endpoint-url %s s3 mb s3://demo-bucket\n\n",
			c.Gateway.AccessKey, c.Gateway.SecretKey, c.Gateway.Region, endpoint)
	}
	fmt.Fprintln(w, "ready")
}
