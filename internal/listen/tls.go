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

// TLS makes the configuration of a server whose certificate is in two PEM
// files. The files are looked at again as connections come in, and a new
// certificate is taken over as soon as both fit together; until then the
// previous one is used.
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

// lookAgain is how often the files are looked at.
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

// Secure is a listener with TLS. A client that speaks plain HTTP to it is told so.
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

// notHTTPS is what a client gets that speaks plain HTTP.
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
