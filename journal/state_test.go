package journal

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/codec"
)

// logged is a record in a stateMachine's log.
type logged struct {
	place   place
	payload []byte
}

// version is what the model knows of one entry.
type version struct {
	id              uint64
	body            string
	deleted, leased bool
	dead, packed    bool
}

// stateMachine applies random records to a state, to a log that a recovery reads, and to a model
// that is as simple as possible. Nothing in it does I/O, takes a lock or reads a clock.
type stateMachine struct {
	state   *state
	log     []logged
	number  uint64
	segment uint64               // being written
	oldest  uint64               // the oldest one that exists
	model   map[string][]version // by key, oldest first
	records []uint64             // of streams, oldest first
	spools  map[uint64]bool      // already released
	next    uint64               // spool file
	remote  int
}

var stateKeys = []string{"a", "b", "c", "d"}

func newStateMachine() *stateMachine {
	return &stateMachine{state: newState(), segment: 1, oldest: 1, model: map[string][]version{}, spools: map[uint64]bool{}}
}

// write does what the committer does: it appends the record to the log, then applies it.
func (m *stateMachine) write(t *rapid.T, o *op) {
	m.number++
	payload := o.encode(nil)
	p := place{number: m.number, segment: m.segment, size: frameHead + int64(len(payload)), sum: codec.Checksum(o.data)}
	m.log = append(m.log, logged{p, payload})
	m.state.apply(o, p)
	m.collect(t)
}

// collect takes what a change left to do, and checks that no spool file is released twice or too
// early.
func (m *stateMachine) collect(t *rapid.T) {
	for _, n := range m.state.released {
		if m.spools[n] {
			t.Fatalf("spool file %d is released twice", n)
		}
		m.spools[n] = true
	}
	m.state.released, m.state.ended = nil, nil
	for _, it := range m.state.items {
		for _, n := range it.spools {
			if m.spools[n] {
				t.Fatalf("spool file %d of %d is released", n, it.entry.ID)
			}
		}
	}
}

func (m *stateMachine) key(t *rapid.T) string { return rapid.SampledFrom(stateKeys).Draw(t, "key") }

func (m *stateMachine) newest(k string) *version {
	if l := m.model[k]; len(l) > 0 {
		return &l[len(l)-1]
	}
	return nil
}

// add applies a new entry to the model.
func (m *stateMachine) add(k string, v version) {
	l := slices.DeleteFunc(m.model[k], func(v version) bool { return !v.leased })
	m.model[k] = append(l, v)
}

func (m *stateMachine) Put(t *rapid.T) {
	k, body := m.key(t), rapid.StringN(0, 9, 9).Draw(t, "body")
	o := &op{kind: kindPut, key: key(k), put: &Entry{Key: key(k), Size: int64(len(body)), ETag: body}, data: []byte(body)}
	if rapid.Bool().Draw(t, "spooled") {
		m.next++
		o.data, o.spool = nil, m.next
	}
	m.write(t, o)
	m.add(k, version{id: m.number, body: body})
}

func (m *stateMachine) Delete(t *rapid.T) {
	k := m.key(t)
	m.write(t, &op{kind: kindDelete, key: key(k), put: &Entry{Key: key(k), Deleted: true}})
	m.add(k, version{id: m.number, deleted: true})
}

func (m *stateMachine) Take(t *rapid.T) {
	k := m.key(t)
	v := m.newest(k)
	taken := m.state.take(key(k))
	can := v != nil && !v.dead && !slices.ContainsFunc(m.model[k], func(v version) bool { return v.leased })
	if can != (taken != nil) || can && taken.ID != v.id {
		t.Fatalf("took %+v of %+v", taken, m.model[k])
	}
	if can {
		v.leased = true
	}
}

func (m *stateMachine) GiveBack(t *rapid.T) { m.giveBack(t, m.key(t)) }

