package e2e

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/minio/minio-go/v7/pkg/s3utils"
	"github.com/minio/minio-go/v7/pkg/signer"
)

var updateDocs = flag.Bool("update", false, "rewrite docs/differences.md")

// hopHeaders may differ on any response, because the gateway is a hop of its own.
var hopHeaders = map[string]string{
	"X-Amz-Request-Id":            "each hop has its own id; the upstream's is in x-akigw-upstream-request-id where the request was forwarded",
	"X-Amz-Id-2":                  "the gateway names itself",
	"X-Akigw-Cache":               "added: where the bytes came from",
	"X-Akigw-Commit":              "added: where an acknowledged write is",
	"X-Akigw-Upstream-Request-Id": "added: the upstream's request id",
	"X-Akigw-Upstream-Id-2":       "added: the upstream's x-amz-id-2",
	"Age":                         "added: seconds since the upstream confirmed the object (RFC 9111 §5.1)",
	"X-Content-Type-Options":      "added to the gateway's own error documents",
	"Server":                      "names the software; the gateway does not forward the upstream's name",
	"Date":                        "each hop dates its own response",
	"Connection":                  "applies to one hop (RFC 9110 §7.6.1)",
	"Transfer-Encoding":           "applies to one hop (RFC 9112 §6.1)",
	"Vary":                        "concerns browsers; cached responses do not depend on request headers",
	"X-Amzn-Requestid":            "another header with the upstream's request id",
	"Access-Control-Allow-Origin": "concerns browsers", "Access-Control-Allow-Methods": "concerns browsers", "Access-Control-Expose-Headers": "concerns browsers",
}

// anything stands for an entirely different response.
const anything = "the answer"

// explained is one more difference and its reason.
type explained struct {
	upstream string         // "" for both
	step     *regexp.Regexp // its name
	what     []string
	why      string
	used     atomic.Bool
}

func explain(upstream, step, why string, what ...string) *explained {
	return &explained{upstream: upstream, step: regexp.MustCompile("^(" + step + ")$"), what: what, why: why}
}

