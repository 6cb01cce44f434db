package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/akidb/akigw/internal/testing/testkit"
)

// TestQuickStartOfTheReadme runs the commands of the README's quick start as they are written, in a
// copy of the checkout; only the clone address and the ports differ. Then it runs the command that
// the gateway prints.
func TestQuickStartOfTheReadme(t *testing.T) {
	need(t, "git", "make", "bash")
	t.Parallel()
	readme := string(readFile(t, "../README.md"))
	_, section, ok := strings.Cut(readme, "## Quick start\n")
	section, _, _ = strings.Cut(section, "\n## ")
	lines := regexp.MustCompile(`(?m)^    (git clone .*|make run)$`).FindAllStringSubmatch(section, -1)
	if !ok || len(lines) != 2 {
		t.Fatalf("the quick start is %v", lines)
	}
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var script strings.Builder
	script.WriteString("set -e\n")
	for _, l := range lines {
		fmt.Fprintln(&script, strings.Replace(l[1], "https://github.com/akidb/akigw", root+" akigw", 1))
	}
	cmd := exec.Command("bash", "-c", script.String())
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "AKIGW_LISTEN="+testkit.FreeAddr(t), "AKIGW_ADMIN_LISTEN="+testkit.FreeAddr(t))
	out := readyOf(t, cmd)
	for _, want := range []string{"S3 endpoint", "console", "log in with", "access key", "secret key", "Try it:"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in the output:\n%s", want, out)
		}
	}
	pasted := regexp.MustCompile(`(?m)^  (AWS_ACCESS_KEY_ID=.* aws .*)$`).FindStringSubmatch(out)
	if pasted == nil {
		t.Fatalf("there is no command to paste:\n%s", out)
	}
	need(t, "aws")
	said, err := exec.Command("bash", "-c", pasted[1]).CombinedOutput()
	if err != nil || !strings.Contains(string(said), "make_bucket: demo-bucket") {
		t.Errorf("%s: %v: %s", pasted[1], err, said)
	}
}

// readyOf runs a command that starts a gateway. It returns the output up to the moment when the
// gateway is ready. All processes end with the test.
func readyOf(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var failed bytes.Buffer
	cmd.Stderr = &failed
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
		_ = cmd.Wait()
	})
	late := time.AfterFunc(5*time.Minute, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	defer late.Stop()
	var out strings.Builder
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		if lines.Text() == "ready" {
			return out.String()
		}
		fmt.Fprintln(&out, lines.Text())
	}
	t.Fatalf("it ended before it was ready: %s%s", &out, &failed)
	return ""
}
