package e2e

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/akidb/akigw/internal/testing/testkit"
)

// impatientBoto sends requests with boto3 and without retries: one of each kind concurrently, and
// again, one after the other, when it is told to. It prints how long each took.
const impatientBoto = `
import boto3, json, os, sys, threading, time
from botocore.config import Config
from botocore.exceptions import ClientError, HTTPClientError

patience = float(os.environ["PATIENCE"]) # a write that stands still ends by the timeout of the connect, too
client = boto3.client("s3", config=Config(retries={"total_max_attempts": 1}, connect_timeout=patience, read_timeout=patience,
    max_pool_connections=32, s3={"addressing_style": "path"}))
ops = {
    "GET hit": ("read", lambda: client.get_object(Bucket="through", Key="hit")["Body"].read()),
    "HEAD hit": ("read", lambda: client.head_object(Bucket="through", Key="hit")),
    "GET miss": ("read", lambda: client.get_object(Bucket="through", Key="miss")["Body"].read()),
    "HEAD miss": ("read", lambda: client.head_object(Bucket="through", Key="miss")),
    "LIST": ("read", lambda: client.list_objects_v2(Bucket="through")),
    "DELETE": ("read", lambda: client.delete_object(Bucket="through", Key="gone")),
    "PUT": ("write", lambda: client.put_object(Bucket="through", Key="small", Body=b"x" * 1000)),
    "PUT of 8 MiB": ("write", lambda: client.put_object(Bucket="through", Key="large", Body=b"x" * (8 << 20))),
    "UploadPart": ("write", lambda: client.upload_part(Bucket="through", Key="parts", UploadId=upload, PartNumber=1, Body=b"x" * 1000)),
}

def timed(name):
    kind, ask = ops[name]
    began, status = time.monotonic(), 200
    try:
        ask()
    except ClientError as e:
        status = e.response["ResponseMetadata"]["HTTPStatusCode"]
    except HTTPClientError as e:
        status = 0
    return {"operation": name, "kind": kind, "seconds": time.monotonic() - began, "status": status}

def say(what):
    print(json.dumps(what), flush=True)

upload = client.create_multipart_upload(Bucket="through", Key="parts")["UploadId"]
for name in ("GET hit", "LIST", "PUT", "UploadPart"):
    ops[name][1]()
say([])
sys.stdin.readline()
results = []
threads = [threading.Thread(target=lambda n=name: results.append(timed(n))) for name in ops]
for t in threads: t.start()
for t in threads: t.join()
say(results)
sys.stdin.readline()
results = []
for name in ops:
    for _ in range(5):
        results.append(timed(name))
        if results[-1]["seconds"] > 1:
            break # there is no need to wait for more of these
say(results)
`

// botoAnswer is the result of a request by boto3.
type botoAnswer struct {
	Operation string  `json:"operation"`
	Kind      string  `json:"kind"`
	Seconds   float64 `json:"seconds"`
	Status    int     `json:"status"` // 0: the client gave up
}

// TestOutages_Boto3: boto3 without retries waits for a stopped upstream no longer than the
// deadlines, and not at all once the upstream is suspect.
func TestOutages_Boto3(t *testing.T) {
	t.Parallel()
	needPython(t, "boto3")
	p := testkit.Prove(t, "Outages_Boto3")
	r := &outageRun{outageTimes: outageTimesOf(p), t: t, ill: stopped, suspected: true}
	r.open()
	r.seed("through", "hit")
	r.seed("through", "miss")
	boto := exec.Command("python3", "-c", impatientBoto)
	boto.Env = append(r.g.clientEnv(), fmt.Sprintf("PATIENCE=%f", (r.write+2*r.slack+time.Second).Seconds()))
	var complaints strings.Builder
	boto.Stderr = &complaints
	in, err := boto.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := boto.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := boto.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { boto.Process.Kill(); boto.Wait() })
	answers := json.NewDecoder(out)
	next := func() (all []botoAnswer) {
		t.Helper()
		if err := answers.Decode(&all); err != nil {
			t.Fatalf("%v: %s", err, &complaints)
		}
		return all
	}
	next() // the client is ready
	r.up.falls(stopped)
	defer r.up.recovers(stopped)
	fmt.Fprintln(in)
	first := next()
	fmt.Fprintln(in)
	later := next()
	limits := map[string]time.Duration{"read": r.request + r.slack + time.Second/2, "write": r.write + r.slack + time.Second/2}
	for _, a := range first {
		if took := time.Duration(a.Seconds * float64(time.Second)); took > limits[a.Kind] || a.Status != 503 {
			t.Errorf("%s, %s: %d after %s, limit %s", a.Operation, "first", a.Status, took, limits[a.Kind])
		}
	}
	for _, a := range later {
		if took := time.Duration(a.Seconds * float64(time.Second)); took > r.refusal || a.Status != 503 {
			t.Errorf("%s, %s: %d after %s, limit %s", a.Operation, "suspect", a.Status, took, r.refusal)
		}
	}
	p.Figure("at first", first)
	p.Figure("once it is suspect", later)
}

