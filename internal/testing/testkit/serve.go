package testkit

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
)

// Serve starts an HTTP server on the loopback interface. When the test ends, it stops the server and
// closes the handler.
func Serve(t testing.TB, handler interface {
	http.Handler
	io.Closer
}) *httptest.Server {
	server := httptest.NewServer(handler)
	t.Cleanup(func() {
		server.Close()
		if err := handler.Close(); err != nil {
			t.Error(err)
		}
	})
	return server
}
