package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/akidb/akigw/sigv4"
)

// door decides who gets in. A request that brings credentials is judged by
// them, wherever it comes from; one that brings none may read, unless keys are
// asked for.
type door struct {
	verifier *sigv4.Verifier
	keys     sigv4.Keys
	keysOnly bool
	loopback bool
	// plaintext takes secrets over plain HTTP from afar.
	plaintext bool
	log       *slog.Logger
	sessions  sessions
	audit     *Audit   // nil: changes are in the log only
	refused   *sampler // refusals that are logged
	attempts  attempts
	throttled *metrics.Counter
}

var (
	errNoKeys    = errors.New("an admin key is needed: sign with signature version 4, or use HTTP basic authentication over loopback")
	errWrongKeys = errors.New("this is no admin key, or its signature is wrong; S3 keys are no admin keys")
	errConsole   = errors.New("a change with a console's cookie has to come from the console")
	errTooMany   = errors.New("too many wrong credentials came from your address; wait a minute")
	errHost      = errors.New("the Host header names neither localhost nor an address; a web page must not read this through your browser")
)

// guard puts the door in front of a route. What gets through it and changes something is
// audited, and so is what tried to.
func (d *door) guard(r route) http.Handler {
	if r.open {
		return r.handle
	}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		who, err := d.try(req, presents(req), func() (string, error) {
			if r.token != "" && bearer(req, r.token) {
				return "events_token", nil
			}
			return d.enter(req, r.private)
		})
		seen := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		if req.Method != http.MethodGet {
			defer func() { d.changed(req, who, seen.status, err != nil) }()
		}
		switch {
		case errors.Is(err, errTooMany):
			tooMany(seen)
		case errors.Is(err, errNoKeys):
			if req.Header.Get(consoleHeader) == "" { // the console asks by itself
				seen.Header().Set("WWW-Authenticate", `Basic realm="akigw admin"`)
			}
			http.Error(seen, err.Error(), http.StatusUnauthorized)
		case err != nil:
			d.warn("refused an admin request", "path", shortened(req.URL.Path, maxRejectedField), "remote", req.RemoteAddr, "error", err)
			http.Error(seen, err.Error(), http.StatusForbidden)
		default:
			r.handle(seen, req)
		}
	})
}

// try checks credentials, unless too many from where they come were wrong. Wrong ones wait
// for their answer. What presents none is checked at once.
func (d *door) try(r *http.Request, presented bool, check func() (string, error)) (who string, err error) {
	if !presented {
		return check()
	}
	from := origin(r.RemoteAddr)
	if d.attempts.blocked(from, time.Now()) > 0 {
		d.throttled.Inc()
		return "", errTooMany
	}
	who, err = check()
	if errors.Is(err, errWrongKeys) {
		d.attempts.failed(from, time.Now())
		pause(r.Context())
	}
	return who, err
}

// tooMany is the answer to errTooMany.
func tooMany(w http.ResponseWriter) {
	w.Header().Set("Retry-After", strconv.Itoa(int(wrongWindow.Seconds())))
	http.Error(w, errTooMany.Error(), http.StatusTooManyRequests)
}

// warn logs a refusal, unless there are too many: a later line says how many were left out.
func (d *door) warn(text string, args ...any) {
	if !d.refused.allow(time.Now()) {
		return
	}
	if n := d.refused.take(); n > 0 {
		args = append(args, "left_out_before", n)
	}
	d.log.Warn(text, args...)
}

// changed takes down that somebody changed something, or tried to and was rejected.
func (d *door) changed(r *http.Request, who string, status int, rejected bool) {
	one := Audited{Time: time.Now().UTC(), AccessKey: who, Remote: r.RemoteAddr, Method: r.Method, Path: r.URL.Path, Query: r.URL.RawQuery, Status: status}
	var err error
	switch {
	case rejected && d.audit != nil:
		err = d.audit.noteRejected(one)
	case !rejected:
		d.log.Info("admin request", "method", r.Method, "path", shortened(r.URL.Path, maxAuditField), "access_key", who, "remote", r.RemoteAddr, "status", status)
		if d.audit != nil {
			err = d.audit.note(one)
		}
	}
	if err != nil {
		d.log.Error("the audit log could not be written", "error", err)
	}
}

// statusWriter remembers the status of an answer.
type statusWriter struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements http.ResponseWriter.
func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// enter returns the access key that a request came with, "" for none. Without
// one, reading is all that can be done, and of what is private not even that.
func (d *door) enter(r *http.Request, private bool) (accessKey string, err error) {
	if user, password, ok := r.BasicAuth(); ok {
		return user, d.basic(r, user, password)
	}
	id, payload, err := d.verifier.Verify(r, r.URL.Path, r.URL.Query())
	switch {
	case err != nil:
		return "", errWrongKeys
	case !id.Anonymous():
		r.Body = io.NopCloser(payload) // which has to be what was signed
		return id.AccessKey(), nil
	}
	if who := d.sessions.of(r, time.Now()); who != "" {
		if _, known := d.keys.Lookup(who); known {
			if r.Method != http.MethodGet && r.Header.Get(consoleHeader) == "" {
				return "", errConsole
			}
			return who, nil
		}
	}
	switch {
	case r.Method != http.MethodGet || private || d.keysOnly:
		return "", errNoKeys
	case d.loopback && !localName(r.Host):
		return "", errHost
	}
	return "", nil
}

// bearer reports whether a request brings a token. MinIO's webhook target sends
// its auth_token so.
func bearer(r *http.Request, token string) bool {
	brought, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	return ok && subtle.ConstantTimeCompare([]byte(brought), []byte(token)) == 1
}

// basic checks a password. It came in the clear, so it has to have stayed on
// this machine, unless an operator knows better.
func (d *door) basic(r *http.Request, user, password string) error {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if !d.plaintext && r.TLS == nil && (err != nil || !from.Addr().Unmap().IsLoopback()) {
		return errWrongKeys
	}
	key, known := d.keys.Lookup(user)
	if !known {
		key.Secret = "no such key, and the same work as for one that exists"
	}
	// Digests, because the comparison of texts takes less time where their lengths differ.
	want, got := sha256.Sum256([]byte(key.Secret)), sha256.Sum256([]byte(password))
	right := subtle.ConstantTimeCompare(want[:], got[:]) == 1
	if !right || !known || key.Token != "" || !key.Expires.IsZero() && !time.Now().Before(key.Expires) {
		return errWrongKeys
	}
	return nil
}

// localName reports whether a Host header can only have been typed for this
// machine: a foreign name that resolves to loopback is DNS rebinding.
func localName(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.Trim(host, "[]")
	_, err := netip.ParseAddr(host)
	return err == nil || strings.EqualFold(host, "localhost")
}
