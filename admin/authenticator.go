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

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/sigv4"
)

// authenticator decides who may do what on the admin listener. A request with credentials is judged
// by them, wherever it comes from. A request without credentials may only read, unless keys are
// required for reading as well.
type authenticator struct {
	verifier *sigv4.Verifier
	keys     sigv4.Keys
	keysOnly bool
	loopback bool
	// plaintext accepts secrets over plain HTTP from other machines.
	plaintext bool
	log       *slog.Logger
	sessions  sessions
	audit     *Audit   // nil: changes are recorded in the log only
	refused   *sampler // bounds the refusals in the log
	attempts  attempts
	throttled *metrics.Counter
}

const (
	errNoKeys    = akigw.Error("this requires an admin key: sign with signature version 4, or use HTTP basic authentication over loopback")
	errWrongKeys = akigw.Error("unknown admin key or wrong signature; S3 keys are not admin keys")
	errConsole   = akigw.Error("a change that is authorised by the console's cookie must come from the console")
	errTooMany   = akigw.Error("too many wrong credentials came from your address; wait a minute")
	errHost      = akigw.Error("the Host header is neither localhost nor an IP address; this keeps web pages from reading the listener through your browser")
)

// guard puts the authenticator in front of a route. Requests that change something are audited, as
// are rejected requests.
func (a *authenticator) guard(r route) http.Handler {
	if r.open {
		return r.handle
	}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		who, err := a.try(req, presents(req), func() (string, error) {
			if r.token != "" && bearer(req, r.token) {
				return "events_token", nil
			}
			return a.authenticate(req, r.private)
		})
		seen := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		if req.Method != http.MethodGet {
			defer func() { a.changed(req, who, seen.status, err != nil) }()
		}
		switch {
		case errors.Is(err, errTooMany):
			tooMany(seen)
		case errors.Is(err, errNoKeys):
			if req.Header.Get(consoleHeader) == "" { // the console shows its own login form
				seen.Header().Set("WWW-Authenticate", `Basic realm="akigw admin"`)
			}
			http.Error(seen, err.Error(), http.StatusUnauthorized)
		case err != nil:
			a.warn("refused an admin request", "path", shortened(req.URL.Path, maxRejectedField), "remote", req.RemoteAddr, "error", err)
			http.Error(seen, err.Error(), http.StatusForbidden)
		default:
			r.handle(seen, req)
		}
	})
}

// try authenticates a request. It checks no credentials if too many from the same address were
// wrong, and delays the response to wrong ones. Requests without credentials are checked at once.
func (a *authenticator) try(r *http.Request, presented bool, check func() (string, error)) (who string, err error) {
	if !presented {
		return check()
	}
	from := origin(r.RemoteAddr)
	if a.attempts.blocked(from, time.Now()) > 0 {
		a.throttled.Inc()
		return "", errTooMany
	}
	who, err = check()
	if errors.Is(err, errWrongKeys) {
		a.attempts.failed(from, time.Now())
		pause(r.Context())
	}
	return who, err
}

// tooMany sends the response for errTooMany.
func tooMany(w http.ResponseWriter) {
	w.Header().Set("Retry-After", strconv.Itoa(int(wrongWindow.Seconds())))
	http.Error(w, errTooMany.Error(), http.StatusTooManyRequests)
}

// warn logs a refusal. If there are too many, it only counts the refusal, and a later line gives the
// count.
func (a *authenticator) warn(text string, args ...any) {
	if !a.refused.allow(time.Now()) {
		return
	}
	if n := a.refused.take(); n > 0 {
		args = append(args, "left_out_before", n)
	}
	a.log.Warn(text, args...)
}

// changed records a change, or a rejected attempt, in the log and the audit log.
func (a *authenticator) changed(r *http.Request, who string, status int, rejected bool) {
	one := Audited{Time: time.Now().UTC(), AccessKey: who, Remote: r.RemoteAddr, Method: r.Method, Path: r.URL.Path, Query: r.URL.RawQuery, Status: status}
	var err error
	switch {
	case rejected && a.audit != nil:
		err = a.audit.noteRejected(one)
	case !rejected:
		a.log.Info("admin request", "method", r.Method, "path", shortened(r.URL.Path, maxAuditField), "access_key", who, "remote", r.RemoteAddr, "status", status)
		if a.audit != nil {
			err = a.audit.note(one)
		}
	}
	if err != nil {
		a.log.Error("the audit log could not be written", "error", err)
	}
}

// statusWriter records the status of a response.
type statusWriter struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements http.ResponseWriter.
func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap returns the underlying writer for http.ResponseController.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// authenticate returns the access key of a request, "" for none. Without a key, a request may only
// read routes that are not private.
func (a *authenticator) authenticate(r *http.Request, private bool) (accessKey string, err error) {
	if user, password, ok := r.BasicAuth(); ok {
		return user, a.basic(r, user, password)
	}
	id, payload, err := a.verifier.Verify(r, r.URL.Path, r.URL.Query())
	switch {
	case err != nil:
		return "", errWrongKeys
	case !id.Anonymous():
		r.Body = io.NopCloser(payload) // it is verified against the signature while it is read
		return id.AccessKey(), nil
	}
	if who := a.sessions.of(r, time.Now()); who != "" {
		if _, known := a.keys.Lookup(who); known {
			if r.Method != http.MethodGet && r.Header.Get(consoleHeader) == "" {
				return "", errConsole
			}
			return who, nil
		}
	}
	switch {
	case r.Method != http.MethodGet || private || a.keysOnly:
		return "", errNoKeys
	case a.loopback && !localName(r.Host):
		return "", errHost
	}
	return "", nil
}

// bearer reports whether a request has the given bearer token. MinIO's webhook target sends its
// auth_token this way.
func bearer(r *http.Request, token string) bool {
	brought, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	return ok && subtle.ConstantTimeCompare([]byte(brought), []byte(token)) == 1
}

// basic checks HTTP basic authentication. The password is sent in the clear, so it is accepted over
// loopback only, unless admin_allow_plaintext is set.
func (a *authenticator) basic(r *http.Request, user, password string) error {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if !a.plaintext && r.TLS == nil && (err != nil || !from.Addr().Unmap().IsLoopback()) {
		return errWrongKeys
	}
	key, known := a.keys.Lookup(user)
	if !known {
		key.Secret = "no such key; compared anyway so that the time does not reveal it"
	}
	// Compare digests: ConstantTimeCompare returns early if the lengths differ.
	want, got := sha256.Sum256([]byte(key.Secret)), sha256.Sum256([]byte(password))
	right := subtle.ConstantTimeCompare(want[:], got[:]) == 1
	if !right || !known || key.Token != "" || !key.Expires.IsZero() && !time.Now().Before(key.Expires) {
		return errWrongKeys
	}
	return nil
}

// localName reports whether a Host header is localhost or an IP address. A foreign name that
// resolves to loopback would be DNS rebinding.
func localName(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.Trim(host, "[]")
	_, err := netip.ParseAddr(host)
	return err == nil || strings.EqualFold(host, "localhost")
}
