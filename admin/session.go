package admin

import (
	"crypto/rand"
	"net/http"
	"sync"
	"time"
)

const (
	// cookieName is the cookie of a session; sessionTime is how long one lasts, and
	// mostSessions how many there may be.
	cookieName   = "akigw_session"
	sessionTime  = 12 * time.Hour
	mostSessions = 1000
	// consoleHeader is on each request of the console that changes something. Another page
	// cannot send it without asking first (CORS), and is not answered then.
	consoleHeader = "X-Akigw-Console"
)

// sessions are who is logged in at the console, in memory: a restart logs everybody out.
type sessions struct {
	mu  sync.Mutex
	all map[string]session // by token; guarded by mu
}

type session struct {
	accessKey string
	ends      time.Time
}

// begin makes a session and returns its token.
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

// of is whose session a request belongs to, "" for nobody's.
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
