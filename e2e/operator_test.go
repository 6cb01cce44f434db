package e2e

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/akidb/akigw/internal/testing/s3client"
	"github.com/akidb/akigw/internal/testing/testkit"
)

// TestOperatorCommands runs the commands with which an operator examines a running gateway.
func TestOperatorCommands(t *testing.T) {
	t.Parallel()
	behind := versity(t)
	accessLog := filepath.Join(t.TempDir(), "access.log")
	g := startGateway(t, options{upstream: behind, plain: true, env: []string{"AKIGW_ACCESS_LOG_FILE=" + accessLog}})
	g.operator()
	client := &s3client.Client{Endpoint: g.endpoint}
	client.Must(t, "PUT", "/bucket", "", nil, nil)
	client.Must(t, "PUT", "/bucket/photos/cat.jpg", "", nil, testkit.Bytes(1, 1000))
	for range 5 {
		client.Must(t, "GET", "/bucket/photos/cat.jpg", "", nil, nil)
	}
	g.mustAkigw("purge", "s3://no-such-bucket")
	for _, c := range []struct {
		args string
		want []string
	}{
		{"cost", []string{"bucket", "total", "USD", "4.9 KiB"}},
		{"tier top", []string{"s3://bucket/", "1000 B"}},
		{"tier top s3://bucket", []string{"s3://bucket/photos/"}},
		{"audit", []string{"POST /api/v1/purge", "200"}},
		{"audit --limit 5000", []string{"limit must be 1 to 1000"}},
		{"topics", []string{"environment", "modes"}},
		{"topics files", []string{"journal/"}},
		{"help", []string{"Usage: akigw <command>", "doctor"}},
		{"help tier pin", []string{"Usage: akigw tier pin <what>"}},
		{"help keys", []string{"Usage: akigw keys <command>"}},
		{"help topics keys", []string{"The root key pair"}},
		{"help modes", []string{"strict"}},
		{"help nothing", []string{"unexpected argument nothing", "modes"}},
		{"topics nothing", []string{"unknown topic"}},
		{"config explain upstream.url", []string{"from:     AKIGW_UPSTREAM in the environment"}},
		{"config explain secret_key", []string{"(a secret)"}},
		{"doctor", []string{"a gateway responds", "accepts the credentials"}},
		{"doctor --bucket bucket", []string{"can be written, read, uploaded in parts and deleted"}},
	} {
		if out := g.says(strings.Fields(c.args)...); !containsAll(out, c.want) {
			t.Errorf("akigw %s: not all of %q is in\n%s", c.args, c.want, out)
		}
	}
	var report struct {
		Total struct {
			Clients, Upstream struct{ Reads, Writes uint64 }
		}
	}
	if err := json.Unmarshal([]byte(g.says("cost", "--json")), &report); err != nil || report.Total.Clients.Reads != 5 || report.Total.Clients.Writes != 2 || report.Total.Upstream.Reads == 0 {
		t.Errorf("%v %+v", err, report)
	}

	logs := g.command("logs")
	out, err := logs.StdoutPipe()
	if err == nil {
		err = logs.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	seen := false
	for lines := bufio.NewScanner(out); !seen && lines.Scan(); {
		seen = strings.Contains(lines.Text(), "INFO serving")
	}
	if err := logs.Process.Signal(os.Interrupt); err != nil {
		t.Error(err)
	}
	if err := logs.Wait(); !seen || err != nil {
		t.Errorf("logs: the start was seen: %t, %v", seen, err)
	}
	if line := string(readFile(t, accessLog)); !containsAll(line, []string{"REST.GET.OBJECT photos/cat.jpg", "REST.PUT.BUCKET", accessKey}) {
		t.Errorf("the access log: %s", line)
	}
}

// TestCompletion: the script for bash completes commands and flags.
func TestCompletion(t *testing.T) {
	need(t, "bash")
	t.Parallel()
	script, err := exec.Command(build(t, plain), "completion", "bash").Output()
	if err != nil {
		t.Fatal(err)
	}
	for words, want := range map[string]string{
		"akigw tr": "trace", "akigw trace r": "record replay", "akigw trace replay --h": "--hot", "akigw serve --enable": "--enable-faults", "akigw rules explain b/k --c": "--config",
	} {
		out, err := exec.Command("bash", "-c", string(script)+"\nCOMP_WORDS=("+words+"); COMP_CWORD=$((${#COMP_WORDS[@]}-1)); _akigw; echo ${COMPREPLY[*]}").CombinedOutput()
		if got := strings.TrimSpace(string(out)); err != nil || !strings.HasPrefix(got, want) {
			t.Errorf("%s: %q, want %q (%v)", words, got, want, err)
		}
	}
	for _, shell := range []string{"zsh", "fish"} {
		if out, err := exec.Command(build(t, plain), "completion", shell).Output(); err != nil || !strings.Contains(string(out), "replay") {
			t.Errorf("%s: %v", shell, err)
		}
	}
}
