package admin

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestAuditIsBounded: a flood of rejected requests with long queries, in which every byte takes six in
// JSON, leaves a few short lines and one with the number of requests that were left out. Authorised
// requests are all recorded.
func TestAuditIsBounded(t *testing.T) {
	s, _, _ := testServer(t)
	file := filepath.Join(t.TempDir(), "audit.jsonl")
	audit := OpenAudit(file)
	s.audit = audit
	const flood = 5000
	for range flood {
		r := httptest.NewRequest("POST", "http://127.0.0.1:9001/api/v1/purge?bucket=b&"+strings.Repeat("<", 20<<10), nil)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code != 401 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
	}
	key := strings.Repeat("k", 1024)
	r := httptest.NewRequest("POST", "http://127.0.0.1:9001/api/v1/purge?bucket=bucket&key="+key, nil)
	r.RemoteAddr = "127.0.0.1:5"
	r.SetBasicAuth("operator", "secret-of-the-operator")
	s.ServeHTTP(httptest.NewRecorder(), r)

	all, err := audit.last(1000)
	if err != nil {
		t.Fatal(err)
	}
	if newest := all[0]; newest.AccessKey != "operator" || !strings.HasSuffix(newest.Query, "key="+key) {
		t.Errorf("what was let in is not there whole: %+v", newest)
	}
	told := 0
	for _, one := range all[1:] {
		told += max(1, one.LeftOut)
	}
	if told != flood || len(all) > rejectedBurst+20 { // a slow machine allows a few more lines
		t.Errorf("%d lines speak of %d requests, want %d", len(all), told, flood)
	}
	if query := all[2].Query; !strings.HasSuffix(query, " bytes more)") || len(query) > maxRejectedField+40 {
		t.Errorf("a long query is not cut and marked: %q", query)
	}
	if err := audit.Close(); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(raw) {
		if len(line) > 64<<10 {
			t.Errorf("a line of %d bytes", len(line))
		}
	}
}

// TestAuditTellsWhatWasLeftOut: the number of omitted requests is visible in the API at once, and in
// the file no later than when the log is closed.
func TestAuditTellsWhatWasLeftOut(t *testing.T) {
	file := filepath.Join(t.TempDir(), "audit.jsonl")
	audit := OpenAudit(file)
	for range rejectedBurst + 7 {
		if err := audit.noteRejected(Audited{Time: time.Now(), Method: "POST", Status: 401}); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if all, err := audit.last(10); err != nil || all[0].LeftOut < 6 || all[0].LeftOut > 7 { // a slow machine allows one more
			t.Errorf("the newest line is %+v, %v", all[0], err)
		}
	}
	if err := audit.Close(); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(file)
	if lines := strings.Split(strings.TrimSpace(string(raw)), "\n"); err != nil || !strings.Contains(lines[len(lines)-1], `"left_out":`) {
		t.Errorf("the last line is %s, %v", lines[len(lines)-1], err)
	}
}

// TestAuditReadsLongLines: long lines of earlier releases and damaged lines do not hide the lines
// around them.
func TestAuditReadsLongLines(t *testing.T) {
	file := filepath.Join(t.TempDir(), "audit.jsonl")
	line := func(name, query string) string {
		return fmt.Sprintf(`{"time":"2026-01-01T00:00:00Z","access_key":%q,"query":"%s","status":401}`+"\n", name, query)
	}
	text := line("first", "") + line("long", strings.Repeat(`\u003c`, 200<<10)) + "damaged\n" + strings.Repeat("x", maxAuditLine+1) + "\n" + line("last", "")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	all, err := OpenAudit(file).last(10)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, one := range all {
		names = append(names, one.AccessKey)
		if len(one.Query) > maxAuditField+40 {
			t.Errorf("a query of %d bytes", len(one.Query))
		}
	}
	if got := strings.Join(names, " "); got != "last long first" {
		t.Errorf("read %s", got)
	}
}

// TestLongHeadsAreRefused: the listener refuses request heads above the limit.
func TestLongHeadsAreRefused(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	reached := false
	server := HTTP(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }), slog.New(slog.DiscardHandler))
	go server.Serve(l)
	defer server.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	go io.WriteString(c, "GET /?"+strings.Repeat("<", 100<<10)+" HTTP/1.1\r\nHost: h\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge || reached {
		t.Errorf("%v %v, reached %t", resp, err, reached)
	}
}
