package listen

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// TLS returns the configuration of a server whose certificate and key are in two PEM files. Changed
// files are reloaded when connections come in, as soon as certificate and key match; until then the
// previous ones are used.
func TLS(certFile, keyFile string, log *slog.Logger) (*tls.Config, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile, log: log}
	if err := c.loadLocked(); err != nil { // not shared yet, so no lock is needed
		return nil, err
	}
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.get(), nil },
	}, nil
}

// lookAgain is the minimum time between two checks of the files.
const lookAgain = time.Second

// certificate is a certificate that is reloaded when its files change.
type certificate struct {
	certFile, keyFile string
	log               *slog.Logger
	loaded            atomic.Pointer[tls.Certificate]

	reloading sync.Mutex // only tried, never waited for: other connections use the loaded certificate meanwhile
	stamp     string     // of the files that were last tried; guarded by reloading
	checked   time.Time  // guarded by reloading
}

// get returns the certificate. It first checks the files if the last check is old enough.
func (c *certificate) get() *tls.Certificate {
	if c.reloading.TryLock() {
		defer c.reloading.Unlock()
		c.refreshLocked()
	}
	return c.loaded.Load()
}

// refreshLocked loads the certificate if its files have changed.
func (c *certificate) refreshLocked() {
	if time.Since(c.checked) < lookAgain {
		return
	}
	c.checked = time.Now()
	if c.stampNow() == c.stamp {
		return
	}
	if err := c.loadLocked(); err != nil {
		c.log.Error("the certificate files changed and cannot be used; the previous certificate stays in use", "error", err)
		return
	}
	c.log.Info("loaded a new certificate", "file", c.certFile)
}

// stampNow returns a string that changes when one of the files does.
func (c *certificate) stampNow() (stamp string) {
	for _, name := range []string{c.certFile, c.keyFile} {
		if info, err := os.Stat(name); err == nil {
			stamp += fmt.Sprint(info.ModTime().UnixNano(), " ", info.Size(), " ")
		}
	}
	return stamp
}

// loadLocked loads the certificate.
func (c *certificate) loadLocked() error {
	c.stamp = c.stampNow()
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return err
	}
	c.checked = time.Now()
	c.loaded.Store(&pair)
	return nil
}

// Secure wraps a listener with TLS. A client that sends plain HTTP gets an error response.
func Secure(l net.Listener, config *tls.Config) net.Listener {
	return &secure{tls.NewListener(l, config)}
}

type secure struct{ net.Listener }

// Accept implements net.Listener.
func (s *secure) Accept() (net.Conn, error) {
	c, err := s.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &secureConn{Conn: c}, nil
}

type secureConn struct{ net.Conn }

// notHTTPS is the response to a client that sends plain HTTP.
const notHTTPS = "HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain\r\n\r\nThis server speaks HTTPS: use https:// in the endpoint.\n"

// Read implements net.Conn.
func (c *secureConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	var other tls.RecordHeaderError
	if err != nil && errors.As(err, &other) && other.Conn != nil && other.RecordHeader[0] >= 'A' && other.RecordHeader[0] <= 'Z' {
		_, _ = io.WriteString(other.Conn, notHTTPS) // best effort: the connection is closed in any case
	}
	return n, err
}
