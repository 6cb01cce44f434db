package gateway

import (
	"net/http"
	"time"
)

// keptAlive reports whether an operation may take minutes, during which S3 sends white space. Its status is
// sent before its outcome is known, so an error is sent in the body of a 200.
func keptAlive(op string) bool {
	switch op {
	case "CompleteMultipartUpload", "CopyObject", "UploadPartCopy":
		return true
	default:
		return false
	}
}

// keepAliveEvery is how often such an operation sends a byte. Proxies and clients give up after 30
// s or more.
const keepAliveEvery = 10 * time.Second

// keepAlive calls ask, which sends or prepares a request. If ask takes long, and the operation is
// one of keptAlive, the client's connection is kept alive meanwhile: then the response has begun,
// and w.kept is set.
func (g *forwarder) keepAlive(w *answer, c *call, ask func() (*http.Response, error)) (*http.Response, error) {
	if !keptAlive(c.route.Op) {
		return ask()
	}
	type outcome struct {
		resp     *http.Response
		err      error
		panicked any
	}
	done := make(chan outcome, 1)
	go func() {
		var o outcome
		defer func() {
			o.panicked = recover() // the handler's goroutine panics again
			done <- o
		}()
		o.resp, o.err = ask()
	}()
	tick := time.NewTicker(keepAliveEvery)
	defer tick.Stop()
	for {
		select {
		case o := <-done:
			if o.panicked != nil {
				panic(o.panicked)
			}
			return o.resp, o.err
		case <-tick.C:
			w.keep()
		}
	}
}

// passAlive sends a call to the upstream and returns the response, with the client's connection
// kept alive.
func (g *forwarder) passAlive(w *answer, c *call, out *outgoing) (*http.Response, error) {
	return g.keepAlive(w, c, func() (*http.Response, error) {
		resp, _, err := g.roundTrip(c, out, nil)
		return resp, err
	})
}
