package cold

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestA15_ClockSkew: a gateway whose clock is far from the upstream's refuses to
// start, and says which way out there is; one that cannot know starts.
func TestA15_ClockSkew(t *testing.T) {
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
		err = us.CheckClock(context.Background())
		if (err != nil) != (c.want != "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
		us.Close()
	}
}
