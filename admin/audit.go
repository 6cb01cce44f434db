package admin

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"gopkg.in/natefinch/lumberjack.v2"
)

// Audited is one change that somebody made, or tried to, on the admin listener: a line of the
// audit log.
type Audited struct {
	Time      time.Time `json:"time"`
	AccessKey string    `json:"access_key"` // "" if it was not known
	Remote    string    `json:"remote"`
	Method    string    `json:"method"`
	Path      string    `json:"path"`
	Query     string    `json:"query,omitempty"`
	Status    int       `json:"status"`
}

// Audit is the audit log, a file of JSON lines. Any goroutine may use it.
type Audit struct {
	file string
	mu   sync.Mutex
	to   io.WriteCloser // guarded by mu
}

// The size in MiB at which the audit log is put aside, and how many that were put aside are
// kept.
const (
	auditMiB  = 20
	auditKeep = 50
)

// OpenAudit begins the log, or goes on with it.
func OpenAudit(file string) *Audit {
	return &Audit{file: file, to: &lumberjack.Logger{Filename: file, MaxSize: auditMiB, MaxBackups: auditKeep, Compress: true}}
}

// Close closes the file.
func (a *Audit) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.to.Close()
}

// note writes a line. The error says that it is not there.
func (a *Audit) note(one Audited) error {
	raw, err := json.Marshal(one)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	_, err = a.to.Write(append(raw, '\n'))
	return err
}

// last are the last n lines of the file that is being written, the newest first.
func (a *Audit) last(n int) ([]Audited, error) {
	all := []Audited{}
	f, err := os.Open(a.file)
	if os.IsNotExist(err) {
		return all, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var one Audited
		if json.Unmarshal(bytes.TrimSpace(lines.Bytes()), &one) == nil {
			all = append(all, one)
		}
		if len(all) > 2*n {
			all = append(all[:0], all[len(all)-n:]...)
		}
	}
	all = all[max(0, len(all)-n):]
	slices.Reverse(all)
	return all, lines.Err()
}

// mostAudited is how many lines one answer has.
const mostAudited = 1000

// audited says who changed what lately.
func (s *Server) audited(w http.ResponseWriter, r *http.Request) {
	n := 100
	if text := r.URL.Query().Get("limit"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil || n < 1 || n > mostAudited {
			http.Error(w, "limit must be 1 to 1000", http.StatusBadRequest)
			return
		}
	}
	if s.Audit == nil {
		writeJSON(w, []Audited{})
		return
	}
	all, err := s.Audit.last(n)
	if err != nil {
		answer(w, err)
		return
	}
	writeJSON(w, all)
}
