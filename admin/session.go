package admin

import (
	"crypto/rand"
	"net/http"
	"sync"
	"time"
)

const (
	// cookieName is the name of the session cookie. sessionTime is how long a session lasts, and
	// mostSessions bounds the number of sessions.
	cookieName   = "akigw_session"
	sessionTime  = 12 * time.Hour
	mostSessions = 1000
	// consoleHeader is sent with each request of the console that changes something. It protects against
	// cross-site request forgery: a page of another origin needs a CORS preflight to send it, which the
	// listener does not grant.
	consoleHeader = "X-Akigw-Console"
)

// sessions holds the sessions of the console in memory, so a restart logs everybody out.
type sessions struct {
	mu  sync.Mutex
	all map[string]session // by token; guarded by mu
}

type session struct {
	accessKey string
	ends      time.Time
}

// begin creates a session and returns its token.
func (s *sessions) begin(accessKey string, now time.Time) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = map[string]session{}
	}
	for token, one := range s.all {
		if now.After(one.ends) || len(s.all) >= mostSessions {
			delete(s.all, token)
		}
	}
	token := rand.Text()
	s.all[token] = session{accessKey, now.Add(sessionTime)}
	return token
}

// of returns the access key of a request's session, "" if it has none.
func (s *sessions) of(r *http.Request, now time.Time) string {
	cookie, err := r.Cookie(cookieName)
	if err != nil {
		return ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	one, ok := s.all[cookie.Value]
	if !ok || now.After(one.ends) {
		return ""
	}
	return one.accessKey
}

// end ends the session of a request.
func (s *sessions) end(r *http.Request) {
	if cookie, err := r.Cookie(cookieName); err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.all, cookie.Value)
	}
}
