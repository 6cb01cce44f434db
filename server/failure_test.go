package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/akidb/akigw/faults"
	"github.com/akidb/akigw/internal/testing/s3client"
)

var errBroken = errors.New("it broke")

// all returns the tasks of a plan.
func (p *plan) all() (tasks []*task) {
	for _, some := range [][]task{p.listeners, p.workers, p.accounts} {
		for i := range some {
			tasks = append(tasks, &some[i])
		}
	}
	return tasks
}

// ended waits for a gateway that ends by itself.
func (r *running) ended(t *testing.T) error {
	t.Helper()
	defer http.DefaultClient.CloseIdleConnections()
	select {
	case err := <-r.done:
		return err
	case <-time.After(20 * time.Second):
		t.Fatal("the gateway goes on")
		return nil
	}
}

// breakable replaces the tasks that are selected by fakes that fail when their channel is closed.
func breakable(on onFailure) (breaks map[string]chan struct{}, change func(*Server, *plan)) {
	breaks = map[string]chan struct{}{}
	return breaks, func(s *Server, p *plan) {
		p.workers = append(p.workers, task{"refetch", endReadiness, nil})
		p.accounts = append(p.accounts, task{"memory limit", endReadiness, nil})
		for _, one := range p.all() {
			if one.on != on || strings.HasSuffix(one.name, "listener") { // TestFailedListeners
				if one.run == nil {
					one.run = func(context.Context) error { return nil }
				}
				continue
			}
			now := make(chan struct{})
			breaks[one.name] = now
			one.run = func(ctx context.Context) error {
				select {
				case <-now:
					return errBroken
				case <-ctx.Done():
					return nil
				}
			}
		}
	}
}

// logged reports whether the log says that a task failed.
func (r *running) logged(t *testing.T, name string) {
	t.Helper()
	if !strings.Contains(r.log.String(), `"task":"`+name+`","error":"`+name+`: it broke"`) {
		t.Errorf("the log does not say so: %s", r.log)
	}
}

// TestFailedTasks: a task that fails ends the gateway, or its readiness, at once and with the reason.
func TestFailedTasks(t *testing.T) {
	breaks, change := breakable(endReadiness)
	r := runPlan(t, config(t, "", t.TempDir()), change)
	if status, _ := r.get(t, "/readyz"); status != http.StatusOK || len(breaks) != 8 {
		t.Errorf("before: %d, %d tasks", status, len(breaks))
	}
	for name, now := range breaks {
		close(now)
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
			status, body := r.get(t, "/readyz")
			if status == http.StatusServiceUnavailable && strings.HasPrefix(body, "not ready: ") && strings.Contains(body, name+": it broke\n") {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s failed: %d %s", name, status, body)
			}
		}
		r.logged(t, name)
		client := &s3client.Client{Endpoint: r.endpoint, HTTP: http.DefaultClient}
		if a := client.Must(t, "GET", "/", "", nil, nil); a.Status != http.StatusForbidden { // S3 still answers
			t.Errorf("%s failed: %d", name, a.Status)
		}
	}
	r.end(t)

	for _, name := range []string{"tiers", "write-back", "users and keys"} {
		breaks, change := breakable(endServer)
		r := runPlan(t, config(t, "", t.TempDir()), change)
		if len(breaks) != 3 {
			t.Errorf("%d tasks end the gateway", len(breaks))
		}
		close(breaks[name])
		if err := r.ended(t); !errors.Is(err, errBroken) || !strings.Contains(err.Error(), name+": it broke") {
			t.Errorf("ended with %v", err)
		}
		r.logged(t, name)
	}
}

// TestFailuresAreDocumented: docs/operations.md has a row for each task, with what its failure leads
// to.
func TestFailuresAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(*config(t, "", t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	s.config.LimitMemory = true
	p := s.plan()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, one := range append(p.all(), &task{name: "refetch", on: endReadiness}, &task{name: "journal", on: endReadiness}) {
		consequence := map[onFailure]string{endServer: "ends", endReadiness: "not ready"}[one.on]
		if row := fmt.Sprintf("\n| %s | %s |", one.name, consequence); !strings.Contains(string(page), row) {
			t.Errorf("docs/operations.md has no row %q", row)
		}
	}
}

// TestFailedListeners: a listener whose socket fails ends the gateway at once, with an error.
// It does not wait for pending writes.
func TestFailedListeners(t *testing.T) {
	for name, pick := range map[string]func(*Server) *listener{
		"S3 listener":    func(s *Server) *listener { return s.front.listener },
		"admin listener": func(s *Server) *listener { return s.operator },
	} {
		t.Run(name, func(t *testing.T) {
			r := run(t, t.TempDir())
			l := pick(r.Server)
			address := l.socket.Addr().String()
			if err := l.socket.Close(); err != nil {
				t.Fatal(err)
			}
			if err := r.ended(t); err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), address) {
				t.Errorf("ended with %v", err)
			}
		})
	}
}

// TestFailedJournal: a journal that cannot sync takes no more writes, and the gateway is not ready
// from then on, and says why; it still serves reads.
func TestFailedJournal(t *testing.T) {
	file := filepath.Join(t.TempDir(), "akigw.toml")
	if err := os.WriteFile(file, []byte("[[rule]]\nbucket = \"back\"\nwrite = \"back\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := runFile(t, file, t.TempDir(), "AKIGW_ACCESS_KEY="+s3client.AccessKey, "AKIGW_SECRET_KEY="+s3client.SecretKey, "AKIGW_ENABLE_FAULTS=true")
	client := &s3client.Client{Endpoint: r.endpoint, HTTP: http.DefaultClient}
	if a := client.Must(t, "PUT", "/back", "", nil, nil); a.Status != 200 {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	if a := client.Must(t, "PUT", "/back/before", "", nil, []byte("body")); a.Status != 200 {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	if status, _ := r.get(t, "/readyz"); status != http.StatusOK {
		t.Fatalf("before: %d", status)
	}
	if err := r.faults.Set(faults.Plan{Faults: []faults.Fault{{Tier: faults.Journal, Effect: faults.FailedSync}}}); err != nil {
		t.Fatal(err)
	}
	client.Must(t, "PUT", "/back/fails", "", nil, []byte("body"))
	if status, body := r.get(t, "/readyz"); status != http.StatusServiceUnavailable || !strings.Contains(body, "not ready: the journal takes no writes") || !strings.Contains(body, "input/output error") {
		t.Errorf("%d %s", status, body)
	}
	if a := client.Must(t, "GET", "/back/before", "", nil, nil); a.Status != 200 || string(a.Body) != "body" {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	r.stop()
	t.Logf("ended with %v", r.ended(t)) // the failed journal returns its error again when it is closed
}
