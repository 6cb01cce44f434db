package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	k8syaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"github.com/akidb/akigw/internal/testing/s3client"
	"github.com/akidb/akigw/internal/testing/testkit"
)

// TestKubernetesManifests: each document is of an API type and has only fields of that type. The
// parts fit together, and the configuration in them is valid.
func TestKubernetesManifests(t *testing.T) {
	t.Parallel()
	types := map[string]func() any{
		"v1/Secret": func() any { return &corev1.Secret{} }, "v1/ConfigMap": func() any { return &corev1.ConfigMap{} }, "v1/Service": func() any { return &corev1.Service{} },
		"apps/v1/StatefulSet": func() any { return &appsv1.StatefulSet{} }, "policy/v1/PodDisruptionBudget": func() any { return &policyv1.PodDisruptionBudget{} },
		"networking.k8s.io/v1/NetworkPolicy": func() any { return &networkingv1.NetworkPolicy{} },
	}
	var set *appsv1.StatefulSet
	var config *corev1.ConfigMap
	services, seen := map[string]*corev1.Service{}, 0
	documents := k8syaml.NewDocumentDecoder(io.NopCloser(bytes.NewReader(readFile(t, "../deploy/kubernetes/akigw.yaml"))))
	for {
		raw := make([]byte, 1<<20)
		n, err := documents.Read(raw)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		var head struct{ APIVersion, Kind string }
		if err := yaml.Unmarshal(raw[:n], &head); err != nil {
			t.Fatal(err)
		}
		if head.Kind == "" {
			continue
		}
		object := types[head.APIVersion+"/"+head.Kind]
		if object == nil {
			t.Fatalf("%s/%s is not a known type", head.APIVersion, head.Kind)
		}
		v := object()
		if err := yaml.UnmarshalStrict(raw[:n], v); err != nil {
			t.Errorf("%s: %v", head.Kind, err)
		}
		switch v := v.(type) {
		case *appsv1.StatefulSet:
			set = v
		case *corev1.ConfigMap:
			config = v
		case *corev1.Service:
			services[v.Name] = v
		}
		seen++
	}
	if seen != 7 || set == nil || config == nil || services[set.Spec.ServiceName] == nil {
		t.Fatalf("%d documents, %v", seen, services)
	}
	ports := map[string]bool{}
	c := set.Spec.Template.Spec.Containers[0]
	for _, p := range c.Ports {
		ports[p.Name] = true
	}
	for _, s := range services {
		if !ports[s.Spec.Ports[0].TargetPort.StrVal] || s.Spec.Selector["app.kubernetes.io/name"] != set.Spec.Template.Labels["app.kubernetes.io/name"] {
			t.Errorf("service %s does not reach the pods", s.Name)
		}
	}
	for _, probe := range []*corev1.Probe{c.StartupProbe, c.ReadinessProbe, c.LivenessProbe} {
		if probe == nil || !ports[probe.HTTPGet.Port.StrVal] {
			t.Errorf("a probe: %+v", probe)
		}
	}
	if *set.Spec.Template.Spec.TerminationGracePeriodSeconds <= 60 || !*c.SecurityContext.ReadOnlyRootFilesystem || !*set.Spec.Template.Spec.SecurityContext.RunAsNonRoot {
		t.Error("the pod is stopped too early, or runs with too many rights")
	}
	checkConfig(t, config.Data["akigw.toml"], "AKIGW_ACCESS_KEY=akey", "AKIGW_SECRET_KEY=a-long-secret", "AKIGW_UPSTREAM_ACCESS_KEY=akey", "AKIGW_UPSTREAM_SECRET_KEY=a-long-secret")
}

