package e2e

import (
	"bytes"
	"context"
	"crypto/md5"
	"fmt"
	"html/template"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/akidb/akigw/internal/testing/s3client"
)

// botoForms posts forms that boto3 has signed, with what Python has on board.
const botoForms = `
import boto3, html, sys, time, urllib.error, urllib.request
from botocore.config import Config
small, big = open(sys.argv[1], 'rb').read(), open(sys.argv[2], 'rb').read()
b, s3 = 'formbucket', boto3.client('s3')
s3.create_bucket(Bucket=b)

def post(p, name, data, more={}, last=''):
    body = b''
    for k, v in list(p['fields'].items()) + list(more.items()):
        body += ('--xyz\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (k, v)).encode()
    body += ('--xyz\r\nContent-Disposition: form-data; name="file"; filename="%s"\r\nContent-Type: image/png\r\n\r\n' % name).encode() + data
    body += ('\r\n%s--xyz--\r\n' % last).encode()
    try:
        r = urllib.request.urlopen(urllib.request.Request(p['url'], body, {'Content-Type': 'multipart/form-data; boundary=xyz'}))
        return r.status, r.headers, html.unescape(r.read().decode())
    except urllib.error.HTTPError as e:
        return e.code, e.headers, html.unescape(e.read().decode())

for version, config in ('default', None), ('v4', Config(signature_version='s3v4')), ('v2', Config(signature_version='s3')):
    signer = boto3.client('s3', config=config)
    p = signer.generate_presigned_post(b, version + '/${filename}', Fields={'Content-Type': 'text/x-test', 'success_action_status': '201', 'x-amz-meta-color': 'blue'},
        Conditions=[{'Content-Type': 'text/x-test'}, {'success_action_status': '201'}, ['starts-with', '$x-amz-meta-color', 'b'], ['content-length-range', 1, len(big)]], ExpiresIn=60)
    assert ('AWSAccessKeyId' in p['fields']) == (version != 'v4'), p
    status, headers, said = post(p, 'C:\\dir\\a file.png', small, last='--xyz\r\nContent-Disposition: form-data; name="submit"\r\n\r\nUpload\r\n')
    assert status == 201 and '<Key>%s/a file.png</Key>' % version in said and headers['Location'].endswith('/formbucket/%s/a%%20file.png' % version), (version, status, said)
    for i in range(2):
        g = s3.get_object(Bucket=b, Key=version + '/a file.png')
        assert g['Body'].read() == small and g['ContentType'] == 'text/x-test' and g['Metadata'] == {'color': 'blue'} and g['ETag'] in said, g
    status, headers, said = post(p, 'big', big)
    assert status == 201 and s3.get_object(Bucket=b, Key=version + '/big')['Body'].read() == big, (version, status, said)
    status, headers, said = post(p, 'bigger', big + b'x')
    assert status == 400 and 'EntityTooLarge' in said, (version, status, said)
    status, headers, said = post(p, 'more', small, {'acl': 'public-read'})
    assert status == 403 and 'Extra input fields: acl' in said, (version, status, said)
    p['fields']['x-amz-meta-color'] = 'red'
    status, headers, said = post(p, 'red', small)
    assert status == 403 and 'Policy Condition failed: ["starts-with", "$x-amz-meta-color", "b"]' in said, (version, status, said)
    p = signer.generate_presigned_post(b, version + '/late', ExpiresIn=1)
    time.sleep(1.1)
    status, headers, said = post(p, 'late', small)
    assert status == 403 and 'Policy expired' in said, (version, status, said)
    assert s3.list_objects_v2(Bucket=b, Prefix=version + '/')['KeyCount'] == 2
print('done')
`

func TestFormsOfBoto3(t *testing.T) {
	t.Parallel()
	needPython(t, "boto3")
	inFrontOf(t, starters{embedded, versity}, func(t *testing.T, g *gateway) {
		dir := t.TempDir()
		one, two := writeFile(t, filepath.Join(dir, "one"), small), writeFile(t, filepath.Join(dir, "two"), big)
		if out := g.must("python3", "-c", botoForms, one, two); !strings.Contains(out, "done") {
			t.Error(out)
		}
	})
}

