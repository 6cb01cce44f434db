package e2e

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/akidb/akigw/internal/testing/s3client"
	"github.com/akidb/akigw/internal/testing/testkit"
)

// TestOpenAPI: the document is valid and names every route under /api that the running gateway
// answers. The responses match the document.
func TestOpenAPI(t *testing.T) {
	t.Parallel()
	_, behind := startMemory(t, 0, 8)
	g := startGateway(t, options{upstream: behind, config: backConfig, plain: true, env: []string{"AKIGW_ENABLE_FAULTS=true", "AKIGW_VECTORS_BUCKET=backbucket"}})
	g.operator()
	key := g.newKey("--user", "operator")
	ask := func(method, path, body string) (int, http.Header, []byte) {
		t.Helper()
		r, err := http.NewRequest(method, g.admin+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth(key.AccessKeyId, key.SecretAccessKey)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		raw, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, resp.Header, raw
	}
	eventually(t, "the key is not in effect", func() bool { code, _, _ := ask("GET", "/api/v1/keys", ""); return code == 200 })
	client := &s3client.Client{Endpoint: g.endpoint}
	client.Must(t, "PUT", "/backbucket/photos/cat.jpg", "", nil, testkit.Bytes(1, 1000))
	client.Must(t, "GET", "/backbucket/photos/cat.jpg", "", nil, nil)

	_, _, raw := ask("GET", "/api/v1/openapi.json", "")
	doc, err := openapi3.NewLoader().LoadFromData(raw)
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, _, snapshot := ask("POST", "/api/v1/snapshots", ""); !bytes.Contains(snapshot, []byte(`"id"`)) {
		t.Fatalf("%s", snapshot)
	}
	var list []struct{ ID string }
	_, _, all := ask("GET", "/api/v1/snapshots", "")
	if err := json.Unmarshal(all, &list); err != nil || len(list) == 0 {
		t.Fatalf("%v %s", err, all)
	}
	queries := map[string]string{
		"/api/v1/tier": "?bucket=backbucket", "/api/v1/tier/objects": "?bucket=backbucket", "/api/v1/rules/explain": "?bucket=backbucket&key=a",
		"/api/v1/tier/prefixes": "?bucket=backbucket", "/api/v1/audit": "?limit=5",
	}
	bodies := map[string][2]string{ // of POST requests: query and body
		"/api/v1/tier":   {"", `{"action": "promote_to_warm", "bucket": "backbucket", "prefix": "photos/"}`},
		"/api/v1/purge":  {"?bucket=backbucket&key=other", ""},
		"/api/v1/users":  {"", `{"name": "visitor", "policy": {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "arn:aws:s3:::*"}]}}`},
		"/api/v1/keys":   {"", `{"user": "visitor", "seconds": 900}`},
		"/api/v1/faults": {"?preset=slowdown", ""},
	}
	checked := 0
	check := func(method, path, query, body string, op *openapi3.Operation) {
		code, header, raw := ask(method, path+query, body)
		if code != 200 {
			t.Errorf("%s %s: %d %s", method, path, code, raw)
			return
		}
		content := op.Responses.Value("200").Value.Content.Get("application/json")
		if content == nil {
			return
		}
		var v any
		if err := json.Unmarshal(raw, &v); err != nil || !strings.HasPrefix(header.Get("Content-Type"), "application/json") {
			t.Errorf("%s %s: %v, %s", method, path, err, header.Get("Content-Type"))
			return
		}
		if err := content.Schema.Value.VisitJSON(v); err != nil && v != nil {
			t.Errorf("%s %s answers %s: %v", method, path, raw, err)
		}
		known(t, method+" "+path, v, content.Schema.Value)
		checked++
	}
	for _, path := range slices.Sorted(slices.Values(doc.Paths.InMatchingOrder())) {
		item := doc.Paths.Value(path)
		if item.Get != nil {
			real := strings.ReplaceAll(path, "{id}", list[0].ID)
			if streams := item.Get.Responses.Value("200").Value.Content; streams.Get("text/event-stream") == nil && streams.Get("application/x-ndjson") == nil {
				check("GET", real, queries[path], "", item.Get)
			}
		}
	}
	for _, path := range []string{"/api/v1/tier", "/api/v1/purge", "/api/v1/users", "/api/v1/keys", "/api/v1/faults"} {
		check("POST", path, bodies[path][0], bodies[path][1], doc.Paths.Value(path).Post)
	}
	check("DELETE", "/api/v1/faults", "", "", doc.Paths.Value("/api/v1/faults").Delete)
	check("DELETE", "/api/v1/users/visitor", "", "", doc.Paths.Value("/api/v1/users/{name}").Delete)
	if checked < 24 {
		t.Errorf("%d responses were checked", checked)
	}
}

// known fails the test for each field of a response that the document does not contain.
func known(t *testing.T, where string, v any, schema *openapi3.Schema) {
	t.Helper()
	switch v := v.(type) {
	case []any:
		for _, one := range v {
			known(t, where, one, schema.Items.Value)
		}
	case map[string]any:
		for name, value := range v {
			switch property := schema.Properties[name]; {
			case property != nil:
				known(t, where+" "+name, value, property.Value)
			case schema.AdditionalProperties.Schema == nil && len(schema.Properties) > 0:
				t.Errorf("%s: the document does not contain %q", where, name)
			}
		}
	}
}
