package admin

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/akidb/akigw/internal/rotate"
)

// Audited is a line of the audit log: a change that was made or attempted on the admin listener.
// Long fields are truncated; they end with the number of bytes that were left out.
type Audited struct {
	Time      time.Time `json:"time"`
	AccessKey string    `json:"access_key"` // "" if unknown
	Remote    string    `json:"remote"`
	Method    string    `json:"method"`
	Path      string    `json:"path"`
	Query     string    `json:"query,omitempty"`
	Status    int       `json:"status"`
	// LeftOut is the number of rejected requests before this line that have no line of their own.
	// If it is not 0, only Time is set besides it.
	LeftOut int `json:"left_out,omitempty"`
}

// Audit is the audit log, a file of JSON lines. Its methods may be called concurrently.
type Audit struct {
	file     string
	rejected *sampler
	mu       sync.Mutex
	to       io.WriteCloser // guarded by mu
}

// The size in MiB at which the audit log is rotated, and the number of rotated files that are kept.
const (
	auditMiB  = 20
	auditKeep = 50
)

// The maximum length of a field in bytes. JSON may escape one byte as six, so a line has at most
// 64 KiB. Requests that change something contain one key at most, which takes 3 KiB in a query.
const (
	maxAuditKey      = 128
	maxAuditField    = 4 << 10
	maxRejectedField = 256
)

// maxAuditLine bounds the lines that are read, in bytes: earlier releases did not truncate what a
// client had sent.
const maxAuditLine = 8 << 20

// OpenAudit opens the audit log at path, or creates it.
func OpenAudit(file string) *Audit {
	return &Audit{file: file, rejected: newSampler(), to: rotate.New(rotate.Options{Path: file, MaxBytes: auditMiB << 20, Keep: auditKeep})}
}

// Close closes the file.
func (a *Audit) Close() error {
	err := a.tellLeftOut(time.Now().UTC())
	a.mu.Lock()
	defer a.mu.Unlock()
	return errors.Join(err, a.to.Close())
}

// note writes a line about an authorised request. If it returns an error, the line was not written.
func (a *Audit) note(one Audited) error {
	return errors.Join(a.tellLeftOut(one.Time), a.write(one.cut(maxAuditField)))
}

// noteRejected writes a line about a rejected request. If there are too many, it only counts the
// request, and a later line gives the count.
func (a *Audit) noteRejected(one Audited) error {
	if !a.rejected.allow(one.Time) {
		return nil
	}
	return errors.Join(a.tellLeftOut(one.Time), a.write(one.cut(maxRejectedField)))
}

// tellLeftOut writes how many rejected requests were left out since the last such line.
func (a *Audit) tellLeftOut(now time.Time) error {
	n := a.rejected.take()
	if n == 0 {
		return nil
	}
	err := a.write(Audited{Time: now, LeftOut: n})
	if err != nil {
		a.rejected.add(n)
	}
	return err
}

// cut returns a line whose fields are truncated to limit bytes plus a note of how much is missing.
func (one Audited) cut(limit int) Audited {
	one.AccessKey = shortened(one.AccessKey, maxAuditKey)
	one.Remote = shortened(one.Remote, maxAuditKey)
	one.Method = shortened(one.Method, maxAuditKey)
	one.Path = shortened(one.Path, limit)
	one.Query = shortened(one.Query, limit)
	return one
}

func (a *Audit) write(one Audited) error {
	raw, err := json.Marshal(one)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	_, err = a.to.Write(append(raw, '\n'))
	return err
}

// last returns the last n lines of the current file, newest first. They follow a line with the
// number of rejected requests that were left out since, if any.
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
	lines := bufio.NewReaderSize(f, 64<<10)
	for {
		raw, err := readLine(lines)
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		var one Audited
		if json.Unmarshal(bytes.TrimSpace(raw), &one) == nil {
			all = append(all, one.cut(maxAuditField))
		}
		if len(all) > 2*n {
			all = append(all[:0], all[len(all)-n:]...)
		}
	}
	if left := a.rejected.take(); left > 0 {
		a.rejected.add(left) // it is written with the next line
		all = append(all, Audited{Time: time.Now().UTC(), LeftOut: left})
	}
	all = all[max(0, len(all)-n):]
	slices.Reverse(all)
	return all, nil
}

// readLine reads a line. A line longer than maxAuditLine is skipped and returned as empty. At the
// end of the file the error is io.EOF.
func readLine(from *bufio.Reader) (line []byte, err error) {
	long := false
	for {
		piece, err := from.ReadSlice('\n')
		if long = long || len(line)+len(piece) > maxAuditLine; long {
			line = nil
		} else {
			line = append(line, piece...)
		}
		switch {
		case err == bufio.ErrBufferFull:
		case err == io.EOF && (len(line) > 0 || long):
			return line, nil
		default:
			return line, err
		}
	}
}

// mostAudited bounds the lines in one response.
const mostAudited = 1000

// audited returns the latest lines of the audit log.
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