// uploadPage is a page of another origin, whose form is filled in and sent like a user would.
var uploadPage = template.Must(template.New("").Parse(`<!DOCTYPE html><title>Upload</title>
<form action="{{.Action}}" method="post" enctype="multipart/form-data">
{{range .Fields}}<input type="hidden" name="{{index . 0}}" value="{{index . 1}}">
{{end}}<input type="file" name="file"> <input type="submit" name="submit" value="Upload">
</form>
<script>
	const files = new DataTransfer();
	files.items.add(new File(["the content of the file"], "cat & dog.txt", {type: "text/plain"}));
	document.querySelector("[type=file]").files = files.files;
	document.querySelector("[type=submit]").click();
</script>`))

// TestFormInABrowser: Chromium uploads a file with an HTML form of another origin, and shows the page that
// the form leads to, or the gateway's document.
func TestFormInABrowser(t *testing.T) {
	need(t, "chromium")
	t.Parallel()
	g := startGateway(t, options{plain: true})
	client := &s3client.Client{Endpoint: g.endpoint}
	client.Must(t, "PUT", "/pagebucket", "", nil, nil)
	var pages *httptest.Server
	form := func(key string, more ...[2]string) s3client.Upload {
		u := s3client.Upload{AccessKey: accessKey, Secret: secretKey, Bucket: "pagebucket", Fields: append([][2]string{{"key", key}}, more...)}
		u.Conditions = []any{map[string]string{"bucket": "pagebucket"}, []string{"starts-with", "$key", "uploads/"}}
		for _, f := range more {
			u.Conditions = append(u.Conditions, map[string]string{f[0]: f[1]})
		}
		return u
	}
	pages = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u := form("uploads/${filename}", [2]string{"success_action_redirect", pages.URL + "/done"}, [2]string{"content-type", "text/plain"})
		switch r.URL.Path {
		case "/redirect":
		case "/document":
			u = form("uploads/document", [2]string{"success_action_status", "201"})
		case "/denied":
			u = form("elsewhere/${filename}")
		case "/done":
			fmt.Fprintf(w, "<title>Done</title>stored [%s] with %s", template.HTMLEscapeString(r.URL.Query().Get("key")), r.URL.Query().Get("etag"))
			return
		default:
			http.NotFound(w, r)
			return
		}
		if err := uploadPage.Execute(w, map[string]any{"Action": g.endpoint + "/pagebucket", "Fields": u.Signed()}); err != nil {
			t.Error(err)
		}
	}))
	defer pages.Close()
	content := []byte("the content of the file")
	sum := fmt.Sprintf("%x", md5.Sum(content))
	for path, want := range map[string][]string{
		"/redirect": {"<title>Done</title>", "stored [uploads/cat &amp; dog.txt]", sum},
		"/document": {"PostResponse", "uploads/document", sum},
		"/denied":   {"AccessDenied", "Policy Condition failed"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		cmd := exec.CommandContext(ctx, "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--user-data-dir="+t.TempDir(), "--virtual-time-budget=20000", "--dump-dom", pages.URL+path)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		shown, err := cmd.Output()
		cancel()
		if err != nil {
			t.Fatalf("%s: %v: %s", path, err, &stderr)
		}
		for _, text := range want {
			if !strings.Contains(string(shown), text) {
				t.Errorf("%s does not show %q:\n%s", path, text, shown)
			}
		}
	}
	for key, want := range map[string]int{"uploads/cat & dog.txt": 200, "uploads/document": 200, "elsewhere/cat & dog.txt": 404} {
		a := client.Must(t, "GET", "/pagebucket/"+key, "", nil, nil)
		if a.Status != want || want == 200 && !bytes.Equal(a.Body, content) {
			t.Errorf("%s: %d %q", key, a.Status, a.Body)
		}
	}
	if a := client.Must(t, "HEAD", "/pagebucket/uploads/cat & dog.txt", "", nil, nil); a.Header.Get("Content-Type") != "text/plain" {
		t.Errorf("%v", a.Header)
	}
}
