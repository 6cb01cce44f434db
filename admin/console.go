package admin

import (
	"embed"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"time"
)

// console is the web console: static files without secrets.
//
//go:embed console
var console embed.FS

// Login is the body of POST /api/v1/login: an admin key pair.
type Login struct {
	AccessKey string `json:"access_key"`
	SecretKey string `json:"secret_key"`
}

// maxLogin is the largest body of a login in bytes.
const maxLogin = 4 << 10

// login begins a session of the console.
func (s *Server) login(w http.ResponseWriter, r *http.Request) {
	var l Login
	if r.Header.Get(consoleHeader) == "" {
		http.Error(w, "only the console may log in; programs sign their requests or use HTTP basic authentication", http.StatusForbidden)
		return
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxLogin)).Decode(&l); err != nil {
		http.Error(w, "the body must be JSON with access_key and secret_key", http.StatusBadRequest)
		return
	}
	_, err := s.try(r, true, func() (string, error) { return l.AccessKey, s.basic(r, l.AccessKey, l.SecretKey) })
	if errors.Is(err, errTooMany) {
		tooMany(w)
		return
	}
	if err != nil {
		s.warn("refused a login", "remote", r.RemoteAddr, "error", err)
		http.Error(w, "Unknown admin key or wrong secret. S3 keys are not admin keys.", http.StatusForbidden)
		return
	}
	s.log.Info("logged in at the console", "access_key", l.AccessKey, "remote", r.RemoteAddr)
	http.SetCookie(w, &http.Cookie{Name: cookieName, Value: s.sessions.begin(l.AccessKey, time.Now()), Path: "/", MaxAge: int(sessionTime.Seconds()), HttpOnly: true, Secure: r.TLS != nil, SameSite: http.SameSiteStrictMode})
	answer(w, nil)
}

// logout ends the session.
func (s *Server) logout(w http.ResponseWriter, r *http.Request) {
	s.sessions.end(r)
	http.SetCookie(w, &http.Cookie{Name: cookieName, Path: "/", MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteStrictMode})
	answer(w, nil)
}

// Session is the response to GET /api/v1/session.
type Session struct {
	AccessKey string `json:"access_key,omitempty"` // "" if nobody is logged in
	Version   string `json:"version,omitempty"`
	Faults    bool   `json:"faults"`  // whether faults are enabled
	Vectors   bool   `json:"vectors"` // whether vector collections are configured
}

// sessionNow returns who is logged in.
func (s *Server) sessionNow(w http.ResponseWriter, r *http.Request) {
	who := s.sessions.of(r, time.Now())
	if _, known := s.keys.Lookup(who); who == "" || !known {
		writeJSON(w, Session{})
		return
	}
	writeJSON(w, Session{who, s.Version, s.Faults != nil, s.Vectors != nil})
}

// page serves a file of the console.
func page(name, contentType string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		raw, err := fs.ReadFile(console, "console/"+name)
		if err != nil {
			http.Error(w, "no such page", http.StatusNotFound)
			return
		}
		h := w.Header()
		h.Set("Content-Type", contentType)
		h.Set("Cache-Control", "no-cache")
		h.Set("Content-Security-Policy", "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		_, _ = w.Write(raw) // fails only if the client has disconnected
	}
}
