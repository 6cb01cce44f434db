package gateway

import (
	"crypto/rand"
	"net/http"
	"time"

	"github.com/akidb/akigw"
)

// Quick answers a GetObject of what is in memory or on disk, verified and authorised as
// any other, on the goroutine that read it (httpguard.Quick). It returns false, and has done
// nothing, for whatever else: errors and conditions that hold among it. ServeHTTP looks
// at those from the start.
func (g *Gateway) Quick(w http.ResponseWriter, r *http.Request) (answered bool) {
	started := time.Now()
	sent := &answer{ResponseWriter: w, timed: g.AccessLog != nil}
	requestID, accessKey := "", ""
	defer func() {
		if p := recover(); p != nil {
			g.recovered(sent, r, requestID, p)
			answered = true
		}
		if answered {
			g.account(r, sent, "GetObject", accessKey, requestID, started)
		}
	}()
	c, err := g.admit(r, func(err error) error { return err })
	if c == nil {
		return false
	}
	defer g.release(c)
	if err != nil || c.route.Op != "GetObject" {
		return false
	}
	key, ok := c.cachedKey()
	if !ok {
		return false
	}
	g.quickly.Add(1)
	defer g.quickly.Add(-1)
	spec := c.spec()
	reader := g.Store.Local(c.Context(), key, spec, akigw.ConditionsOf(c.Header))
	if reader == nil {
		return false
	}
	defer reader.Close()
	requestID, accessKey = rand.Text()[:16], c.identity.AccessKey()
	c.requestID, sent.call = requestID, c
	g.identify(w.Header(), requestID)
	if holds, ok := w.(interface{ HoldAtMost(bytes int64) }); ok {
		holds.HoldAtMost(reader.Hold)
	}
	_ = g.sendObject(sent, c, reader, spec) // it has no error once a reader is there
	sent.flush()                            // before the reader's memory goes
	return true
}

// Finish waits for quick answers that are under way when the server was shut down: it
// takes their connections for idle. They are cut off after ten seconds.
func (g *Gateway) Finish() error {
	for g.quickly.Load() > 0 {
		time.Sleep(time.Millisecond)
	}
	return nil
}
