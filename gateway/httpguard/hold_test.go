package httpguard

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/akidb/akigw/internal/testing/testkit"
)

// TestHold: what is written while it holds goes out at Release, all of it and
// in order, whether net/http or the handler owned the bytes.
func TestHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		blocks := [][]byte{testkit.Bytes(1, 100), testkit.Bytes(2, 4096), testkit.Bytes(3, 300_000), testkit.Bytes(4, 5000), testkit.Bytes(5, 1)}
		want := bytes.Join(blocks, nil)
		written, goOn := make(chan bool), make(chan bool)
		server := &http.Server{ConnContext: ConnContext, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", strconv.Itoa(len(want)))
			if err := Release(r); err != nil {
				t.Errorf("released what was not held: %v", err)
			}
			if !Hold(r) {
				t.Error("cannot hold")
			}
			for _, b := range blocks {
				if _, err := w.Write(b); err != nil {
					t.Error(err)
				}
			}
			w.(http.Flusher).Flush()
			written <- true
			<-goOn
			if err := Release(r); err != nil {
				t.Error(err)
			}
		})}
		client, conn := net.Pipe()
		l := testkit.ListenerOf(conn)
		var served sync.WaitGroup
		served.Go(func() {
			_ = server.Serve(Strict(Capped(l, Caps{Connections: 10}), Limits{HeadBytes: 16 << 10, HeadTime: time.Second, Rate: 1 << 10, Window: time.Hour}))
		})
		defer func() {
			client.Close()
			server.Close()
			served.Wait()
		}()
		for range 3 { // on one connection
			if _, err := io.WriteString(client, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			<-written
			client.SetReadDeadline(time.Now().Add(time.Minute))
			if n, err := client.Read(make([]byte, 1)); n != 0 || !os.IsTimeout(err) {
				t.Fatalf("%d bytes came before Release, %v", n, err)
			}
			client.SetReadDeadline(time.Time{})
			goOn <- true
			got := make([]byte, 0, len(want)+1000)
			for !bytes.HasSuffix(got, want) {
				n, err := client.Read(got[len(got):cap(got)])
				if got = got[:len(got)+n]; err != nil {
					t.Fatalf("%d bytes, %v", len(got), err)
				}
			}
			if head, body, ok := bytes.Cut(got, []byte("\r\n\r\n")); !ok || !bytes.Equal(body, want) || !bytes.HasPrefix(head, []byte("HTTP/1.1 200")) {
				t.Fatalf("%.200q", got)
			}
		}
		if Hold(new(http.Request)) || Release(new(http.Request)) != nil {
			t.Error("held without a connection")
		}
	})
}