// checkConfig validates a configuration with akigw.
func checkConfig(t *testing.T, text string, env ...string) {
	t.Helper()
	path := writeFile(t, filepath.Join(t.TempDir(), "akigw.toml"), []byte(text))
	cmd := exec.Command(build(t, plain), "config", "check", "--config", path)
	cmd.Env = append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// TestSystemdUnit: systemd reports no mistakes in the unit, and a low exposure.
func TestSystemdUnit(t *testing.T) {
	need(t, "systemd-analyze")
	t.Parallel()
	dir := t.TempDir()
	// The test substitutes the binary, and whatever a minimal machine lacks.
	unit := strings.ReplaceAll(string(readFile(t, "../deploy/systemd/akigw.service")), "/usr/local/bin/akigw", "/bin/true")
	unit = regexp.MustCompile(`(?m)^(Wants|After|WantedBy)=.*$`).ReplaceAllString(unit, "")
	path := writeFile(t, filepath.Join(dir, "akigw.service"), []byte(unit))
	if out, err := exec.Command("systemd-analyze", "verify", "--man=no", path).CombinedOutput(); err != nil || strings.Contains(string(out), "akigw.service") {
		t.Errorf("%v: %s", err, out)
	}
	out, err := exec.Command("systemd-analyze", "security", "--offline=yes", "--no-pager", path).CombinedOutput()
	score := regexp.MustCompile(`Overall exposure level for akigw.service: ([0-9.]+) (\w+)`).FindSubmatch(out)
	if err != nil || score == nil || string(score[2]) != "OK" {
		t.Errorf("%v: %s", err, tail(string(out)))
	}
}

// TestAlertsAndDashboard: Prometheus accepts the rules and the metrics of a running gateway. Each
// query of the alerts and the dashboard uses metrics that the gateway has.
func TestAlertsAndDashboard(t *testing.T) {
	t.Parallel()
	_, behind := startMemory(t, 0, 8)
	g := startGateway(t, options{upstream: behind, config: backConfig, plain: true, env: []string{"AKIGW_ENABLE_FAULTS=true", "AKIGW_VECTORS_BUCKET=backbucket"}})
	client := &s3client.Client{Endpoint: g.endpoint}
	for range 3 {
		client.Must(t, "PUT", "/backbucket/k", "", nil, testkit.Bytes(1, 1000))
		client.Must(t, "GET", "/backbucket/k", "", nil, nil)
	}
	waitDrained(t, g, 10*time.Second)
	client.Must(t, "GET", "/backbucket/other", "", nil, nil) // causes a request to the upstream
	metrics := fetch(t, g.admin+"/metrics")
	if _, err := exec.LookPath("promtool"); err == nil {
		check := exec.Command("promtool", "check", "metrics")
		check.Stdin = bytes.NewReader(metrics)
		if out, err := check.CombinedOutput(); err != nil {
			t.Errorf("metrics: %v: %s", err, out)
		}
		if out, err := exec.Command("promtool", "check", "rules", "../deploy/prometheus/akigw.rules.yml").CombinedOutput(); err != nil {
			t.Errorf("rules: %v: %s", err, out)
		}
		if out, err := exec.Command("promtool", "check", "config", "../deploy/prometheus/scrape.yml").CombinedOutput(); err != nil {
			t.Errorf("scrape.yml: %v: %s", err, out)
		}
	} else {
		t.Log("promtool is not installed, so it does not check the rules")
	}
	queries := dashboardQueries(t)
	for _, q := range alertQueries(t) {
		queries[q] = "an alert"
	}
	if len(queries) < 40 {
		t.Errorf("%d queries", len(queries))
	}
	selector := regexp.MustCompile(`\b((?:akigw|process|go)_[a-z_]+)(\{[^}]*\})?`)
	for q, where := range queries {
		found := selector.FindAllStringSubmatch(q, -1)
		if len(found) == 0 && !strings.HasPrefix(q, "up{") {
			t.Errorf("%s does not query any metric of akigw: %s", where, q)
		}
		for _, m := range found {
			// A status that has not occurred has no counter, which counts as zero.
			label := regexp.MustCompile(`(kind|outcome)="[^"]*"`).FindString(m[2])
			if !regexp.MustCompile(`(?m)^` + m[1] + `(\{[^}]*` + label + `| )`).Match(metrics) {
				t.Errorf("%s: there is no %s %s: %s", where, m[1], label, q)
			}
		}
	}
}

// dashboardQueries returns the queries of the dashboard, with the title of their panel.
func dashboardQueries(t *testing.T) map[string]string {
	t.Helper()
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(readFile(t, "../deploy/grafana/akigw.json"), &dashboard); err != nil {
		t.Fatal(err)
	}
	queries := map[string]string{}
	for _, p := range dashboard.Panels {
		for _, q := range p.Targets {
			queries[q.Expr] = p.Title
		}
	}
	return queries
}

// alertQueries returns the queries of the alerts.
func alertQueries(t *testing.T) (queries []string) {
	t.Helper()
	for _, q := range regexp.MustCompile(`(?m)^ +expr: (.*)$`).FindAllStringSubmatch(string(readFile(t, "../deploy/prometheus/akigw.rules.yml")), -1) {
		queries = append(queries, q[1])
	}
	return queries
}

// TestDashboardHasData: a Prometheus that watches a gateway under load can evaluate each query of
// the dashboard and the alerts. The dashboard's queries return data.
func TestDashboardHasData(t *testing.T) {
	need(t, "prometheus")
	t.Parallel()
	_, behind := startMemory(t, 0, 8)
	g := startGateway(t, options{upstream: behind, config: backConfig, plain: true, env: []string{"AKIGW_ENABLE_FAULTS=true"}})
	dir, address := t.TempDir(), testkit.FreeAddr(t)
	config := writeFile(t, filepath.Join(dir, "prometheus.yml"), []byte(strings.NewReplacer("akigw:9001", strings.TrimPrefix(g.admin, "http://"), "scrape_interval: 5s", "scrape_interval: 500ms").Replace(string(readFile(t, "../deploy/prometheus/scrape.yml")))))
	prometheus := exec.Command("prometheus", "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+address)
	var said bytes.Buffer
	prometheus.Stdout, prometheus.Stderr = &said, &said
	if err := prometheus.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = prometheus.Process.Kill(); _ = prometheus.Wait() }()
	client := &s3client.Client{Endpoint: g.endpoint}
	data := func(expr string) (int, string) {
		resp, err := http.Get("http://" + address + "/api/v1/query?query=" + url.QueryEscape(expr))
		if err != nil {
			return 0, err.Error()
		}
		defer resp.Body.Close()
		var a struct {
			Status, Error string
			Data          struct{ Result []struct{ Value [2]any } }
		}
		if err := json.NewDecoder(resp.Body).Decode(&a); err != nil || a.Status != "success" {
			return -1, a.Error
		}
		return len(a.Data.Result), ""
	}
	missing := map[string]string{}
	for q, title := range dashboardQueries(t) {
		missing[strings.NewReplacer("$__rate_interval", "5s", "$instance", ".*").Replace(q)] = title
	}
	asked := len(missing)
	for deadline, n := time.Now().Add(60*time.Second), 0; len(missing) > 0 && time.Now().Before(deadline); n++ {
		for i := range 20 {
			key := fmt.Sprintf("/backbucket/%d", (n*20+i)%50)
			client.Must(t, "PUT", key, "", nil, testkit.Bytes(uint64(n), 1000))
			client.Must(t, "GET", key, "", nil, nil)
			client.Must(t, "GET", fmt.Sprintf("/backbucket/none-%d-%d", n, i), "", nil, nil)
		}
		time.Sleep(200 * time.Millisecond)
		if n%5 == 4 {
			for q := range missing {
				if found, _ := data(q); found > 0 {
					delete(missing, q)
				}
			}
		}
	}
	for q, title := range missing {
		_, why := data(q)
		t.Errorf("%s has no data: %s %s", title, q, why)
	}
	for _, q := range alertQueries(t) {
		if found, why := data(q); found != 0 {
			t.Errorf("an alert about a healthy gateway: %s: %d, %s", q, found, why)
		}
	}
	t.Logf("%d queries have data", asked-len(missing))
}

// TestDockerfile: a linter finds no mistakes, and the image contains only the binary, for a user
// other than root.
func TestDockerfile(t *testing.T) {
	need(t, "node")
	if _, err := os.Stat("js/node_modules/dockerfile-utils"); err != nil {
		t.Skip("dockerfile-utils is not installed: npm install --prefix e2e/js")
	}
	t.Parallel()
	cmd := exec.Command("node", "-e", `const { validate } = require("dockerfile-utils"); console.log(JSON.stringify(validate(require("fs").readFileSync("../../Dockerfile", "utf8"))))`)
	cmd.Dir = "js"
	out, err := cmd.CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "[]" {
		t.Errorf("%v: %s", err, out)
	}
	_, last, _ := strings.Cut(string(readFile(t, "../Dockerfile")), "FROM scratch")
	if !strings.Contains(last, "USER 65532:65532") || strings.Contains(last, "RUN ") {
		t.Errorf("the image: %s", last)
	}
}

// TestComposeFile: everything that the file refers to exists.
func TestComposeFile(t *testing.T) {
	t.Parallel()
	var compose struct {
		Services map[string]struct {
			Image, Command string
			Build          any
			Environment    map[string]string
			Volumes        []string
			Configs        []struct{ Source string }
			DependsOn      []string `json:"depends_on"`
		}
		Volumes, Configs map[string]any
	}
	if err := yaml.Unmarshal(readFile(t, "../docker-compose.yml"), &compose); err != nil {
		t.Fatal(err)
	}
	if len(compose.Services) < 5 {
		t.Errorf("%d services", len(compose.Services))
	}
	for name, s := range compose.Services {
		if s.Image == "" && s.Build == nil {
			t.Errorf("%s has neither an image nor a build", name)
		}
		for _, v := range s.Volumes {
			from, _, _ := strings.Cut(v, ":")
			_, named := compose.Volumes[from]
			_, err := os.Stat("../" + from)
			if !named && err != nil {
				t.Errorf("%s: there is no volume %s", name, v)
			}
		}
		for _, c := range s.Configs {
			if _, ok := compose.Configs[c.Source]; !ok {
				t.Errorf("%s: there is no config %s", name, c.Source)
			}
		}
		for _, other := range s.DependsOn {
			if _, ok := compose.Services[other]; !ok {
				t.Errorf("%s: there is no service %s", name, other)
			}
		}
	}
	var env []string
	for key, value := range compose.Services["akigw"].Environment {
		if strings.HasPrefix(value, "${") {
			value = "a-long-enough-value-for-" + key
		}
		env = append(env, key+"="+value)
	}
	checkConfig(t, "", env...)
}
