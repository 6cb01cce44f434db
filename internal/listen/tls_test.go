package listen

import (
	"crypto/x509"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/akidb/akigw/internal/testing/testkit"
)

// TestTLSReload: a renewed certificate is loaded; one that does not match its key is not.
func TestTLSReload(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if _, err := TLS(certFile, keyFile, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("no certificate, and no error")
	}
	testkit.Certify(t, certFile, keyFile, "first")
	c := &certificate{certFile: certFile, keyFile: keyFile, log: slog.New(slog.DiscardHandler)}
	if err := c.loadLocked(); err != nil {
		t.Fatal(err)
	}
	name := func() string {
		c.checked = time.Time{} // a second has passed
		leaf, err := x509.ParseCertificate(c.get().Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		return leaf.Subject.CommonName
	}
	if got := name(); got != "first" {
		t.Errorf("got %s", got)
	}
	if err := os.WriteFile(keyFile, []byte("half written"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := name(); got != "first" {
		t.Errorf("with a bad key: got %s", got)
	}
	testkit.Certify(t, certFile, keyFile, "second")
	if got := name(); got != "second" {
		t.Errorf("after the renewal: got %s", got)
	}
}
