package admin

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestConsoleSessions: a login with an admin key returns a cookie with the rights of the key. It is
// valid only for requests of the console and until the logout. Nothing else opens a session.
func TestConsoleSessions(t *testing.T) {
	s, _, _ := testServer(t)
	ask := func(method, path, body string, change func(*http.Request)) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, "http://127.0.0.1:9001"+path, strings.NewReader(body))
		r.RemoteAddr = "127.0.0.1:5"
		r.Header.Set(consoleHeader, "1")
		if change != nil {
			change(r)
		}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		return w
	}
	const right = `{"access_key": "operator", "secret_key": "secret-of-the-operator"}`
	for _, c := range []struct {
		name, body string
		change     func(*http.Request)
		want       int
	}{
		{"a wrong secret", `{"access_key": "operator", "secret_key": "x"}`, nil, 403},
		{"a key that is none", `{"access_key": "nobody", "secret_key": "secret-of-the-operator"}`, nil, 403},
		{"no JSON", `operator`, nil, 400},
		{"another page", right, func(r *http.Request) { r.Header.Del(consoleHeader) }, 403},
		{"from afar, in the clear", right, func(r *http.Request) { r.RemoteAddr = "192.0.2.1:5" }, 403},
	} {
		if w := ask("POST", "/api/v1/login", c.body, c.change); w.Code != c.want || len(w.Result().Cookies()) > 0 {
			t.Errorf("login with %s: %d %v", c.name, w.Code, w.Result().Cookies())
		}
	}
	w := ask("POST", "/api/v1/login", right, nil)
	cookies := w.Result().Cookies()
	if w.Code != 200 || len(cookies) != 1 || !cookies[0].HttpOnly || cookies[0].SameSite != http.SameSiteStrictMode {
		t.Fatalf("login: %d %v", w.Code, cookies)
	}
	with := func(r *http.Request) { r.AddCookie(cookies[0]) }
	if w := ask("GET", "/api/v1/session", "", with); !strings.Contains(w.Body.String(), "operator") {
		t.Errorf("session: %s", w.Body)
	}
	for _, path := range []string{"/api/v1/audit", "/api/v1/rules/explain?bucket=bucket&key=k"} {
		if w := ask("GET", path, "", with); w.Code != 200 {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	if w := ask("POST", "/api/v1/purge?bucket=bucket", "", with); w.Code != 200 {
		t.Errorf("a change: %d %s", w.Code, w.Body)
	}
	if w := ask("POST", "/api/v1/purge?bucket=bucket", "", func(r *http.Request) { with(r); r.Header.Del(consoleHeader) }); w.Code != 403 {
		t.Errorf("a change by another page: %d", w.Code)
	}
	if w := ask("POST", "/api/v1/purge?bucket=bucket", "", func(r *http.Request) { r.AddCookie(&http.Cookie{Name: cookieName, Value: "guessed"}) }); w.Code != 401 || w.Header().Get("WWW-Authenticate") != "" {
		t.Errorf("a guessed cookie: %d %v", w.Code, w.Header())
	}
	if w := ask("POST", "/api/v1/logout", "", with); w.Code != 200 {
		t.Errorf("logout: %d", w.Code)
	}
	if w := ask("GET", "/api/v1/audit", "", with); w.Code != 401 {
		t.Errorf("after logout: %d", w.Code)
	}
	s.plaintext = true
	if w := ask("POST", "/api/v1/login", right, func(r *http.Request) { r.RemoteAddr = "192.0.2.1:5" }); w.Code != 200 {
		t.Errorf("from afar, when that is accepted: %d", w.Code)
	}
	var many sessions
	now := time.Now()
	token := many.begin("operator", now)
	r := httptest.NewRequest("GET", "/", nil)
	r.AddCookie(&http.Cookie{Name: cookieName, Value: token})
	if many.of(r, now.Add(sessionTime)) != "operator" || many.of(r, now.Add(sessionTime+1)) != "" {
		t.Error("a session does not end when it should")
	}
	for range 3 * mostSessions {
		many.begin("operator", now)
	}
	if len(many.all) > mostSessions {
		t.Errorf("%d sessions", len(many.all))
	}
}

// TestConsoleIsHarmless: the pages load nothing from other hosts and cannot be framed.
func TestConsoleIsHarmless(t *testing.T) {
	s, _, _ := testServer(t)
	for _, path := range []string{"/", "/app.js", "/style.css", "/icon.svg"} {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest("GET", "http://127.0.0.1:9001"+path, nil))
		if w.Code != 200 || w.Body.Len() < 100 || !strings.Contains(w.Header().Get("Content-Security-Policy"), "default-src 'self'") {
			t.Errorf("%s: %d, %d bytes, %v", path, w.Code, w.Body.Len(), w.Header())
		}
		for _, bad := range []string{"https://", "innerHTML", "eval(", " style=", "<script>"} {
			if text := strings.ReplaceAll(w.Body.String(), "http://www.w3.org/2000/svg", ""); strings.Contains(text, bad) {
				t.Errorf("%s has %q", path, bad)
			}
		}
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest("GET", "http://127.0.0.1:9001/other", nil))
	if w.Code != 404 {
		t.Errorf("another page: %d", w.Code)
	}
}

// TestOverview: rates and quantiles cover the time between two snapshots of the counters.
func TestOverview(t *testing.T) {
	at := time.Now()
	bucket := func(le string) string {
		return `akigw_gateway_request_seconds_bucket{kind="read",le="` + le + `"}`
	}
	old := counted{at, map[string]float64{`akigw_gateway_requests_total{op="GetObject",status="200"}`: 100}}
	now := counted{at.Add(2 * time.Second), map[string]float64{
		`akigw_gateway_requests_total{op="GetObject",status="200"}`: 160, `akigw_gateway_requests_total{op="PutObject",status="503"}`: 10,
		`akigw_gateway_request_seconds_count{kind="read"}`: 60, `akigw_gateway_request_seconds_count{kind="write"}`: 10,
		`akigw_tiers_reads_total{outcome="hot"}`: 40, "akigw_gateway_sent_bytes_total": 1000,
		bucket("0.001"): 50, bucket("0.01"): 90, bucket("0.1"): 100, bucket("+Inf"): 100,
	}}
	s, _, _ := testServer(t)
	o := s.overview(now, old, old)
	if o.Requests["read"] != 30 || o.Requests["write"] != 5 || o.Errors != 5 || o.Outcomes["hot"] != 20 || o.Sent != 500 {
		t.Errorf("%+v", o)
	}
	q := o.Latency["read"]
	if q == nil || q.P50 != 1 || q.P95 < 54 || q.P95 > 56 || q.P99 < 90 || q.P99 > 92 || o.Latency["write"] != nil {
		t.Errorf("%+v", q)
	}
}
