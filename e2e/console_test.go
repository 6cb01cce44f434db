package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/s3client"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/tiers/cold"
)

// comparedConfig has answers from the bucket "compared" compared with the upstream's.
const comparedConfig = `
[[rule]]
bucket = "compared"
freshness = "immutable"
compare = 1
`

// TestConsole uses the console in Chromium, against the running binary under load: an operator's
// actions on each page, in both themes, with an accessibility check. AKIGW_SHOTS=DIR saves a
// screenshot of each page.
func TestConsole(t *testing.T) {
	need(t, "chromium", "node")
	if _, err := os.Stat("js/node_modules/playwright-core"); err != nil {
		t.Skip("playwright-core is not installed: npm install --prefix e2e/js")
	}
	t.Parallel()
	up, behind := startMemory(t, 0, 8)
	g := startGateway(t, options{upstream: behind, config: backConfig + comparedConfig + "[[rule]]\nbucket = \"shadowed\"\nshadow = \"metadata\"\n", plain: true, env: []string{"AKIGW_ENABLE_FAULTS=true", "AKIGW_VECTORS_BUCKET=collections"}})
	var refuse atomic.Bool
	refuse.Store(true)
	up.Before = func(r *cold.Request) (*http.Response, error) {
		if r.Method == http.MethodPut && r.Key.Name == "refused" && refuse.Load() {
			return s3mem.Response(400, nil, []byte("<Error><Code>EntityTooLarge</Code></Error>")), nil
		}
		return nil, nil
	}
	client := &s3client.Client{Endpoint: g.endpoint}
	client.Must(t, "PUT", "/backbucket/refused", "", nil, []byte("body"))
	for _, name := range []string{"cat", "dog"} {
		client.Must(t, "PUT", "/backbucket/photos/"+name+".jpg", "", nil, testkit.Bytes(1, 100_000))
	}
	client.Must(t, "PUT", "/shadowed/k", "", nil, testkit.Bytes(1, 300_000))
	for range 20 {
		client.Must(t, "GET", "/shadowed/k", "", nil, nil)
	}
	waitDrained(t, g, 10*time.Second)
	client.Must(t, "GET", "/backbucket/photos/cat.jpg", "", nil, nil) // so that the key exists, whatever the result of its flush
	id := regexp.MustCompile(`(?m)^(\d+) .*EntityTooLarge`).FindStringSubmatch(g.says("dead-letters", "list"))
	if id == nil {
		t.Fatal("no dead letter appeared")
	}
	refuse.Store(false)
	compared := akigw.Key{Bucket: "compared", Name: "photos/dog.jpg"}
	up.Put(compared, []byte("body"))
	client.Must(t, "GET", "/compared/photos/dog.jpg", "", nil, nil)
	dog, _ := up.Get(compared)
	dog.Header = http.Header{"Content-Type": {"image/jpeg"}}
	up.PutStored(compared, dog)
	client.Must(t, "GET", "/compared/photos/dog.jpg", "", nil, nil)
	g.operator()
	key := g.newKey("--user", "operator")
	ctx, stop := context.WithTimeout(t.Context(), 3*time.Minute)
	defer stop()
	load := make(chan struct{})
	send := func(method, path string, body []byte) {
		if r, err := client.Request(method, path, "", nil, body); err == nil {
			_, _ = client.Do(r) // faults are being set meanwhile
		}
	}
	go func() {
		defer close(load)
		for n := 0; ctx.Err() == nil; n++ {
			send("GET", "/backbucket/photos/dog.jpg", nil)
			if n%20 == 0 {
				send("PUT", fmt.Sprintf("/backbucket/photos/%d", n%200), []byte("x"))
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
	defer func() { stop(); <-load }()
	shots := os.Getenv("AKIGW_SHOTS")
	arguments, err := json.Marshal(map[string]string{"console": g.admin + "/", "access_key": key.AccessKeyId, "secret_key": key.SecretAccessKey, "bucket": "backbucket", "dead": id[1], "shots": shots})
	if err != nil {
		t.Fatal(err)
	}
	script, err := filepath.Abs("js/console.mjs")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, "node", script, string(arguments))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v:\n%s", err, &out)
	}
	t.Logf("%s", &out)
	if strings.Count(out.String(), "\n") < 20 {
		t.Error("the console shows fewer objects than exist")
	}
	if audit := string(readFile(t, filepath.Join(g.dir, "audit.jsonl"))); !strings.Contains(audit, key.AccessKeyId) || !strings.Contains(audit, "dead-letters/retry") || strings.Contains(audit, key.SecretAccessKey) {
		t.Errorf("the audit log: %s", audit)
	}
}