// TestTransparency sends the same sequence of requests to an upstream directly and, through the
// gateway, to another one of the same kind. It compares status, code, headers and body. Every
// difference has an explanation in docs/differences.md, which the test keeps up to date.
func TestTransparency(t *testing.T) {
	t.Parallel()
	var page strings.Builder
	fmt.Fprintf(&page, `# Differences

This page lists every difference between what a client sees through the gateway and what it sees from the upstream itself, for a sequence of %d requests to
versitygw (posix backend) and to moto. Both sequences start with empty services; dates, ids and addresses are normalised. This page is
written and checked by a test in `+"`e2e/`"+`. The test fails if a difference is missing here, and if an explanation applies to no difference.

## On any response

| header | why |
|---|---|
`, len(steps()))
	for _, name := range slices.Sorted(func(yield func(string) bool) {
		for name := range hopHeaders {
			if !yield(name) {
				return
			}
		}
	}) {
		fmt.Fprintf(&page, "| %s | %s |\n", strings.ToLower(name), hopHeaders[name])
	}
	fmt.Fprintf(&page, "\n## On some responses\n\n| upstream | requests | differs in | why |\n|---|---|---|---|\n")
	rules := explanations()
	var ran atomic.Int32
	t.Run("upstreams", func(t *testing.T) {
		for name, start := range map[string]func(testing.TB) upstream{"versitygw": versity, "moto": moto} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				direct := endpointOf{start(t).endpoint, upstreamAccessKey, upstreamSecretKey, map[string]string{}, true}
				g := startGateway(t, options{upstream: start(t)})
				through := endpointOf{g.endpoint, accessKey, secretKey, map[string]string{}, false}
				ran.Add(1)
				for _, s := range steps() {
					compareStep(t, rules, name, s, direct, through)
				}
			})
		}
	})
	if ran.Load() < 2 || t.Failed() {
		return
	}
	for _, r := range rules {
		if !r.used.Load() {
			t.Errorf("nothing differs any more as in %q (%s): %s", r.step, r.upstream, r.why)
		}
		fmt.Fprintf(&page, "| %s | %s | %s | %s |\n", orBoth(r.upstream), strings.ReplaceAll(strings.Trim(r.step.String(), "^$()"), "|", " · "), strings.Join(r.what, ", "), r.why)
	}
	const path = "../docs/differences.md"
	if *updateDocs {
		if err := os.WriteFile(path, []byte(page.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if got, err := os.ReadFile(path); err != nil || string(got) != page.String() {
		t.Errorf("docs/differences.md is not what was measured; run go test -run TestTransparency -update in e2e")
	}
	if len(steps()) < 300 {
		t.Errorf("only %d requests were compared", len(steps()))
	}
}

// compareStep sends s both ways and looks for an explanation of every difference.
func compareStep(t *testing.T, rules []*explained, upstream string, s step, direct, through endpointOf) {
	a, b := direct.do(t, s), through.do(t, s)
	for _, d := range compare(a, b) {
		if browsers := s.header.Get("Origin") != "" && (d == "Vary" || strings.HasPrefix(d, "Access-Control-")); hopHeaders[d] != "" && !browsers {
			continue
		}
		i := slices.IndexFunc(rules, func(r *explained) bool {
			return (r.upstream == "" || r.upstream == upstream) && r.step.MatchString(s.name) && (r.what[0] == anything || slices.Contains(r.what, strings.ToLower(d)))
		})
		if i < 0 {
			t.Errorf("%s: unexplained difference in %s:\n  directly            %d %.300q\n  through the gateway %d %.300q", s.name, d, a.StatusCode, a.of(d), b.StatusCode, b.of(d))
			continue
		}
		rules[i].used.Store(true)
	}
}

func orBoth(upstream string) string {
	if upstream == "" {
		return "both"
	}
	return upstream
}

type endpointOf struct {
	url, access, secret string
	vars                map[string]string
	resets              bool // it may close a connection instead of reading the body, so that the response is lost
}

type answerOf struct {
	*http.Response
	body string
}

func (a answerOf) of(what string) string {
	switch what {
	case "status":
		return fmt.Sprint(a.StatusCode)
	case "code":
		return a.code()
	case "body":
		return a.body
	}
	return strings.Join(a.Header[what], " | ")
}

var errorCode = regexp.MustCompile(`<Code>([^<]*)</Code>`)

// code is the error code of a response, "" if there is none.
func (a answerOf) code() string {
	if m := errorCode.FindStringSubmatch(a.body); m != nil && a.StatusCode >= 300 {
		return m[1]
	}
	return ""
}

var (
	times    = regexp.MustCompile(`\d{4}-\d\d-\d\dT[0-9:.]+(Z|\+00:00)?|[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} [0-9:]+ GMT`)
	asctimes = regexp.MustCompile(`[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d [0-9:]+ \d{4}`) // of some of moto's responses
	ids      = regexp.MustCompile(`<(RequestId|RequestID|HostId|UploadId|VersionId)>[^<]*<`)
	location = regexp.MustCompile(`http://127\.0\.0\.1:\d+`)
)

// do sends a step and normalises the response.
func (e endpointOf) do(t *testing.T, s step) answerOf {
	t.Helper()
	fill := func(text string) string {
		for name, value := range e.vars {
			text = strings.ReplaceAll(text, "{"+name+"}", value)
		}
		return text
	}
	u, err := url.Parse(e.url)
	if err != nil {
		t.Fatal(err)
	}
	query, err := url.ParseQuery(s.query)
	if err != nil {
		t.Fatal(err)
	}
	for _, values := range query {
		values[0] = fill(values[0])
	}
	u.Path, u.RawQuery = s.path, strings.ReplaceAll(query.Encode(), "+", "%20")
	u.RawPath = s3utils.EncodePath(u.Path)
	r := &http.Request{Method: s.method, URL: u, Host: u.Host, Header: http.Header{}}
	for name, values := range s.header {
		r.Header[name] = []string{fill(values[0])}
	}
	body := fill(s.body)
	if body != "" {
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
	}
	if r.Header.Get("X-Amz-Content-Sha256") == "" {
		r.Header.Set("X-Amz-Content-Sha256", hexSHA256(body))
	}
	resp, err := http.DefaultTransport.RoundTrip(signer.SignV4(*r, e.access, e.secret, "", region))
	for again := 0; e.resets && again < 50 && (errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, io.EOF)); again++ {
		r.Body = io.NopCloser(strings.NewReader(body))
		resp, err = http.DefaultTransport.RoundTrip(signer.SignV4(*r, e.access, e.secret, "", region))
	}
	if err != nil {
		t.Fatalf("%s to %s: %v", s.name, e.url, err)
	}
	raw := string(readAll(t, resp.Body))
	for _, k := range s.keep {
		name, from, _ := strings.Cut(k, "=")
		e.vars[name] = resp.Header.Get(from)
		if element := strings.Trim(from, "<>"); element != from {
			_, rest, _ := strings.Cut(raw, from)
			value, _, _ := strings.Cut(rest, "</"+element+">")
			e.vars[name] = strings.ReplaceAll(value, "&quot;", `"`)
		}
	}
	return e.normalise(resp, raw)
}

// normalise removes what differs from one execution to the next.
func (e endpointOf) normalise(resp *http.Response, raw string) answerOf {
	clean := func(text string) string {
		for name, value := range e.vars {
			if value != "" && !strings.HasPrefix(name, "etag") {
				text = strings.ReplaceAll(text, value, "{"+name+"}")
			}
		}
		text = asctimes.ReplaceAllString(times.ReplaceAllString(text, "TIME"), "ASCTIME")
		text = ids.ReplaceAllString(text, "<$1>ID<")
		return location.ReplaceAllString(text, "ENDPOINT")
	}
	text := raw
	if len(raw) < 1<<20 { // a longer one is the content of an object
		text = clean(raw)
	}
	for name, values := range resp.Header {
		for i := range values {
			values[i] = clean(values[i])
		}
		if name == "Content-Length" && text != raw {
			values[0] = fmt.Sprint(len(text))
		}
	}
	return answerOf{resp, text}
}

// compare returns the names of the headers, and "status", "code" or "body", in which two responses
// differ. Error documents with the same code are otherwise compared like any body.
func compare(a, b answerOf) (differs []string) {
	if a.StatusCode != b.StatusCode {
		differs = append(differs, "status")
	}
	if a.code() != b.code() {
		differs = append(differs, "code")
	}
	if a.body != b.body {
		differs = append(differs, "body")
	}
	names := map[string]bool{}
	for _, h := range []http.Header{a.Header, b.Header} {
		for name := range h {
			names[name] = true
		}
	}
	for name := range names {
		if a.of(name) != b.of(name) {
			differs = append(differs, name)
		}
	}
	slices.Sort(differs)
	return differs
}
