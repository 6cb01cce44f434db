package gateway

import (
	"bufio"
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/akidb/akigw/internal/s3err"
	"github.com/akidb/akigw/internal/testing/s3client"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers/cold"
)

// exchangeOver sends r to handler over a connection, and returns all that comes back.
func exchangeOver(t *testing.T, handler http.Handler, r *http.Request) (*http.Response, []byte, error) {
	t.Helper()
	client, server := net.Pipe()
	l := testkit.ListenerOf(server)
	s := &http.Server{Handler: handler}
	var served sync.WaitGroup
	served.Go(func() { _ = s.Serve(l) })
	defer func() {
		client.Close()
		s.Close()
		served.Wait()
	}()
	if err := r.Write(client); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(client), r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, body, err
}

// TestLateDocumentTooLongIsCutOff: a document that is too long to be held is cut off with its
// connection if its client was kept waiting. Its status has been sent, so that nothing else could
// tell the client that it is not whole.
func TestLateDocumentTooLongIsCutOff(t *testing.T) {
	const begin, end = "<CopyObjectResult><ETag>", "</ETag></CopyObjectResult>"
	for _, c := range []struct {
		size, status int
		whole        bool
	}{
		{maxHeld, 200, true},
		{maxHeld + 1, 200, false},
		{4 * maxHeld, 200, false},
		{maxHeld + 1, 500, false},
	} {
		for _, known := range []bool{true, false} {
			t.Run(fmt.Sprintf("%d bytes, status %d, length known: %t", c.size, c.status, known), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b, up := hangBench(t, rules.Settings{Freshness: rules.Strict})
					up.hang("CopyObject")
					up.delay = 2*keepAliveEvery + time.Second
					document := []byte(begin + strings.Repeat("e", c.size-len(begin+end)) + end)
					up.Before = func(r *cold.Request) (*http.Response, error) {
						resp := s3mem.Response(c.status, http.Header{"Content-Type": {"application/xml"}}, document)
						if !known {
							resp.ContentLength = -1
						}
						return resp, nil
					}
					r, err := http.NewRequest("PUT", "http://s3.example.com/bucket/k", nil)
					if err != nil {
						t.Fatal(err)
					}
					r.Header.Set("X-Amz-Copy-Source", "/bucket/source")
					s3client.Signing{AccessKey: "root", Secret: tenantSecret}.Sign(r)
					resp, body, err := exchangeOver(t, b.g, r)
					if resp.StatusCode != 200 || !bytes.HasPrefix(body, []byte("<?xml")) {
						t.Fatalf("the client was not kept waiting: %d %.100q", resp.StatusCode, body)
					}
					switch {
					case c.whole && (err != nil || !bytes.HasSuffix(body, document)):
						t.Errorf("%v, %d bytes", err, len(body))
					case !c.whole && !errors.Is(err, io.ErrUnexpectedEOF):
						t.Errorf("the answer ended as if it were whole: %v, %d bytes", err, len(body))
					}
				})
			})
		}
	}
}

// TestLateErrorsAreRecorded: whichever way an error comes for which the client was kept waiting,
// there is a document in the answer, and the records have the error's status.
func TestLateErrorsAreRecorded(t *testing.T) {
	for name, err := range map[string]error{
		"the gateway's own":         s3err.NoSuchKey,
		"the upstream's":            &cold.ResponseError{Status: 404, Body: []byte("<Error><Code>NoSuchKey</Code></Error>")},
		"the upstream's, no reason": &cold.ResponseError{Status: 404},
	} {
		b, _ := hangBench(t, rules.Settings{})
		recorder := httptest.NewRecorder()
		w := &answer{ResponseWriter: recorder, call: &call{}, requestID: [1]string{"id"}}
		w.keep()
		b.g.pipeline.errors.answer(w, httptest.NewRequest("PUT", "/bucket/k", nil), "id", err)
		var document struct{ XMLName xml.Name }
		if err := xml.Unmarshal(recorder.Body.Bytes(), &document); err != nil || document.XMLName.Local != "Error" || w.status != 404 || recorder.Code != 200 {
			t.Errorf("%s: status %d in the records, %d sent, %v: %s", name, w.status, recorder.Code, err, recorder.Body)
		}
	}
}

// TestKeptAliveWhileAnUploadMoves: what an upload in the journal has is taken upstream before the
// upstream is asked to complete it or to copy into it. That can take longer than anything else, and
// the client is kept waiting meanwhile as well.
func TestKeptAliveWhileAnUploadMoves(t *testing.T) {
	for _, c := range []struct {
		name string
		ask  func(u *client) *httptest.ResponseRecorder
	}{
		{"CompleteMultipartUpload", func(u *client) *httptest.ResponseRecorder {
			return u.complete(http.Header{"If-None-Match": {"*"}})
		}},
		{"UploadPartCopy", func(u *client) *httptest.ResponseRecorder {
			return u.part(2, "", http.Header{"X-Amz-Copy-Source": {"/back/upstream"}})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := backBench(t)
				b.up.Put(backKey("upstream"), []byte("source"))
				u := b.upload(t, "/back/k", nil)
				u.mustPart(1, "part", nil)
				b.up.Before = func(r *cold.Request) (*http.Response, error) {
					if r.Op == "CreateMultipartUpload" {
						time.Sleep(6*keepAliveEvery + time.Second)
					}
					return nil, nil
				}
				w := c.ask(u)
				var document struct{ XMLName xml.Name }
				if err := xml.Unmarshal(w.Body.Bytes(), &document); w.Code != 200 || err != nil || !strings.HasSuffix(document.XMLName.Local, "Result") || !strings.Contains(w.Body.String(), "\n     <") {
					t.Errorf("%d %v %q", w.Code, err, w.Body)
				}
			})
		})
	}
}
