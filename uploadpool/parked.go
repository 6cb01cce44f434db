package uploadpool

import (
	"slices"
	"time"
)

// parked are the keys of a bucket that is not admitted: they wait together, so that however many
// there are they cost nothing until they may go on.
type parked struct {
	turns []*turn
	due   time.Time // when Admit is asked again
}

// admit is Admit, which may be nil.
func (p *Pool) admit(bucket string) time.Duration {
	if p.Admit == nil {
		return 0
	}
	return p.Admit(bucket)
}

// park has a key wait if its bucket is not admitted. It needs mu.
func (p *Pool) park(t *turn, now time.Time) bool {
	w := p.parked[t.key.Bucket]
	if w == nil {
		wait := p.admit(t.key.Bucket)
		if wait <= 0 {
			return false
		}
		w = &parked{due: now.Add(wait)}
		p.parked[t.key.Bucket] = w
	}
	w.turns = append(w.turns, t)
	return true
}

// unpark queues the keys of buckets that are admitted by now. It needs mu.
func (p *Pool) unpark(now time.Time) {
	for bucket, w := range p.parked {
		if w.due.After(now) {
			continue
		}
		w.turns = slices.DeleteFunc(w.turns, func(t *turn) bool { return t.gone })
		if wait := p.admit(bucket); wait > 0 && len(w.turns) > 0 {
			w.due = now.Add(wait)
			continue
		}
		delete(p.parked, bucket)
		for _, t := range w.turns {
			p.line(t)
		}
	}
}
