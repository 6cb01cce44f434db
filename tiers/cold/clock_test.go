package cold

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestClockSkew: a gateway whose clock differs too much from the upstream's refuses to start and
// says how to fix that. A gateway that cannot find out starts.
//
// Scenarios: A15.
func TestClockSkew(t *testing.T) {
	for _, c := range []struct {
		name  string
		ahead time.Duration // of the upstream
		down  bool
		want  string
	}{
		{"in step", 0, false, ""},
		{"a little off", 4 * time.Minute, false, ""},
		{"20 minutes ahead", 20 * time.Minute, false, "NTP"},
		{"20 minutes behind", -20 * time.Minute, false, "NTP"},
		{"down", 0, true, ""},
	} {
		config := Config{URL: "http://upstream.example.com", AccessKey: "key", SecretKey: "secretsecret"}
		config.SetDefaults()
		us, err := NewUpstreams(config, nil, PoolConfig{PoolSize: 1, IdleTimeoutSecs: 1}, func(http.RoundTripper) http.RoundTripper {
			return script(func(*http.Request) (*http.Response, error) {
				if c.down {
					return nil, errors.New("refused")
				}
				resp, err := status(403)
				resp.Header.Set("Date", time.Now().Add(c.ahead).UTC().Format(http.TimeFormat))
				return resp, err
			})
		})
		if err != nil {
			t.Fatal(err)
		}
		err = us.CheckClock(context.Background())()
		if (err != nil) != (c.want != "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
		us.Close()
	}
}

// TestHangingUpstreamsDoNotDelayTheStart: however many upstreams hang, the start waits for one
// second in all, and still learns the clock of an upstream that responds.
func TestHangingUpstreamsDoNotDelayTheStart(t *testing.T) {
	for _, c := range []struct {
		name  string
		after time.Duration // when the last upstream responds; its clock is an hour off
		fails bool
	}{
		{"the others answer", 500 * time.Millisecond, true},
		{"none answers", time.Hour, false},
		{"one answers too late", 2 * time.Second, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var logged bytes.Buffer
				config := Config{URL: "http://last.example.com", AccessKey: "key", SecretKey: "secretsecret", Log: slog.New(slog.NewTextHandler(&logged, nil))}
				config.SetDefaults()
				var further []FurtherConfig
				for n := range 5 {
					f := FurtherConfig{Name: fmt.Sprint("hangs-", n), Buckets: "x"}
					f.SetDefaults()
					f.URL, f.AccessKey, f.SecretKey = "http://hangs.example.com", "key", "secretsecret"
					further = append(further, f)
				}
				us, err := NewUpstreams(config, further, PoolConfig{PoolSize: 1, IdleTimeoutSecs: 1}, func(http.RoundTripper) http.RoundTripper {
					return script(func(r *http.Request) (*http.Response, error) {
						after := time.Hour
						if r.Host == "last.example.com" {
							after = c.after
						}
						select {
						case <-time.After(after):
						case <-r.Context().Done():
							return nil, r.Context().Err()
						}
						resp, err := status(403)
						resp.Header.Set("Date", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat))
						return resp, err
					})
				})
				if err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				err = us.CheckClock(context.Background())()
				if took := time.Since(began); (err != nil) != c.fails || took > clockPatience {
					t.Errorf("%v after %v", err, took)
				}
				time.Sleep(3 * time.Second)
				us.Close()
				if late := strings.Contains(logged.String(), "set the clocks"); late != (c.after == 2*time.Second) {
					t.Errorf("the log contains %q", logged.String())
				}
			})
		})
	}
}
