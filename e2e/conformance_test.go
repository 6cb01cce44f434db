package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"testing"

	"github.com/versity/versitygw/tests/integration"

	"github.com/akidb/akigw/internal/testing/testkit"
)

// conformance is one execution of versitygw's public test suite, which works against any S3
// endpoint. It has its own process, because the suite prints, and its clients and counters are
// global.
type conformance struct {
	Endpoint, AccessKey, SecretKey string
	Versioning                     bool
	Names                          []string // all tests of the suite if empty
	Results                        string   // the file for the failures
}

// run returns the messages of the failed tests by name, and nothing if all pass.
func (c conformance) run(t *testing.T) map[string]string {
	t.Helper()
	c.Results = filepath.Join(t.TempDir(), "results")
	arguments, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "AKIGW_E2E_CONFORMANCE="+string(arguments), "AWS_CA_BUNDLE=") // its clients do not use one
	cmd.Dir = t.TempDir()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, &stderr)
	}
	var results map[string]string
	if err := json.Unmarshal(readFile(t, c.Results), &results); err != nil {
		t.Fatal(err)
	}
	return results
}

// runConformance is the main function of that process.
func runConformance(arguments string) error {
	var c conformance
	if err := json.Unmarshal([]byte(arguments), &c); err != nil {
		return err
	}
	opts := []integration.Option{
		integration.WithAccess(c.AccessKey), integration.WithSecret(c.SecretKey), integration.WithRegion(region),
		integration.WithEndpoint(c.Endpoint), integration.WithSidecarMode(),
	}
	if c.Versioning {
		opts = append(opts, integration.WithVersioningEnabled())
	}
	suite, conf, results := integration.GetIntTests(), integration.NewS3Conf(opts...), map[string]string{}
	for name := range suite {
		if len(c.Names) == 0 {
			results[name] = ""
		}
	}
	for _, name := range c.Names {
		results[name] = ""
	}
	for _, name := range slices.Sorted(maps.Keys(results)) {
		results[name] = runOne(suite[name], conf)
	}
	text, err := json.Marshal(results)
	if err != nil {
		return err
	}
	return os.WriteFile(c.Results, text, 0o600)
}

func runOne(test integration.IntTest, conf *integration.S3Conf) (said string) {
	defer func() {
		if r := recover(); r != nil {
			said = fmt.Sprint("panic: ", r)
		}
	}()
	if err := test(conf); err != nil {
		return err.Error()
	}
	return ""
}

// unlike lists the tests of the suite that pass directly but not through the gateway, with the
// reasons.
var unlike = []struct{ tests, why string }{
	{"PostObject_access_denied", "S3's message ends without a full stop"},
	{"PostObject_expired_due_to_date", "the suite demands that a form expires an hour after it was signed; with S3 its policy alone says when"},
	{"PostObject_success_status_201", "the suite demands a namespace, which S3's PostResponse has not"},
	{"PresignedAuth_sigv2_not_supported", "the suite demands that URLs of signature version 2 are refused; S3 takes them, and so does the gateway"},
	{"PublicBucket_.*", "who may read without credentials is the gateway's rule, not the upstream's; and S3's message ends without a full stop"},
	{"IAM_CreateBucket_.*", "a method of versitygw's own"},
	{"PreflightOPTIONS_(non_existing_bucket|unset_bucket_cors)", "a preflight is not signed: the gateway's no is the same for every bucket"},
	{"PresignedAuth_security_token_with_permanent_credentials", "the signature is judged first: what is wrong with the token of a key would tell that there is such a key"},
	{"Server_large_http_header", "the gateway's limit is 16 KiB"},
	{"(Signed|Unsigned)StreamingPayload(Trailer)?_invalid_chunk_size", "small chunks are read; there are upstreams that take them, and clients that send them"},
	{"DeleteObjects_empty_input", "S3 answers MalformedXML"},
	{"ListObjects_invalid_max_keys|ListObjectVersions_negative_max_keys|ListMultipartUploads_invalid_max_uploads|ListParts_invalid_max_parts", "the same code in other words, which name the argument"},
	{"UploadPartCopy_non_existing_bucket", "two mistakes in one request: no such bucket, and a copy source without a key. The gateway sees the second before it asks"},
	{"UploadPart_checksum_algorithm_mistmatch_on_initialization_with_value", "two mistakes in one request: another algorithm than the upload's, and a checksum that is wrong. The gateway sees the second before it sends"},
	{"UnsignedStreamingPayloadTrailer_incomplete_body", "two mistakes in one of its bodies: too long, and cut off. The gateway stops at the first"},
}

// TestT13_Conformance: the tests of versitygw's suite that pass directly also pass through the
// gateway, except for those in unlike.
func TestT13_Conformance(t *testing.T) {
	p := testkit.Prove(t, "T13")
	p.OnlyLong()
	var seen sync.Map
	var mu sync.Mutex
	t.Run("all", func(t *testing.T) {
		for name, start := range map[string]func(testing.TB) upstream{"plain": versity, "versioned": versityVersioned} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				up := start(t)
				g := startGateway(t, options{upstream: up, plain: true, env: []string{"AKIGW_ACCESS_KEY=" + upstreamAccessKey, "AKIGW_SECRET_KEY=" + upstreamSecretKey}})
				c := conformance{Endpoint: g.endpoint, AccessKey: upstreamAccessKey, SecretKey: upstreamSecretKey, Versioning: name == "versioned"}
				figures := c.compare(t, up, &seen)
				mu.Lock()
				defer mu.Unlock()
				p.Figure(name, figures)
			})
		}
	})
	for _, u := range unlike {
		if _, ok := seen.Load(u.tests); !ok {
			t.Errorf("no difference needs the explanation of %s any more", u.tests)
		}
	}
}

// compare runs the suite through the gateway, and directly for the tests that fail. Failures of the
// gateway have to occur twice, to rule out accidents. It returns how many tests pass.
func (c conformance) compare(t *testing.T, up upstream, seen *sync.Map) map[string]int {
	through := c.run(t)
	for name, said := range through {
		if said != "" {
			c.Names = append(c.Names, name)
		}
	}
	passed := len(through) - len(c.Names)
	if passed < 600 {
		t.Fatalf("only %d of %d tests pass", passed, len(through))
	}
	direct := c
	direct.Endpoint = up.endpoint
	c.Names = nil
	for name, said := range direct.run(t) {
		if said == "" {
			c.Names = append(c.Names, name)
		}
	}
	explained, again := 0, c.run(t)
	for name, said := range again {
		i := slices.IndexFunc(unlike, func(u struct{ tests, why string }) bool {
			return regexp.MustCompile("^(" + u.tests + ")$").MatchString(name)
		})
		switch {
		case said == "":
		case i < 0:
			t.Errorf("%s passes directly but not through the gateway: %s", name, said)
		default:
			seen.Store(unlike[i].tests, true)
			explained++
		}
	}
	return map[string]int{"tests": len(through), "pass through the gateway": passed, "directly only, for a reason": explained}
}
