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
	"time"
)

// TLS returns the configuration of a server whose certificate and key are in two PEM files. Changed
// files are reloaded when connections come in, as soon as certificate and key match; until then the
// previous ones are used.
func TLS(certFile, keyFile string, log *slog.Logger) (*tls.Config, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile, log: log}
	if err := c.load(); err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.get(), nil },
	}, nil
}

// lookAgain is the least time between two looks at the files.
const lookAgain = time.Second

type certificate struct {
	certFile, keyFile string
	log               *slog.Logger

	mu      sync.Mutex
	loaded  *tls.Certificate // guarded by mu
	stamp   string           // of the files that were tried last; guarded by mu
	checked time.Time        // guarded by mu
}

func (c *certificate) get() *tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.checked) < lookAgain {
		return c.loaded
	}
	c.checked = time.Now()
	if stamp := c.stampNow(); stamp != c.stamp {
		if err := c.load(); err != nil {
			c.log.Error("the certificate files changed and cannot be used; the previous certificate stays in use", "error", err)
		} else {
			c.log.Info("loaded a new certificate", "file", c.certFile)
		}
	}
	return c.loaded
}

// stampNow changes when one of the files does.
func (c *certificate) stampNow() (stamp string) {
	for _, name := range []string{c.certFile, c.keyFile} {
		if info, err := os.Stat(name); err == nil {
			stamp += fmt.Sprint(info.ModTime().UnixNano(), " ", info.Size(), " ")
		}
	}
	return stamp
}

func (c *certificate) load() error { // needs mu, but at the start
	c.stamp = c.stampNow()
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return err
	}
	c.loaded, c.checked = &pair, time.Now()
	return nil
}

// Secure is a listener with TLS. A client that sends plain HTTP gets an error response.
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
		_, _ = io.WriteString(other.Conn, notHTTPS) // it is closed in any case
	}
	return n, err
}