func (m *stateMachine) giveBack(t *rapid.T, k string) {
	i := slices.IndexFunc(m.model[k], func(v version) bool { return v.leased })
	if i < 0 {
		return
	}
	m.state.giveBack(m.state.items[m.model[k][i].id].entry, true)
	m.collect(t)
	if m.model[k][i].leased = false; i < len(m.model[k])-1 {
		m.model[k] = slices.Delete(m.model[k], i, i+1)
	}
}

func (m *stateMachine) Done(t *rapid.T) {
	k := m.key(t)
	if len(m.model[k]) == 0 {
		return
	}
	i := rapid.IntRange(0, len(m.model[k])-1).Draw(t, "which")
	e := m.state.items[m.model[k][i].id].entry
	s := rapid.SampledFrom([]Stored{{}, {ETag: "other"}, {Modified: time.Unix(7, 0)}}).Draw(t, "stored")
	m.write(t, s.record(e, true))
	m.model[k] = slices.Clone(m.model[k][i+1:])
}

func (m *stateMachine) Bury(t *rapid.T) {
	k := m.key(t)
	v := m.newest(k)
	if v == nil {
		return
	}
	o := &op{kind: kindAlive, entry: v.id, key: key(k)}
	if v.dead = rapid.Bool().Draw(t, "dead"); v.dead {
		o = &op{kind: kindDead, entry: v.id, key: key(k), text: "why", when: time.Unix(1, 0)}
	}
	m.write(t, o)
}

func (m *stateMachine) Remote(t *rapid.T) {
	if v := m.newest(m.key(t)); v != nil {
		m.remote++
		it := m.state.items[v.id]
		m.write(t, &op{kind: kindUpload, entry: v.id, key: it.entry.Key, text: rapid.SampledFrom([]string{"", fmt.Sprint("up", m.remote)}).Draw(t, "id")})
	}
}

func (m *stateMachine) Aborted(t *rapid.T) {
	for n, o := range m.state.orphans {
		m.write(t, &op{kind: kindUpload, entry: n, key: o.Key})
		return
	}
}

func (m *stateMachine) Upload(t *rapid.T) {
	k, id := m.key(t), fmt.Sprint("upload", m.number)
	m.write(t, &op{kind: kindBegin, key: key(k), put: &Entry{Key: key(k), UploadID: id}})
	number := m.number
	for n := range rapid.IntRange(0, 3).Draw(t, "parts") {
		m.next++
		m.write(t, &op{kind: kindPart, key: key(k), put: &Entry{Key: key(k), Size: 3, ETag: fmt.Sprint(n)}, upload: number, part: n%2 + 1, spool: m.next})
	}
	switch rapid.IntRange(0, 2).Draw(t, "end") {
	case 0:
		m.write(t, &op{kind: kindAbort, entry: number, key: key(k)})
	case 1:
		var parts []Part
		for n, it := range m.state.uploads.open[number].parts {
			parts = append(parts, Part{Number: n, ETag: it.entry.ETag})
		}
		slices.SortFunc(parts, func(a, b Part) int { return a.Number - b.Number })
		parts = parts[:rapid.IntRange(0, len(parts)).Draw(t, "named")]
		o := &op{kind: kindComplete, key: key(k), put: &Entry{Key: key(k), UploadID: id, Parts: parts, ETag: "whole"}, upload: number}
		if err := m.state.fits(o); err != nil {
			t.Fatal(err)
		}
		m.write(t, o)
		m.add(k, version{id: m.number, body: "whole"})
	}
}

func (m *stateMachine) Pack(t *rapid.T) {
	pack := akigw.Key{Bucket: "bucket", Name: fmt.Sprint("pack", m.number)}
	m.write(t, &op{kind: kindPack, key: pack, put: &Entry{Key: pack}, busy: true})
	number := m.number
	for _, k := range stateKeys {
		v := m.newest(k)
		// As in the product, dead letters, entries being uploaded in parts and packed entries do
		// not go into packs. A pack's record does not hold what is known of them.
		if v == nil || v.deleted || v.dead || v.packed || v.body == "whole" || m.state.items[v.id].remote != "" || !rapid.Bool().Draw(t, "packed") {
			continue
		}
		small := *m.state.items[v.id].entry
		m.write(t, &op{kind: kindPacked, entry: v.id, put: &small, key: key(k), pack: number, offset: 5, text: pack.Name})
		v.packed = true
	}
	m.state.packs.setBusy(number, false)
}

