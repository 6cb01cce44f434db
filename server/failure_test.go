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
	"github.com/akidb/akigw/internal/testing/testkit"
)

var errBroken = errors.New("it broke")

// all are the tasks of a plan.
func (p *plan) all() (tasks []*task) {
	for _, some := range [][]task{p.listeners, p.workers, p.accounts} {
		for i := range some {
			tasks = append(tasks, &some[i])
		}
	}
	return tasks
}

// ended waits for the end of a gateway, which comes by itself.
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

// unready waits until /readyz is 503, and returns what it says.
func (r *running) unready(t *testing.T) string {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		if status, body := r.get(t, "/readyz"); status == http.StatusServiceUnavailable {
			return body
		}
		if time.Now().After(deadline) {
			t.Fatal("the gateway is ready")
		}
	}
}

// TestFailedTasks: a task that fails ends the gateway, or its readiness, at once and with the
// reason, as docs/operations.md says of it.
func TestFailedTasks(t *testing.T) {
	page, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	c := config(t, "", t.TempDir())
	s, err := New(*c)
	if err != nil {
		t.Fatal(err)
	}
	s.config.LimitMemory = true
	p := s.plan()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	tasks := append(p.all(), &task{"refetch", endReadiness, nil})
	for _, one := range tasks {
		consequence := map[onFailure]string{endServer: "ends", endReadiness: "not ready"}[one.on]
		if row := fmt.Sprintf("| %s | %s |", one.name, consequence); !strings.Contains(string(page), row) {
			t.Errorf("docs/operations.md has no row %q", row)
		}
		if one.on == endServer && strings.Contains(one.name, "listener") {
			continue // TestFailedListeners
		}
		t.Run(one.name, func(t *testing.T) {
			breaks := make(chan struct{})
			r := runPlan(t, config(t, "", t.TempDir()), func(s *Server, p *plan) {
				broken := func(ctx context.Context) error {
					select {
					case <-breaks:
						return errBroken
					case <-ctx.Done():
						return nil
					}
				}
				for _, other := range p.all() {
					if other.name == one.name {
						other.run = broken
						return
					}
				}
				p.workers = append(p.workers, task{one.name, one.on, broken}) // one that is not always there
			})
			if status, _ := r.get(t, "/readyz"); status != http.StatusOK {
				t.Errorf("before: %d", status)
			}
			close(breaks)
			switch one.on {
			case endServer:
				if err := r.ended(t); !errors.Is(err, errBroken) || !strings.Contains(err.Error(), one.name+": it broke") {
					t.Errorf("ended with %v", err)
				}
			case endReadiness:
				if body := r.unready(t); body != "not ready: "+one.name+": it broke\n" {
					t.Errorf("%q", body)
				}
				client := &testkit.Client{Endpoint: r.endpoint, HTTP: http.DefaultClient}
				if a := client.Must(t, "GET", "/", "", nil, nil); a.Status != http.StatusForbidden { // S3 still answers
					t.Errorf("%d", a.Status)
				}
				r.end(t)
			}
			if !strings.Contains(r.log.String(), `"task":"`+one.name+`","error":"`+one.name+`: it broke"`) {
				t.Errorf("the log does not say so: %s", r.log)
			}
		})
	}
}

// TestFailedListeners: a listener whose socket fails ends the gateway at once, with an error.
// What is pending is not waited for.
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
	r := runFile(t, file, t.TempDir(), "AKIGW_ACCESS_KEY="+testkit.AccessKey, "AKIGW_SECRET_KEY="+testkit.SecretKey, "AKIGW_ENABLE_FAULTS=true")
	client := &testkit.Client{Endpoint: r.endpoint, HTTP: http.DefaultClient}
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
	t.Logf("ended with %v", r.ended(t)) // the journal that failed says so as it is closed
}
