package embedded

import (
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// childDir makes a process of this test binary an embedded upstream over a directory, to be killed.
const childDir = "AKIGW_TEST_EMBEDDED_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		serveChild(dir)
	}
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreTopFunction("net/http.(*persistConn).writeLoop"))
}

// serveChild serves until it is killed, and prints its endpoint.
func serveChild(dir string) {
	s, err := Open(dir, func(*http.Request) error { return nil }, slog.New(slog.DiscardHandler))
	if err == nil {
		var endpoint string
		if endpoint, err = s.Listen("127.0.0.1:0"); err == nil {
			fmt.Println(endpoint)
			select {}
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
