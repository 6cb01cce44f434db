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

// Audited is one change that somebody made, or tried to, on the admin listener: a line of the
// audit log. Long fields are cut, and end in how many bytes were left out.
type Audited struct {
	Time      time.Time `json:"time"`
	AccessKey string    `json:"access_key"` // "" if it was not known
	Remote    string    `json:"remote"`
	Method    string    `json:"method"`
	Path      string    `json:"path"`
	Query     string    `json:"query,omitempty"`
	Status    int       `json:"status"`
	// LeftOut, if it is not 0, is all that the line says besides Time: so many rejected
	// requests before it have no line of their own.
	LeftOut int `json:"left_out,omitempty"`
}

// Audit is the audit log, a file of JSON lines. Any goroutine may use it.
type Audit struct {
	file     string
	rejected *sampler
	mu       sync.Mutex
	to       io.WriteCloser // guarded by mu
}

// The size in MiB at which the audit log is put aside, and how many that were put aside are
// kept.
const (
	auditMiB  = 20
	auditKeep = 50
)

// How long, in bytes, the fields of a line may be. JSON can make six bytes of one, so that no
// line has more than 64 KiB. What changes something names a key at most, which takes 3 KiB in
// a query.
const (
	maxAuditKey      = 128
	maxAuditField    = 4 << 10
	maxRejectedField = 256
)

// maxAuditLine is the longest line in bytes that is read: earlier releases wrote all that a
// client sent.
const maxAuditLine = 8 << 20

// OpenAudit begins the log, or goes on with it.
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

// note writes a line about a request that was let in. The error says that it is not there.
func (a *Audit) note(one Audited) error {
	return errors.Join(a.tellLeftOut(one.Time), a.write(one.cut(maxAuditField)))
}

// noteRejected writes a line about a request that was rejected, unless there are too many:
// then a later line says how many were left out.
func (a *Audit) noteRejected(one Audited) error {
	if !a.rejected.allow(one.Time) {
		return nil
	}
	return errors.Join(a.tellLeftOut(one.Time), a.write(one.cut(maxRejectedField)))
}

// tellLeftOut writes how many rejected requests were left out since it was told last.
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

// cut is a line whose fields have limit bytes at most, and a few that say so.
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

// last are the last n lines of the file that is being written, the newest first. Before them
// is how many rejected requests were left out since.
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

// readLine reads a line. One that is longer than maxAuditLine is passed over, and read as an
// empty one. The error is io.EOF at the end.
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
