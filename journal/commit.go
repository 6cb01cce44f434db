package journal

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/akidb/akigw"
)

// committer makes records durable and applies them; many records share one sync. A single goroutine
// writes: it takes all waiting records at once, syncs once, and wakes their writers.
type committer struct {
	health    *health
	log       *wal
	table     *table
	maxDates  int
	displaced func() error // returns ErrMoved if the journal's files were moved or replaced
	joined    func() bool  // the side files are up to date for this epoch
	discard   func(spools []uint64)
	after     func() // called after each batch
	retry     func() // called once a second

	mu      sync.Mutex
	wake    sync.Cond       // on mu
	queue   []*writing      // guarded by mu
	urgent  bool            // somebody waits for the queue; guarded by mu
	urging  int             // callers that wait for entries to leave the journal; guarded by mu
	closing bool            // guarded by mu
	due     bool            // a check is due; guarded by mu
	changed func(akigw.Key) // guarded by mu

	timer *time.Timer // of the next check
	late  *time.Timer // when patient records are written at the latest; runs while the queue has any
	done  sync.WaitGroup
}

// writing is a group of records that wait for the same sync.
type writing struct {
	ops     []*op
	rewrite *rewrite // produces ops just before they are written; nil for none
	// then is called with the result by the goroutine that writes. It must not wait for the journal.
	then func(error)
	// patient records wait for a sync that somebody else asks for, maxPatience at most.
	patient bool
}

const (
	// maxPatience is how long a patient record waits for the sync of another one.
	maxPatience = 100 * time.Millisecond
	// maxPatient is how many writings the queue holds before patient ones are written at once.
	maxPatient = 1000
)

// start starts the goroutine that writes.
func (c *committer) start() {
	c.wake.L = &c.mu
	c.timer = time.AfterFunc(lookEvery, c.poke)
	c.late = time.AfterFunc(maxPatience, c.urge)
	c.late.Stop()
	c.done.Go(c.run)
}

// stop writes what is queued, accepts nothing more, and returns when the goroutine has ended.
func (c *committer) stop() {
	c.mu.Lock()
	c.closing = true
	c.wake.Broadcast()
	c.mu.Unlock()
	c.timer.Stop()
	c.late.Stop()
	c.done.Wait()
}

// notify sets the subscriber, which is called for each key that gained or lost an entry.
func (c *committer) notify(changed func(akigw.Key)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changed = changed
}

// commit queues records and waits for the sync that makes them durable.
func (c *committer) commit(ctx context.Context, ops ...*op) error {
	if len(ops) == 0 {
		return nil
	}
	done := make(chan error, 1)
	if err := c.enqueue(&writing{ops: ops, then: func(err error) { done <- err }}); err != nil {
		for _, o := range ops {
			c.discard(o.own())
		}
		return err
	}
	timeout := time.NewTimer(2 * c.health.syncTimeout)
	defer timeout.Stop()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-timeout.C:
		return errStuck
	}
}

// enqueue adds records to the queue, or returns why they are not accepted.
func (c *committer) enqueue(w *writing) error {
	takes := c.health.accepting
	if w.releases() {
		takes = c.health.releasing
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := takes(); err != nil {
		return err
	}
	if c.closing {
		return errClosed
	}
	c.table.announce(w.ops)
	c.queue = append(c.queue, w)
	switch {
	case !w.patient, c.urging > 0, len(c.queue) >= maxPatient:
		c.urgeLocked()
	case len(c.queue) == 1:
		c.late.Reset(maxPatience)
	}
	return nil
}

// urge has everything in the queue written now.
func (c *committer) urge() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.urgeLocked()
}

func (c *committer) urgeLocked() {
	c.urgent = len(c.queue) > 0
	c.wake.Signal()
}

// hasten has patient records written at once until calm is called, because somebody waits for
// entries to leave the journal.
func (c *committer) hasten() (calm func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.urging++
	c.urgeLocked()
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.urging--
	}
}

// releases reports whether a record releases something that the journal holds, or repeats an
// earlier record. Only such records may be written to the reserve; every other record acknowledges
// something new.
func (o *op) releases() bool {
	return o.entry != 0 || o.kind == kindPack || o.kind == kindRecordsDone
}

func (w *writing) releases() bool {
	return !slices.ContainsFunc(w.ops, func(o *op) bool { return !o.releases() })
}

// alone reports whether records must be written by themselves, because their content depends on
// what was written before.
func (w *writing) alone() bool {
	return w.rewrite != nil || len(w.ops) == 1 && (w.ops[0].kind == kindComplete && w.ops[0].entry == 0 || w.ops[0].kind == kindAbort)
}

// maxBatch is the approximate limit of one write in bytes.
const maxBatch = 8 << 20

// run writes batch after batch until the committer is stopped.
func (c *committer) run() {
	for {
		batch, open := c.take()
		if len(batch) > 0 {
			c.write(batch)
		}
		if !open {
			return
		}
		c.lookIfDue()
		if len(batch) > 0 {
			if c.empty() {
				c.log.mark()
			}
			c.after()
		}
	}
}

// take waits for records and takes all of them.
func (c *committer) take() (batch []*writing, open bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.urgent && !c.closing && !c.due {
		c.wake.Wait()
	}
	size := 0
	for len(batch) < len(c.queue) && size < maxBatch {
		w := c.queue[len(batch)]
		if w.alone() && len(batch) > 0 {
			break
		}
		batch = append(batch, w)
		if w.alone() {
			break
		}
		for _, o := range w.ops {
			size += len(o.data) + 512
		}
	}
	c.queue = slices.Delete(c.queue, 0, len(batch))
	c.urgent = len(c.queue) > 0
	return batch, len(c.queue) > 0 || !c.closing
}