// TestOutages_Restart: a gateway that is restarted during an outage acknowledges writes to buckets
// that it knew. All of them are upstream within a minute of the upstream's return, with the ETags
// that were promised.
func TestOutages_Restart(t *testing.T) {
	t.Parallel()
	p := testkit.Prove(t, "Outages_Restart")
	writes := p.Amount(100, 500, 10_000)
	var mu sync.Mutex
	t.Run("kinds", func(t *testing.T) {
		for _, a := range []ailment{refuses, stopped} {
			t.Run(string(a), func(t *testing.T) {
				t.Parallel()
				r := &outageRun{outageTimes: outageTimesOf(p), t: t, ill: a, restarted: true, raced: !p.Long()}
				figures := r.writeAfterRestart(writes)
				mu.Lock()
				defer mu.Unlock()
				p.Figure(string(a), figures)
			})
		}
	})
}

func (r *outageRun) writeAfterRestart(writes int) map[string]any {
	t := r.t
	t.Helper()
	r.open()
	r.must("PUT", "/back/known", "", body1000)
	waitDrained(t, r.g, 10*time.Second)
	r.up.falls(r.ill)
	took := r.writeBack("before", writes/10) // pending during the restart
	r.restart()
	took = append(took, r.writeBack("after", writes)...)
	for name, tag := range r.acked { // acknowledged writes can be read meanwhile
		if o := r.ask(nothing, "GET", "/back/"+name, "", nil, nil); o.status != "200" || o.header.Get("Etag") != tag {
			t.Errorf("GET %s, pending: %s %q, was acknowledged as %q", name, o.status, o.header.Get("Etag"), tag)
			break
		}
	}
	r.up.recovers(r.ill)
	began := time.Now()
	waitDrained(t, r.g, time.Minute)
	drained := time.Since(began)
	r.verifyUpstream()
	slices.Sort(took)
	return map[string]any{"acknowledged": len(r.acked), "p99 ms": took[len(took)*99/100].Milliseconds(), "upstream after seconds": drained.Seconds()}
}

// writeBack writes objects with 16 clients and returns how long each write took. All of them have
// to be acknowledged.
func (r *outageRun) writeBack(prefix string, writes int) []time.Duration {
	r.t.Helper()
	names := make(chan int)
	var mu sync.Mutex
	var took []time.Duration
	wrong := map[string]int{}
	var clients sync.WaitGroup
	for range 16 {
		clients.Go(func() {
			for n := range names {
				name, body := fmt.Sprintf("%s-%d", prefix, n), testkit.Bytes(uint64(n), 1000+n%4000)
				o := r.ask(nothing, "PUT", "/back/"+name, "", nil, body)
				acked := o.status == "200" && o.header.Get("X-Akigw-Commit") == "journal" && o.header.Get("Etag") == etagOf(body)
				if acked {
					r.acknowledged(name, etagOf(body), o)
				}
				mu.Lock()
				took = append(took, o.took)
				if !acked {
					wrong[o.status]++
				}
				mu.Unlock()
			}
		})
	}
	for n := range writes {
		mu.Lock()
		hopeless := len(wrong) > 0 && len(took) > 50
		mu.Unlock()
		if hopeless {
			break
		}
		names <- n
	}
	close(names)
	clients.Wait()
	if len(wrong) > 0 || len(took) < writes {
		r.t.Errorf("%s the restart: of %d writes %d were answered but not acknowledged as promised: %v", prefix, writes, len(took), wrong)
	}
	return took
}
