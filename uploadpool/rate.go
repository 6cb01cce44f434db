package uploadpool

import (
	"sync"
	"time"
)

// rateWindow is the number of seconds over which rates are averaged.
const rateWindow = 60

// meter counts events by the second. The zero value is ready.
type meter struct {
	mu      sync.Mutex
	seconds [rateWindow]struct{ second, count, bytes int64 } // by the second; guarded by mu
}

// add counts one event and its bytes.
func (m *meter) add(bytes int64) {
	now := time.Now().Unix()
	m.mu.Lock()
	defer m.mu.Unlock()
	s := &m.seconds[now%rateWindow]
	if s.second != now {
		s.second, s.count, s.bytes = now, 0, 0
	}
	s.count++
	s.bytes += bytes
}

// rates are the events and bytes per second in the last minute.
func (m *meter) rates() (count, bytes float64) {
	oldest := time.Now().Unix() - rateWindow
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.seconds {
		if s.second > oldest {
			count += float64(s.count)
			bytes += float64(s.bytes)
		}
	}
	return count / rateWindow, bytes / rateWindow
}