func (m *stateMachine) Append(t *rapid.T) {
	k := akigw.Key{Name: m.key(t)}
	o := &op{kind: kindRecord, key: k, put: &Entry{Key: k, Size: 3, ETag: "abc"}, data: []byte("abc")} // the ETag is for Compact
	if rapid.Bool().Draw(t, "spooled") {
		m.next++
		o.data, o.spool = nil, m.next
	}
	m.write(t, o)
	m.records = append(m.records, m.number)
}

func (m *stateMachine) RecordsDone(t *rapid.T) {
	o := &op{kind: kindRecordsDone}
	m.records = slices.DeleteFunc(m.records, func(n uint64) bool {
		if !rapid.Bool().Draw(t, "done") {
			return false
		}
		o.done = append(o.done, n)
		return true
	})
	if rapid.Bool().Draw(t, "twice") {
		m.write(t, o)
	}
	o.done = append(o.done, m.number+1000) // not one that exists
	m.write(t, o)
}

func (m *stateMachine) Unpack(t *rapid.T) {
	for n, k := range m.state.packs.empty {
		m.write(t, &op{kind: kindUnpacked, entry: n, key: k.key})
		return
	}
}

// Rotate begins a segment.
func (m *stateMachine) Rotate(*rapid.T) { m.segment++ }

// Compact rewrites the oldest segment and removes it once nothing in it is live.
func (m *stateMachine) Compact(t *rapid.T) {
	if m.oldest == m.segment {
		return
	}
	table := &table{state: m.state, queued: map[akigw.Key]int{}}
	r := &rewrite{segment: m.oldest, bodies: map[uint64][]byte{}}
	for _, it := range table.inlineOf(r) {
		r.bodies[it.entry.ID] = []byte(it.entry.ETag)
	}
	for _, o := range table.rewritten(r) {
		m.write(t, o)
	}
	if n := m.state.left(m.oldest); n > 0 {
		t.Fatalf("%d live things do not leave segment %d", n, m.oldest)
	}
	m.log = slices.DeleteFunc(m.log, func(l logged) bool { return l.place.segment == m.oldest })
	m.oldest++
}

// Restart continues with the state that a recovery makes from the log.
func (m *stateMachine) Restart(t *rapid.T) {
	for _, k := range stateKeys {
		m.giveBack(t, k)
	}
	again := newState()
	for _, l := range m.log {
		o, err := decode(l.payload)
		if err != nil {
			t.Fatal(err)
		}
		o.data = nil
		again.apply(o, l.place)
	}
	again.dropUnnamed()
	for n := range again.packs.empty { // an empty pack may come back if an entry was rewritten while it was leased and replaced: it is deleted a second time
		if m.state.packs.all[n] == nil {
			again.applyUnpacked(&op{entry: n})
		}
	}
	live, recovered := digest(m.state), digest(again)
	without := func(all, others []string) []string {
		return slices.DeleteFunc(slices.Clone(all), func(one string) bool { return slices.Contains(others, one) })
	}
	if !slices.Equal(live, recovered) {
		t.Fatalf("only live:\n%s\nonly recovered:\n%s", strings.Join(without(live, recovered), "\n"), strings.Join(without(recovered, live), "\n"))
	}
	again.released, again.ended = nil, nil
	m.state = again
}

