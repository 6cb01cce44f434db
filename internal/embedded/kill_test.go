package embedded

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/akidb/akigw/internal/testing/testkit"
)

// child is an embedded upstream in a process of its own.
type child struct {
	t        *testing.T
	cmd      *exec.Cmd
	endpoint string
}

func startChild(t *testing.T, dir string) *child {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	c := &child{t: t, cmd: cmd}
	t.Cleanup(c.kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal("the upstream does not start: ", err)
	}
	c.endpoint = strings.TrimSpace(line)
	return c
}

// kill kills the process as by kill -9. Its exit error is expected.
func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}

func (c *child) try(method, target string, body io.Reader, size int64) (*http.Response, string, error) {
	r, err := http.NewRequest(method, c.endpoint+target, body)
	if err != nil {
		c.t.Fatal(err)
	}
	r.ContentLength = size
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(r)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	return resp, string(raw), err
}

func (c *child) do(method, target, body string) (*http.Response, string) {
	c.t.Helper()
	resp, text, err := c.try(method, target, strings.NewReader(body), int64(len(body)))
	if err != nil || resp.StatusCode >= 300 {
		c.t.Fatal(method, target, resp, text, err)
	}
	return resp, text
}

// TestKill: kill -9 in the middle of a PUT, an UploadPart or a CompleteMultipartUpload leaves either the
// old object or the new one, never a mixture. An upload either continues or has become the object. The
// next start removes orphaned files.
func TestKill(t *testing.T) {
	random := testkit.Random(t)
	dir := testkit.MemoryDir(t)
	c := startChild(t, dir)
	c.do("PUT", "/bucket", "")
	for i := range 12 {
		before, after := fmt.Sprintf("before %d", i), fmt.Sprintf("after %d", i)
		c.do("PUT", "/bucket/k", before)
		_, text := c.do("POST", "/bucket/k?uploads", "")
		id := between(text, "<UploadId>", "</UploadId>")
		resp, _ := c.do("PUT", "/bucket/k?partNumber=1&uploadId="+id, after)
		complete := "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>" + resp.Header.Get("Etag") + "</ETag></Part></CompleteMultipartUpload>"

		c.killDuring("PUT", "/bucket/k")
		c = startChild(t, dir)
		if _, text := c.do("GET", "/bucket/k", ""); text != before {
			t.Fatalf("after a kill in the middle of a PUT the object is %.40q", text)
		}
		c.killDuring("PUT", "/bucket/k?partNumber=1&uploadId="+id)
		c = startChild(t, dir)
		if _, text := c.do("GET", "/bucket/k?uploadId="+id, ""); !strings.Contains(text, fmt.Sprintf("<Size>%d</Size>", len(after))) {
			t.Fatalf("after a kill in the middle of an UploadPart: %s", text)
		}
		c.killSoon(random, "/bucket/k?uploadId="+id, complete)
		c = startChild(t, dir)
		switch _, text := c.do("GET", "/bucket/k", ""); text {
		case after:
			if resp, text, err := c.try("GET", "/bucket/k?uploadId="+id, nil, 0); err != nil || resp.StatusCode != 404 {
				t.Fatalf("the upload has become the object and is there: %v %s %v", resp, text, err)
			}
		case before:
			c.do("POST", "/bucket/k?uploadId="+id, complete)
			if _, text := c.do("GET", "/bucket/k", ""); text != after {
				t.Fatalf("the upload went on and is %.40q", text)
			}
		default:
			t.Fatalf("after a kill in the middle of a Complete the object is %.40q", text)
		}
	}
	c.kill()
	s, _ := open(t, dir)
	defer s.Close()
	if all := files(t, s); len(all) != 1 {
		t.Errorf("%d files are left, want the object's", len(all))
	}
}

// killDuring kills the upstream when it has read a part of a body.
func (c *child) killDuring(method, target string) {
	body := bytes.Repeat([]byte("half"), 1<<20)
	kill := readerFunc(func([]byte) (int, error) {
		c.kill()
		return 0, io.ErrUnexpectedEOF
	})
	if resp, text, err := c.try(method, target, io.MultiReader(bytes.NewReader(body), kill), int64(2*len(body))); err == nil {
		c.t.Fatal("a killed upstream answered ", resp.Status, text)
	}
}

// killSoon kills the upstream at about the time when it completes an upload.
func (c *child) killSoon(random *rand.Rand, target, document string) {
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		_, _, _ = c.try("POST", target, strings.NewReader(document), int64(len(document))) // the outcome is checked afterwards
	}()
	time.Sleep(time.Duration(random.IntN(3000)) * time.Microsecond)
	c.kill()
	<-answered
}
