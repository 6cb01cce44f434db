package shadow

import (
	"net/http"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/cost"
	"github.com/akidb/akigw/rules"
)

// List is a listing of a bucket that the upstream has answered, and that a rule with list_ttl_secs lets a
// gateway answer from memory.
type List struct {
	Bucket     string
	Query      string // identifies the request
	Settings   *rules.Settings
	Conditions akigw.Conditions
	Status     int
	Sent       int64 // bytes of the response's body
	At         time.Time
}

// listID identifies a listing.
type listID struct {
	bucket string
	query  uint64
}

// keptListing is a listing that a gateway would have in memory.
type keptListing struct {
	at       time.Time
	revision uint64 // of the bucket
}

// maxLists bounds the memory for listings; beyond it, all are forgotten.
const maxLists = 4096

// List counts a listing. Only mode TTL keeps listings.
func (s *Shadow) List(l List) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.accountLocked(l.Bucket)
	count(&a.clients, cost.Write, 0, l.Sent)
	s.counters.passed(l.Sent)
	hit := s.keptLocked(a, &l)
	for i, mode := range rules.Modes() {
		if hit && mode == rules.TTL {
			continue
		}
		count(&a.modes[i].lists, cost.Write, 0, l.Sent)
	}
	if !hit || l.Settings.Freshness != rules.TTL {
		count(&a.configured.lists, cost.Write, 0, l.Sent)
		s.counters.upstream(1, l.Sent)
	}
}

// keptLocked reports whether a gateway would have the listing in memory, and keeps it from now on.
func (s *Shadow) keptLocked(a *account, l *List) bool {
	if l.Settings.ListTTL == 0 || !l.Settings.Memory || l.Status != http.StatusOK {
		return false
	}
	id := listID{l.Bucket, xxhash.Sum64String(l.Query)}
	known, ok := s.lists[id]
	age := l.At.Sub(known.at)
	if ok && known.revision == a.revision && age < l.Settings.ListTTL && !l.Conditions.NoCache && (l.Conditions.MaxAge == 0 || age < l.Conditions.MaxAge) {
		return true
	}
	if len(s.lists) >= maxLists {
		clear(s.lists)
	}
	s.lists[id] = keptListing{l.At, a.revision}
	return false
}