// digest is everything that a state says about live entries.
func digest(s *state) []string {
	var all []string
	for n, it := range s.items {
		all = append(all, fmt.Sprintf("%d: %s %s deleted %t, %d bytes, parts %d, spools %v, pack %d at %d of %v, %q dead %q up %q, segment %d", n, it.entry.Key, it.entry.ETag, it.entry.Deleted, it.entry.Size, len(it.entry.Parts), it.spools, it.pack, it.offset, it.packKey, it.etag, it.reason, it.remote, it.segment))
	}
	for n, o := range s.orphans {
		all = append(all, fmt.Sprintf("orphan %d %+v", n, o.Orphan))
	}
	for n, k := range s.packs.all {
		all = append(all, fmt.Sprintf("pack %d %s with %d", n, k.key, k.refs))
	}
	s.dates.orders.Scan(func(n uint64, d *dated) bool {
		all = append(all, fmt.Sprintf("dates %d of %s in %d", n, d.key, d.segment))
		return true
	})
	slices.Sort(all)
	return append(all, fmt.Sprint(s.streams.held()), fmt.Sprint(s.live, s.lists.pending.Len(), s.lists.dead.Len(), s.packs.entries, s.bytes, s.records))
}

// Check compares the state with the model, and its sums with the values that they add up.
func (m *stateMachine) Check(t *rapid.T) {
	s := m.state
	live, dead, pending := 0, 0, 0
	for _, k := range stateKeys {
		items := s.entries.get(key(k))
		if len(items) != len(m.model[k]) {
			t.Fatalf("%s has %d entries, not %+v", k, len(items), m.model[k])
		}
		for i, v := range m.model[k] {
			it := items[i]
			if s.items[v.id] != it || it.entry.ID != v.id || it.entry.ETag != v.body || it.entry.Deleted != v.deleted || it.leased != v.leased || (it.reason != "") != v.dead || (it.pack != 0) != v.packed {
				t.Fatalf("%s has %+v, not %+v", k, it, v)
			}
			live++
			switch {
			case v.dead:
				dead++
			case !v.packed:
				pending++
			}
		}
	}
	if s.live != live || s.lists.dead.Len() != dead || s.lists.pending.Len() != pending {
		t.Fatalf("%d entries, %d dead, %d pending, not %d, %d, %d", s.live, s.lists.dead.Len(), s.lists.pending.Len(), live, dead, pending)
	}
	var records []uint64
	s.streams.live.Scan(func(n uint64, it *item) bool {
		records = append(records, n)
		return s.items[n] == it && it.kind == kindRecord
	})
	if !slices.Equal(records, m.records) || s.streams.bytes != int64(3*len(records)) {
		t.Fatalf("records %d of streams, not %d; %d bytes", records, m.records, s.streams.bytes)
	}
	m.checkSums(t)
}

func (m *stateMachine) checkSums(t *rapid.T) {
	s := m.state
	var bytes, records, deletions int64
	contained := map[uint64]int64{}
	for _, it := range s.items {
		bytes += it.stored()
		records += it.size
		contained[it.segment] += it.size
	}
	s.lists.pending.Scan(func(n uint64, it *item) bool {
		if it.entry.Deleted {
			deletions++
		}
		return s.items[n] == it
	})
	for _, l := range s.lists.deletions {
		deletions -= int64(l.Len())
	}
	for n, c := range s.segments {
		if c.bytes != contained[n] || len(c.items)+len(c.orphans)+len(c.dates) > 0 && n < m.oldest {
			t.Fatalf("segment %d of %d and on: %+v, not %d bytes", n, m.oldest, c, contained[n])
		}
		records += c.datedBytes
	}
	if s.bytes != bytes || s.records != records || deletions != 0 {
		t.Fatalf("%d bytes, %d of records, not %d and %d; %d deletions are not listed", s.bytes, s.records, bytes, records, deletions)
	}
	for n := range maps.Keys(s.orphans) {
		if s.items[n] != nil {
			t.Fatalf("%d is an orphan and live", n)
		}
	}
}

// TestStateMachineOfTheState: whatever records are applied, the state matches the model. A recovery
// from the log, whose old segments compaction may have removed, arrives at the same state.
func TestStateMachineOfTheState(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newStateMachine()
		t.Repeat(rapid.StateMachineActions(m))
		m.Restart(t)
	})
}