func (c *committer) empty() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.queue) == 0
}

// write makes a batch durable, applies it and wakes its writers.
func (c *committer) write(batch []*writing) {
	if batch = c.admit(c.check(batch)); len(batch) == 0 {
		return
	}
	ops := opsOf(batch)
	c.makeRoom(ops)
	places, err := c.log.append(ops)
	if errors.Is(err, ErrFull) {
		inDoubt := c.log.begin() != nil
		if batch = c.refuse(batch, err, inDoubt, inDoubt); len(batch) > 0 {
			places, err = c.log.append(opsOf(batch))
		}
	}
	c.finish(batch, outcome{places, err, err != nil})
}

func opsOf(batch []*writing) (ops []*op) {
	for _, w := range batch {
		ops = append(ops, w.ops...)
	}
	return ops
}

// check removes from a batch the records that no longer fit the state: those of uploads that have
// ended. The records of an open upload always come before the one that ends it. The content of a
// rewrite is determined here, because nothing changes between here and the write.
func (c *committer) check(batch []*writing) (good []*writing) {
	for _, w := range batch {
		if w.rewrite != nil {
			if w.ops = c.table.rewritten(w.rewrite); len(w.ops) == 0 {
				w.then(nil)
				continue
			}
		}
		released, err := c.table.check(w.ops[0]) // several at once never belong to an upload
		if err != nil {
			c.discard(released)
			w.then(err)
			continue
		}
		good = append(good, w)
	}
	return good
}

// makeRoom drops date pairs until those that are about to be written fit the bound, so that their
// records can say which pairs were dropped.
func (c *committer) makeRoom(ops []*op) {
	dated := slices.DeleteFunc(slices.Clone(ops), func(o *op) bool { return o.dated == nil })
	if len(dated) > 0 {
		c.table.update(func(s *state) { s.makeRoom(dated, c.maxDates) })
	}
}

// admit refuses records that are not accepted while the disk is full, and returns the rest.
func (c *committer) admit(batch []*writing) []*writing {
	full, shut := c.health.room()
	if full == nil || len(batch) == 0 {
		return batch
	}
	return c.refuse(batch, full, shut, false)
}

// refuse fails the writes that wait for an acknowledgement, or all of them, because the disk is
// full, and returns the rest. inDoubt means that some of their records may be on disk and may
// count.
func (c *committer) refuse(batch []*writing, err error, all, inDoubt bool) (rest []*writing) {
	var refused []*writing
	for _, w := range batch {
		if all || !w.releases() {
			refused = append(refused, w)
		} else {
			rest = append(rest, w)
		}
	}
	c.finish(refused, outcome{nil, err, inDoubt})
	return rest
}

// finish applies the records of a batch unless they were not written. It wakes all writers before
// it calls the subscriber for any key.
func (c *committer) finish(batch []*writing, out outcome) {
	if len(batch) == 0 {
		return
	}
	ops := opsOf(batch)
	c.discard(c.table.finish(ops, out))
	for _, w := range batch {
		w.then(out.err)
	}
	if out.err != nil {
		return
	}
	var keys []akigw.Key
	for _, o := range ops {
		if o.kind.changes() {
			keys = append(keys, o.key)
		}
	}
	c.tell(keys...)
}

// tell calls the subscriber for keys that gained or lost an entry.
func (c *committer) tell(keys ...akigw.Key) {
	c.mu.Lock()
	changed := c.changed
	c.mu.Unlock()
	if changed == nil {
		return
	}
	for _, key := range keys {
		changed(key)
	}
}

// poke requests a check.
func (c *committer) poke() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.due = true
	c.wake.Signal()
}

// lookIfDue runs the check if it is due.
func (c *committer) lookIfDue() {
	c.mu.Lock()
	due, closing := c.due, c.closing
	c.due = false
	c.mu.Unlock()
	if !due || closing {
		return
	}
	c.look()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closing {
		c.timer.Reset(lookEvery)
	}
}

// look checks whether the journal's files are still in place and, while the disk is full, whether
// there is space again.
func (c *committer) look() {
	if c.health.failure() != nil {
		return
	}
	if err := c.displaced(); err != nil {
		_ = c.health.fail(err)
		return
	}
	if full, _ := c.health.room(); full != nil {
		c.regain()
	}
	c.retry()
}

// regain resumes acknowledgements if there is space again.
func (c *committer) regain() {
	_, shut := c.health.room()
	kept := c.log.reserve.keep() && c.joined() && c.log.renew()
	if !kept && shut { // otherwise the first record that needs the next piece of the reserve begins it
		_ = c.log.begin() // a little space is enough to release something
	}
	if kept {
		c.health.regain()
	}
	if _, still := c.health.room(); shut && !still && c.health.failure() == nil {
		c.tell(c.table.pendingKeys()...)
	}
}

// pendingKeys returns the keys with pending entries, the key with the oldest entry first.
func (t *table) pendingKeys() (all []akigw.Key) {
	t.read(func(s *state) {
		all = make([]akigw.Key, 0, s.lists.pending.Len())
		s.lists.pending.Scan(func(_ uint64, it *item) bool {
			all = append(all, it.entry.Key)
			return true
		})
	})
	return all
}
